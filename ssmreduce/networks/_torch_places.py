"""Where the state-space layers of a PyTorch module are, how they are called, and what stands in the way of a swap."""

import contextlib
import copy
import inspect
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import torch

from .._support.arguments import described
from .._support.trees import Params
from ..adapters import ADAPTERS, LRU, S4D, S5, Adapter, S5PyTorch
from ..errors import ArgumentError, EvaluationError, ShapeError, UnknownLayerError
from ..models import SSMModel
from ..responses import simulate
from ..systems import DiagonalSSM
from ..systems._discretize import METHODS as DISCRETIZATIONS
from ._capture import _first, _joined, _unmapped
from ._flat import feedthrough, flatten_states
from ._protocol import Gradients
from ._torch_layers import LAYERS, S5PyTorchLayer, SSMLayer

_TOLERANCE = {torch.float64: 1e-8}  # of the drop-in against the original, relative to the largest output
_COARSE = 2e-3  # in single precision, in which long memories accumulate rounding errors

Calls = dict[str, tuple[list[np.ndarray], list[Any]]]
"""Layer name -> inputs of its calls and what its swapped part returned."""


@dataclass(frozen=True)
class Place:
    """One state-space layer of a module.

    Attributes
    ----------
    name : str
        Of the layer, as the adapter names it.
    target : str
        Of the submodule that is swapped: the layer, or its child that gives the convolution kernel.
    call : str
        One of `LAYERS`.
    channels_first : bool, optional
        None as long as no batch has told.
    """

    name: str
    target: str
    call: str
    dtype: torch.dtype
    device: torch.device
    channels_first: bool | None = None

    # ---------------------------------------------------------------- swapping

    def put(self, module: Any, model: SSMModel, *, trainable: bool) -> Any:
        """The module with a drop-in of the model's system; the drop-in itself where the module is the layer."""
        ssm, valid = model[self.name], model.state_index(self.name)[1]
        real: dict[str, Any] = {"dtype": self.dtype, "device": self.device}
        old = submodule(module, self.target)
        if not trainable and isinstance(old, SSMLayer) and old.holds(ssm, valid):
            old.give(_tensors(ssm, valid, real))
            if self.call == "kernel":
                submodule(module, self.name)._parameters["D"] = torch.nn.Parameter(old.matrices()[4].detach())
            return module
        layer = LAYERS[self.call](ssm, valid=valid, channels_first=bool(self.channels_first), **real)
        if isinstance(layer, S5PyTorchLayer):
            layer.step_scale = getattr(model.adapter, "step_scale", 1.0)
        layer.train(old.training)
        if self.call == "kernel":
            D = torch.as_tensor(feedthrough(ssm).copy(), **real)
            submodule(module, self.name)._parameters["D"] = torch.nn.Parameter(D)
        if not trainable:
            layer.requires_grad_(False)
            layer.give(_tensors(ssm, valid, real))
        if self.target == ".":
            return layer
        parent, _, leaf = self.target.rpartition(".")
        submodule(module, parent or ".")._modules[leaf] = layer
        return module

    def leaves(self, module: Any) -> dict[str, torch.Tensor]:
        """Tensors of the placed system, to be differentiated in."""
        Lambda, B, C, C_reverse, D = submodule(module, self.target).matrices()
        tensors = {"Lambda": Lambda, "B": B, "C": C}
        if C_reverse is not None:
            tensors["C_reverse"] = C_reverse
        tensors["D"] = submodule(module, self.name)._parameters["D"] if self.call == "kernel" else D
        return tensors

    def gradients(self, model: SSMModel, found: Mapping[str, torch.Tensor | None]) -> Gradients:
        """Gradients in the matrices of the placed system, from those in its tensors."""
        ssm, valid = model[self.name], model.state_index(self.name)[1]
        owner, slot = np.nonzero(valid)
        systems, n = valid.shape

        def placed(key: str, shape: tuple[int, ...], factor: float = 1.0) -> np.ndarray:
            result = np.zeros((systems, n, *shape[1:]), dtype=complex)
            if found[key] is not None:
                result[owner, slot] = factor * (found[key].cpu().double().numpy() @ [1, 1j])  # type: ignore[union-attr]
            return result

        m, p = ssm.inputs, ssm.outputs
        outputs = [
            placed(key, (n, p), ssm.kappa).swapaxes(1, 2).reshape(ssm.C.shape)
            for key in ("C", "C_reverse")
            if key in found
        ]
        D = np.zeros((systems, p, m))
        if found["D"] is not None:
            given = found["D"].cpu().double().numpy()
            if given.ndim == 1:
                np.einsum("sii->si", D)[...] = given.reshape(systems, -1)
            else:
                D = given
        return Gradients(
            placed("Lambda", (n,)).reshape(ssm.Lambda.shape),
            placed("B", (n, m)).reshape(ssm.B.shape),
            outputs[0],
            D.reshape(ssm.D.shape),
            outputs[1] if len(outputs) > 1 else None,
        )

    # ---------------------------------------------------------------- recording

    def record(self, module: Any, calls: Calls, stack: contextlib.ExitStack) -> None:
        """Hook the layer, so that one pass adds to `calls`."""

        def before(_: Any, args: tuple, kwargs: dict) -> None:
            tensor = _first(args, kwargs, array_api_compat.is_torch_array, self.name)
            calls.setdefault(self.name, ([], []))[0].append(_on_host(tensor))

        def after(_: Any, args: tuple, output: Any) -> None:
            pair = isinstance(output, tuple)
            calls[self.name][1].append((_on_host(output[0] if pair else output), pair))

        hook = submodule(module, self.name).register_forward_pre_hook(before, with_kwargs=True)
        stack.callback(hook.remove)
        stack.callback(submodule(module, self.target).register_forward_hook(after).remove)

    def joined(self, inputs: list[np.ndarray], outputs: list[tuple[np.ndarray, bool]]) -> "Recorded":
        """The calls of one pass, sequences along the first axis and channels along the last where that is known."""
        u = _joined(inputs, self.name)
        y = outputs[0][0] if self.call == "kernel" else _joined([array for array, _ in outputs], self.name)
        return Recorded(u, y, outputs[0][1]).turned(bool(self.channels_first), kernel=self.call == "kernel")

    def told(self, ssm: DiagonalSSM, seen: "Recorded") -> "Place":
        """The place with what a pass of the original has told: the order of the axes, and a returned state."""
        systems = ssm.systems
        width, height = systems * ssm.inputs, systems * ssm.outputs
        call = "pair" if seen.pair and self.call == "plain" else self.call
        if self.channels_first is not None:
            return replace(self, call=call)
        last = seen.u.shape[-1] == width and (self.call == "kernel" or seen.y.shape[-1] == height)
        first = seen.u.shape[-2] == width and (self.call == "kernel" or seen.y.shape[-2] == height)
        if last and first and self.call == "kernel":
            raise ArgumentError(
                f"layer {self.name!r} takes inputs of shape {seen.u.shape}, and either axis may be that of the "
                "channels: give channels_first=True or False"
            )
        if not (last or first):
            raise ShapeError(
                f"layer {self.name!r} takes inputs {seen.u.shape} and returns {seen.y.shape}, but the system that was "
                f"read for it has {width} inputs and {height} outputs; expected (batch, L, width) or (batch, width, L)"
            )
        if last and first:
            first = _misfit(ssm, seen.turned(True)) < _misfit(ssm, seen)
            last = not first
        return replace(self, call=call, channels_first=not last)


@dataclass(frozen=True, eq=False)
class Recorded:
    """Input and output of a layer in one pass; `pair` where it returned a tuple."""

    u: np.ndarray
    y: np.ndarray
    pair: bool

    def turned(self, channels_first: bool, *, kernel: bool = False) -> "Recorded":
        """With channels last."""
        if not channels_first:
            return self
        return Recorded(self.u.swapaxes(-1, -2), self.y if kernel else self.y.swapaxes(-1, -2), self.pair)


def _misfit(ssm: DiagonalSSM, seen: Recorded) -> float:
    return float(np.abs(simulate(ssm, seen.u) - seen.y).max())


def _on_host(tensor: torch.Tensor) -> np.ndarray:
    return _unmapped(tensor).detach().cpu().double().numpy()


def _tensors(ssm: DiagonalSSM, valid: np.ndarray, real: dict[str, Any]) -> tuple:
    """Leaf tensors of a system, rounded from double precision once."""

    def pairs(values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.stack([values.real, values.imag], axis=-1), **real).requires_grad_(True)

    flat = flatten_states(ssm, valid)
    reverse = None if flat["C_reverse"] is None else pairs(flat["C_reverse"])
    D = torch.as_tensor(feedthrough(ssm).copy(), **real).requires_grad_(True)
    return pairs(flat["Lambda"]), pairs(flat["B"]), pairs(flat["C"]), reverse, D


# ---------------------------------------------------------------- finding


def submodule(module: Any, name: str) -> Any:
    """Submodule of a dotted name; "." for the module itself."""
    try:
        return module if name == "." else module.get_submodule(name)
    except AttributeError as error:
        raise UnknownLayerError(f"the network has no submodule {name!r}: {error}") from None


def place_of(module: Any, name: str, adapter: Any, channels_first: bool | None) -> Place:
    """Place of a layer, with all checks that need no batch."""
    layer = submodule(module, name)
    target, call = name, _call_of(layer, adapter)
    if call == "kernel":
        target = "kernel" if name == "." else f"{name}.kernel"
        channels_first = getattr(layer, "transposed", None) if channels_first is None else channels_first
    if isinstance(layer, SSMLayer):
        channels_first = layer.channels_first
    elif call in ("s5_pytorch", "lru"):
        channels_first = False
    tensors = [*layer.parameters(), *layer.buffers()]
    _check_layer(layer, name, tensors)
    dtype = torch.float64 if any(t.dtype in (torch.float64, torch.complex128) for t in tensors) else torch.float32
    return Place(name, target, call, dtype, tensors[0].device, channels_first)


def _call_of(layer: Any, adapter: Adapter) -> str:
    """How a layer is called."""
    if isinstance(layer, SSMLayer):
        return next(name for name, cls in LAYERS.items() if cls is type(layer))
    child = getattr(layer, "kernel", None)
    if isinstance(child, LAYERS["kernel"]):
        return "kernel"
    if isinstance(child, torch.nn.Module) and isinstance(adapter, S4D) and "L" in _parameters_of(child.forward):
        return "kernel"
    if isinstance(adapter, S5PyTorch) and "step_scale" in _parameters_of(layer.forward):
        return "s5_pytorch"
    if isinstance(adapter, LRU) and "state" in _parameters_of(layer.forward):
        return "lru"
    return "plain"


def _parameters_of(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def _check_layer(layer: Any, name: str, tensors: list[torch.Tensor]) -> None:
    if type(layer).forward is torch.nn.Module.forward:
        raise ArgumentError(
            f"layer {name!r} is {described(layer)}, which holds the parameters but is never called: its parent uses "
            "them itself. Make a module of it with forward(u) -> y on (batch, L, width)"
        )
    for part_name, part in layer.named_modules():
        hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
        if any(getattr(part, kind) for kind in hooks):
            where = f"{name}.{part_name}" if part_name else name
            raise ArgumentError(f"{where!r} has hooks, which a drop-in layer would lose: remove them and register anew")
        if torch.nn.utils.parametrize.is_parametrized(part):
            raise ArgumentError(
                f"layer {name!r} is parametrised (torch.nn.utils.parametrize): call remove_parametrizations first"
            )
    if any(tensor.is_quantized for tensor in tensors):
        raise ArgumentError(f"layer {name!r} is quantised: reduce the network first and quantise the result")
    devices = {str(tensor.device) for tensor in tensors}
    if len(devices) > 1:
        raise ArgumentError(f"the tensors of layer {name!r} are on {', '.join(sorted(devices))}; move it to one device")


def check_module(module: Any) -> None:
    """Refuse modules whose layers cannot be swapped."""
    kinds = {
        "OptimizedModule": "compiled: give the module itself (module._orig_mod) and compile the result",
        "DataParallel": "wrapped: give module.module",
        "DistributedDataParallel": "wrapped: give module.module",
        "FullyShardedDataParallel": "sharded: give the module before it was wrapped",
    }
    for name, part in module.named_modules():
        where = f"its part {name!r}" if name else "the module"
        if isinstance(part, torch.jit.ScriptModule):
            raise ArgumentError(f"{where} is scripted or traced, and no layer of it can be swapped: give the original")
        if advice := kinds.get(type(part).__name__):
            raise ArgumentError(f"{where} is {advice}")
    if any(tensor.is_meta for tensor in module.state_dict().values() if isinstance(tensor, torch.Tensor)):
        raise ArgumentError("the module has parameters on the meta device: load its weights first")


def check_shared(module: Any, places: Mapping[str, Place]) -> None:
    """Refuse one layer under two names: two systems would take its place."""
    seen: dict[int, str] = {}
    for name in places:
        other = seen.setdefault(id(submodule(module, name)), name)
        if other != name:
            raise ArgumentError(
                f"{other!r} and {name!r} are one module: shared layers cannot be reduced apart. Keep one of the names "
                "(a module may be called several times), or give each place its own copy"
            )


def probed(layer: Callable, ssm: DiagonalSSM, place: Place) -> "Recorded":
    """What a layer returns for noise (batch, L, width), or (batch, width, L) where it does not take that."""
    width = ssm.systems * ssm.inputs
    u = np.random.default_rng(0).standard_normal((2, width + 9, width))
    if place.channels_first:
        u = u.swapaxes(-1, -2)
    tensor = torch.as_tensor(u, dtype=place.dtype, device=place.device)
    with torch.no_grad():
        try:
            output = layer(tensor)
        except RuntimeError:
            if place.channels_first is not None:
                raise
            output = layer(tensor.transpose(-1, -2))
            u = u.swapaxes(-1, -2)
    pair = isinstance(output, tuple)
    return Recorded(u, _on_host(output[0] if pair else output), pair)


def told_adapter(module: Any, params: Params) -> Adapter | None:
    """The flags of S5 with which its first layer computes what it does; None where none or several fit."""
    names = S5.find(params)
    if not names or any(cls.find(params) for cls in ADAPTERS.values() if cls is not S5 and cls.detected):
        return None
    layer = submodule(module, names[0])
    found = []
    for conj_sym, discretization in itertools.product((True, False), DISCRETIZATIONS):
        adapter = S5(conj_sym=conj_sym, discretization=discretization)
        try:
            ssm = adapter.get(params, names[0])
            place = place_of(module, names[0], adapter, None)
            seen = probed(layer, ssm, place)
            seen = seen.turned(bool(place.told(ssm, seen).channels_first))
            misfit = _misfit(ssm, seen) / float(np.abs(seen.y).max())
        except Exception:  # a layer of another call, or one that a flag more is needed for: the user must tell
            return None
        found.append((misfit, adapter))
    (best, adapter), (second, _) = sorted(found, key=lambda pair: pair[0])[:2]
    return adapter if best < 1e-4 and second > 10 * best else None


def shared_copy(module: Any) -> Any:
    """Copy of the module's structure with the very tensors of the original."""
    memo: dict[int, Any] = {}
    for part in module.modules():
        for value in [*part._parameters.values(), *part._buffers.values(), *vars(part).values()]:
            if isinstance(value, torch.Tensor):
                memo[id(value)] = value
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:
        raise ArgumentError(
            f"the module cannot be copied (copy.deepcopy: {type(error).__name__}: {error}), and the layers of a copy "
            "are swapped, so that yours stays as it is; replace_layers(..., inplace=True) changes the module itself"
        ) from error


def independent_copy(module: Any) -> Any:
    """Copy of a module with tensors of its own."""
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise ArgumentError(
            f"the module cannot be copied (copy.deepcopy: {type(error).__name__}: {error}); "
            "replace_layers(..., inplace=True) changes the module itself"
        ) from error


def checked_alone(module: Any, place: Place, model: SSMModel) -> Place:
    """The place with what its layer does with noise has told, after a comparison with its system."""
    layer, ssm = submodule(module, place.name), model[place.name]
    if isinstance(layer, SSMLayer) or isinstance(getattr(layer, "kernel", None), SSMLayer):
        return place
    try:
        if place.call == "kernel":
            length = 64
            with torch.no_grad():
                kernel = _on_host(submodule(module, place.target)(L=length))
            seen = Recorded(np.zeros((1, length, ssm.inputs)), kernel, pair=False)
            impulse = np.zeros((length, ssm.systems))
            impulse[0] = 1.0
            ours = simulate(replace_feedthrough(ssm), impulse).T
            compare(place, seen, Recorded(seen.u, ours, pair=False), model.adapter)
            return place
        if place.call == "s5_pytorch":
            seen = probed(lambda u: torch.stack([layer(one) for one in u]), ssm, place)
        else:
            seen = probed(layer, ssm, place)
    except (RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"layer {place.name!r} cannot be called alone ({type(error).__name__}: {error}); give batch=..., what the "
            "network is called with"
        ) from error
    place = place.told(ssm, seen)
    seen = seen.turned(bool(place.channels_first))
    compare(place, seen, Recorded(seen.u, simulate(ssm, seen.u), seen.pair), model.adapter)
    return place


def replace_feedthrough(ssm: DiagonalSSM) -> DiagonalSSM:
    """The system without its D, which a convolution kernel leaves out."""
    return replace(ssm, D=np.zeros_like(ssm.D))


def compare(place: Place, before: Recorded, after: Recorded, adapter: Any) -> None:
    """Raise where a drop-in of the full system computes something else than the layer itself."""
    scale = float(np.abs(before.y).max())
    error = float(np.abs(after.y - before.y).max()) if after.y.shape == before.y.shape else np.inf
    if not error <= _TOLERANCE.get(place.dtype, _COARSE) * scale:
        raise EvaluationError(
            f"layer {place.name!r}: the system that was read from it gives outputs that differ from the layer's own by "
            f"{error:.3g} of {scale:.3g}; {adapter!r} says otherwise what a live module cannot tell (adapter=...), or "
            "the layer does more than its system: activation, dropout or another scale inside belong outside of it"
        )
