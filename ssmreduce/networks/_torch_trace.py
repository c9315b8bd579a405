"""From a PyTorch network to its program: one pass is recorded, and each operation must act on single steps of time."""

from typing import Any

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from .._support.arguments import described
from ..errors import NotCausalError, NotRepresentableError
from ._flat import flatten_states
from ._program import Operation, Program
from ._torch_kernels import system_of_tensors

_LENGTHS = (97, 101, 103, 107, 109, 113, 127)  # of the recorded pass: primes, one of which is no size of the network
_ELEMENTWISE = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu", "silu": "silu"}
_IDENTITY = {"clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh_copy", "dropout", "native_dropout"}
_VIEWS = {"view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand", "transpose", "permute", "t"}


class _Value:
    """A result of the program, and the shape and axis of time (None after pooling) that it has in the network."""

    def __init__(self, index: int, shape: tuple[int, ...], time: int | None) -> None:
        self.index, self.shape, self.time = index, shape, time

    @property
    def rest(self) -> tuple[int, ...]:
        """Shape without the axis of time."""
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.time)


def program_of(module: Any, width: int, dtype: torch.dtype) -> Program:
    """Program of a module of drop-in layers in evaluation mode, called with (1, L, width).

    Raises
    ------
    NotRepresentableError
        An operation that is unknown, or that looks at several steps of time.
    NotCausalError
        A bidirectional layer.
    """
    sizes = {n for tensor in module.state_dict().values() for n in tensor.shape}
    length = next(n for n in _LENGTHS if not any(size % n == 0 for size in sizes | {width}))
    u = torch.linspace(-1.0, 1.0, length * width, dtype=dtype).reshape(1, length, width)
    with torch.no_grad():
        graph = make_fx(module)(u)
    return _Recorder(graph, length, width).program()


class _Recorder:
    """Goes through a recorded graph."""

    def __init__(self, graph: Any, length: int, width: int) -> None:
        self.graph, self.length, self.width = graph, length, width
        self.operations: list[Operation] = []

    def program(self) -> Program:
        """See `program_of`."""
        known: dict[Any, Any] = {}
        for node in self.graph.graph.nodes:
            if node.op == "placeholder":
                known[node] = _Value(0, (1, self.length, self.width), 1)
            elif node.op == "get_attr":
                known[node] = getattr(self.graph, node.target).detach()
            elif node.op == "call_function":
                known[node] = self._result(node, known)
            elif node.op == "output":
                return self._whole(torch.fx.node.map_arg(node.args[0], known.__getitem__))
        raise AssertionError("a graph ends with its output")

    def _whole(self, found: Any) -> Program:
        found = found[0] if isinstance(found, tuple | list) and len(found) == 1 else found
        if not isinstance(found, _Value):
            raise NotRepresentableError(f"the network returns {described(found)}; one tensor is needed")
        if found.index != len(self.operations) or not self.operations:
            self._added("slice", [found], found.rest)
        return Program(self.width, tuple(self.operations), found.time is None)

    def _result(self, node: Any, known: dict[Any, Any]) -> Any:
        """Value, constant or tuple of these of a node."""
        args = torch.fx.node.map_arg(node.args, known.__getitem__)
        kwargs = torch.fx.node.map_arg(node.kwargs, known.__getitem__)
        name = getattr(node.target, "_opname", getattr(node.target, "__name__", str(node.target)))
        if name == "getitem":
            return args[0][args[1]]
        if args and args[0] is None:  # of a state that nobody carries
            return None
        if not any(isinstance(a, _Value) for a in _leaves((args, list(kwargs.values())))):
            return node.target(*args, **kwargs)
        rule = getattr(self, f"_{name.lstrip('_')}", None)
        if name in _ELEMENTWISE:
            return self._added(_ELEMENTWISE[name], args[:1], args[0].rest, like=args[0])
        if name in _IDENTITY:
            return (args[0], None) if name == "native_dropout" else args[0]
        if name in _VIEWS:
            return self._viewed(node, args[0])
        if rule is None:
            raise NotRepresentableError(f"the network uses {node.target}, which has no form for single steps of time")
        return rule(*args, **kwargs)

    def _added(
        self,
        kind: str,
        sources: list[_Value],
        rest: tuple[int, ...],
        *arrays: np.ndarray,
        like: _Value | None = None,
        start: int = 0,
    ) -> _Value:
        """The result of one more operation; it has the time of `like`, before the other axes by default."""
        like = like or sources[0]
        found = Operation(kind, tuple(s.index for s in sources), int(np.prod(rest)), arrays, start)
        self.operations.append(found)
        shape, time = list(rest), like.time
        if time is not None:
            shape.insert(time, self.length)
        return _Value(len(self.operations), tuple(shape), time)

    # ---------------------------------------------------------------- shapes

    def _viewed(self, node: Any, x: _Value) -> _Value:
        """The same numbers in another shape, where time stays a whole axis and the others their order."""
        shape = tuple(int(n) for n in node.meta["val"].shape)
        time = None if x.time is None else next((k for k, n in enumerate(shape) if n == self.length), None)
        result = _Value(x.index, shape, time)
        if (time is None) != (x.time is None) or np.prod(result.rest) != np.prod(x.rest):
            raise NotRepresentableError(f"{node.target} mixes steps of time with channels")
        name = node.target._opname
        if name in ("transpose", "permute", "t"):
            axes = torch.arange(int(np.prod(x.rest))).reshape([1 if k == x.time else n for k, n in enumerate(x.shape)])
            if not torch.equal(node.target(axes, *node.args[1:]).flatten(), axes.flatten()):
                raise NotRepresentableError(f"{node.target} changes the order of channels")
        elif name not in ("unsqueeze", "squeeze", "expand") and x.time is not None:
            assert time is not None
            if np.prod(shape[:time]) != np.prod(x.shape[: x.time]):
                raise NotRepresentableError(f"{node.target} mixes steps of time with channels")
        return result

    def _slice(self, x: _Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Any:
        dim, size = dim % len(x.shape), x.shape[dim]
        start, stop, step = slice(start, end, step).indices(size)
        if (start, stop, step) == (0, size, 1):
            return x
        self._only_axis(x, dim, "a slice")
        if step != 1:
            raise NotRepresentableError("a slice with a step has no form for single steps of time")
        rest = tuple(stop - start if n == size else n for n in x.rest)
        return self._added("slice", [x], rest, like=x, start=start)

    def _split(self, x: _Value, size: int, dim: int = 0) -> list[_Value]:
        return [self._slice(x, dim, k, k + size) for k in range(0, x.shape[dim], size)]

    def _select(self, x: _Value, dim: int, index: int) -> _Value:
        if dim % len(x.shape) == x.time and index in (-1, self.length - 1):
            return _Value(x.index, x.rest, None)
        raise NotRepresentableError("the network picks out single numbers or steps other than the last")

    def _only_axis(self, x: _Value, dim: int, what: str) -> None:
        """An axis that holds all numbers of a step."""
        if dim % len(x.shape) == x.time or x.shape[dim] != np.prod(x.rest):
            raise NotRepresentableError(f"{what} over another axis than the channels has no form for single steps")

    # ---------------------------------------------------------------- arithmetic

    def _constant(self, value: Any, like: _Value) -> np.ndarray:
        """A number or tensor, broadcast to a vector of a step."""
        array = value.double().numpy() if isinstance(value, torch.Tensor) else np.float64(value)
        shape = tuple(1 if k == like.time else n for k, n in enumerate(like.shape))
        try:
            return np.array(np.broadcast_to(array, shape)).ravel()
        except ValueError:
            raise NotRepresentableError("a constant of the network changes with time, or widens a vector") from None

    def _both(self, kind: str, x: Any, y: Any) -> _Value:
        if isinstance(x, _Value) and isinstance(y, _Value):
            wide = x if np.prod(x.rest) >= np.prod(y.rest) else y
            if np.prod(x.rest) != np.prod(y.rest) or (x.time is None) != (y.time is None):
                raise NotRepresentableError("the network combines vectors of different lengths")
            return self._added(kind, [x, y], wide.rest, like=wide)
        value, constant = (x, y) if isinstance(x, _Value) else (y, x)
        numbers = self._constant(constant, value)
        one, zero = np.ones_like(numbers), np.zeros_like(numbers)
        return self._added("affine", [value], value.rest, *((one, numbers) if kind == "add" else (numbers, zero)))

    def _add(self, x: Any, y: Any, *, alpha: float = 1) -> _Value:
        return self._both("add", x, y if alpha == 1 else self._mul(y, alpha))

    def _sub(self, x: Any, y: Any, *, alpha: float = 1) -> _Value:
        return self._both("add", x, self._mul(y, -alpha) if isinstance(y, _Value) else -alpha * y)

    def _mul(self, x: Any, y: Any) -> _Value:
        return self._both("multiply", x, y)

    def _div(self, x: Any, y: Any) -> _Value:
        if isinstance(y, _Value):
            raise NotRepresentableError("the network divides by what it computes")
        return self._both("multiply", x, 1 / y)

    def _neg(self, x: _Value) -> _Value:
        return self._mul(x, -1.0)

    def _gelu(self, x: _Value, *, approximate: str = "none") -> _Value:
        return self._added("gelu" if approximate == "none" else "gelu_tanh", [x], x.rest, like=x)

    def _glu(self, x: _Value, dim: int = -1) -> _Value:
        half = x.shape[dim] // 2
        values, gates = self._split(x, half, dim % len(x.shape))
        return self._mul(values, self._added("sigmoid", [gates], gates.rest, like=gates))

    def _mean(self, x: _Value, dim: Any = None, keepdim: bool = False, **_: Any) -> _Value:
        if x.time is None or [d % len(x.shape) for d in dim or ()] != [x.time]:
            raise NotRepresentableError("a mean over another axis than time has no form for single steps")
        found = self._added("mean", [x], x.rest)
        shape = list(x.rest)
        if keepdim:
            shape.insert(x.time, 1)
        return _Value(found.index, tuple(shape), None)

    # ---------------------------------------------------------------- layers

    def _linear(self, x: _Value, weight: Any, bias: Any = None) -> _Value:
        if not isinstance(weight, torch.Tensor) or isinstance(bias, _Value):
            raise NotRepresentableError("the network multiplies two results: attention has no form for single steps")
        if x.time == len(x.shape) - 1 or x.shape[-1] != np.prod(x.rest):
            raise NotRepresentableError("a matrix product over another axis than the channels")
        W = weight.double().numpy()
        b = np.zeros(len(W)) if bias is None else np.broadcast_to(bias.double().numpy(), len(W))
        return self._added("linear", [x], (*x.rest[:-1], len(W)), W, np.array(b), like=x)

    def _mm(self, x: Any, y: Any) -> _Value:
        if not isinstance(x, _Value) or isinstance(y, _Value):
            raise NotRepresentableError("the network multiplies two results, or a constant by steps of time")
        return self._linear(x, y.mT)

    def _bmm(self, x: Any, y: Any) -> _Value:
        if isinstance(y, torch.Tensor) and len(y) == 1:
            return self._mm(x, y[0])
        raise NotRepresentableError("the network multiplies two results: attention has no form for single steps")

    def _addmm(self, bias: Any, x: Any, y: Any, **_: Any) -> _Value:
        if not isinstance(x, _Value) or isinstance(y, _Value):
            raise NotRepresentableError("the network multiplies two results, or a constant by steps of time")
        return self._linear(x, y.mT, bias)

    def _convolution(self, x: _Value, weight: torch.Tensor, bias: Any, *options: Any) -> _Value:
        plain = options[0] == [1] and options[1] == [0] and options[3] is False and options[5] == 1
        if weight.ndim != 3 or weight.shape[2] != 1 or not plain:
            raise NotRepresentableError("a convolution over several steps of time has no form for single steps")
        turned = _Value(x.index, (*x.rest[:-1], self.length, x.rest[-1]), len(x.rest) - 1)
        y = self._linear(turned, weight[..., 0], bias)
        return _Value(y.index, (*y.rest, self.length), len(y.rest))

    def _native_layer_norm(self, x: _Value, shape: list[int], weight: Any, bias: Any, eps: float) -> tuple:
        if np.prod(shape) != np.prod(x.rest) or (x.time is not None and x.time >= len(x.shape) - len(shape)):
            raise NotRepresentableError("a norm over steps of time has no form for single steps")
        n = int(np.prod(shape))
        scale = np.ones(n) if weight is None else weight.double().numpy().ravel()
        shift = np.zeros(n) if bias is None else bias.double().numpy().ravel()
        return self._added("norm", [x], x.rest, scale, shift, np.array([eps]), like=x), None, None

    def _native_batch_norm(self, x: _Value, weight: Any, bias: Any, mean: Any, var: Any, *rest: Any) -> tuple:
        training, eps = (rest[0], rest[2]) if len(rest) > 2 else (False, rest[-1])
        if training or mean is None or x.time == 1 or x.shape[1] != np.prod(x.rest):
            raise NotRepresentableError("a batch norm over the batch has no form for single steps: use eval()")
        scale = 1 / torch.sqrt(var.double() + eps) * (1 if weight is None else weight.double())
        shift = (0 if bias is None else bias.double()) - mean.double() * scale
        return self._added("affine", [x], x.rest, scale.numpy(), shift.numpy(), like=x), None, None

    _native_batch_norm_legit_no_training = _native_batch_norm
    _cudnn_batch_norm = _native_batch_norm

    def _respond(self, u: _Value, layer: list[torch.Tensor], systems: int, state: Any, carry: bool) -> tuple:
        """A drop-in layer."""
        ssm = system_of_tensors(layer, systems)
        if ssm.bidirectional:
            raise NotCausalError("a bidirectional layer sees later samples: it has no form for single steps")
        single = systems > 1 and ssm.inputs == ssm.outputs == 1
        return (self._features(u, ssm) if single else self._dense(u, ssm)), None

    def _features(self, u: _Value, ssm: Any) -> _Value:
        """States of all features, B in C, and the feedthrough."""
        gain = ssm.C[:, 0, :] * ssm.B[:, :, 0]
        poles, weights = (np.stack([a.real.T, a.imag.T]) for a in (np.where(gain == 0, 0, ssm.Lambda), gain))
        D = ssm.D.ravel()
        direct = self._added("affine", [u], u.rest, D, np.zeros_like(D), like=u)
        if not poles.size:
            return direct
        return self._both("add", self._added("features", [u], u.rest, poles, weights, like=u), direct)

    def _dense(self, u: _Value, ssm: Any) -> _Value:
        """Two matrix products around a recurrence, and the feedthrough; systems side by side are one."""
        flat, systems = flatten_states(ssm), ssm.systems
        D = np.asarray(ssm.D).reshape(systems, ssm.outputs, ssm.inputs)
        own = np.eye(systems)[flat["owner"]]
        B = np.einsum("ns,nm->nsm", own, flat["B"]).reshape(len(own), -1)
        C = np.einsum("ns,np->spn", own, flat["C"]).reshape(-1, len(own))
        full = np.einsum("st,spm->sptm", np.eye(systems), D).reshape(len(C), B.shape[1])
        if len(C) == B.shape[1] and not (full - np.diag(np.diag(full))).any():
            direct = self._added("affine", [u], u.rest, np.diag(full).copy(), np.zeros(len(C)), like=u)
        else:
            direct = self._added("linear", [u], (*u.rest[:-1], len(C)), full, np.zeros(len(C)), like=u)
        if not len(own):
            return direct
        pairs, none = (2 * len(own),), np.zeros(2 * len(own))
        driven = self._added("linear", [u], (*u.rest[:-1], *pairs), np.concatenate([B.real, B.imag]), none, like=u)
        poles = np.stack([flat["Lambda"].real, flat["Lambda"].imag])
        x = self._added("recur", [driven], driven.rest, poles, like=u)
        W = np.concatenate([C.real, -C.imag], axis=1)
        y = self._added("linear", [x], (*u.rest[:-1], len(C)), W, np.zeros(len(C)), like=u)
        return self._both("add", y, direct)


def _leaves(values: Any) -> Any:
    for value in values:
        if isinstance(value, tuple | list):
            yield from _leaves(value)
        else:
            yield value
