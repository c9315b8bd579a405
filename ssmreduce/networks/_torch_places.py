"""Where the state-space layers of a PyTorch module are, how they are called, and what stands in the way of a swap."""

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import array_api_compat
import numpy as np
import torch

from ..adapters import LRU, Adapter, S5PyTorch
from ..errors import ArgumentError, ShapeError, UnknownLayerError
from ..models import SSMModel
from ..responses import simulate
from ..systems import DiagonalSSM
from ._capture import _first, _joined, _unmapped
from ._flat import feedthrough, flatten_states
from ._protocol import Gradients
from ._torch_calls import LAYERS, KernelLayer
from ._torch_layers import SSMLayer
from ._torch_s4d import whole_layer

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
            if self.is_kernel:
                self._give_feedthrough(module, old.matrices()[4].detach())
            return module
        layer = LAYERS[self.call](ssm, valid=valid, channels_first=bool(self.channels_first), **real)
        scale = getattr(model.adapter, "step_scale", getattr(model.adapter, "rate", None))
        if layer.step_scale is not None and scale is not None:
            layer.step_scale = scale
        layer.train(old.training)
        if self.is_kernel:
            self._give_feedthrough(module, torch.as_tensor(feedthrough(ssm).copy(), **real))
        if not trainable:
            layer.requires_grad_(False)
            layer.give(_tensors(ssm, valid, real))
        if self.target == ".":
            return layer
        set_submodule(module, self.target, layer)
        if trainable and self.call == "kernel":
            return with_whole_layer(module, self.name)
        return module

    def put_new(self, module: Any, model: SSMModel) -> Any:
        """The module with a drop-in here, where there is none yet."""
        if not isinstance(submodule(module, self.target), SSMLayer):
            return self.put(module, model, trainable=True)
        return with_whole_layer(module, self.name) if self.call == "kernel" else module

    @property
    def is_kernel(self) -> bool:
        """Whether a child that gives the kernel is swapped, and the layer keeps D."""
        return self.call in ("kernel", "channel_kernel")

    def _give_feedthrough(self, module: Any, D: torch.Tensor) -> None:
        """Put D into the layer around a kernel; (channels, s) where it has channels."""
        if self.call == "channel_kernel":
            D = D[None] if D.ndim == 1 else D[..., 0].T
        submodule(module, self.name)._parameters["D"] = torch.nn.Parameter(D)

    def leaves(self, module: Any) -> dict[str, torch.Tensor]:
        """Tensors of the placed system, to be differentiated in."""
        Lambda, B, C, C_reverse, D = submodule(module, self.target).matrices()
        tensors = {"Lambda": Lambda, "B": B, "C": C}
        if C_reverse is not None:
            tensors["C_reverse"] = C_reverse
        tensors["D"] = submodule(module, self.name)._parameters["D"] if self.is_kernel else D
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
            if self.call == "channel_kernel":
                D = given.T[..., None]
            elif given.ndim == 1:
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
            calls.setdefault(self.name, ([], []))[0].append(on_host(tensor))

        def after(_: Any, args: tuple, output: Any) -> None:
            pair = isinstance(output, tuple)
            calls[self.name][1].append((on_host(output[0] if pair else output), pair))

        hook = submodule(module, self.name).register_forward_pre_hook(before, with_kwargs=True)
        stack.callback(hook.remove)
        stack.callback(submodule(module, self.target).register_forward_hook(after).remove)

    def joined(self, inputs: list[np.ndarray], outputs: list[tuple[np.ndarray, bool]]) -> "Recorded":
        """The calls of one pass, sequences along the first axis and channels along the last where that is known."""
        u = _joined(inputs, self.name)
        y = outputs[0][0] if self.is_kernel else _joined([array for array, _ in outputs], self.name)
        return Recorded(u, y, outputs[0][1]).turned(bool(self.channels_first), kernel=self.is_kernel)

    def told(self, ssm: DiagonalSSM, seen: "Recorded") -> "Place":
        """The place with what a pass of the original has told: the order of the axes, and a returned state."""
        systems = ssm.systems
        width, height = systems * ssm.inputs, systems * ssm.outputs
        call = "pair" if seen.pair and self.call == "plain" else self.call
        if self.channels_first is not None:
            return replace(self, call=call)
        last = seen.u.shape[-1] == width and (self.is_kernel or seen.y.shape[-1] == height)
        first = seen.u.shape[-2] == width and (self.is_kernel or seen.y.shape[-2] == height)
        if last and first and self.is_kernel:
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
            first = misfit(ssm, seen.turned(True)) < misfit(ssm, seen)
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


def misfit(ssm: DiagonalSSM, seen: Recorded) -> float:
    """Largest difference of a system's outputs from those that were recorded."""
    return float(np.abs(simulate(ssm, seen.u) - seen.y).max())


def on_host(tensor: torch.Tensor) -> np.ndarray:
    """A tensor in double precision on the host, whole where it is mapped over."""
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


def set_submodule(module: Any, name: str, part: Any) -> None:
    """Put a part into the place of another one."""
    parent, _, leaf = name.rpartition(".")
    submodule(module, parent or ".")._modules[leaf] = part


def with_whole_layer(module: Any, name: str) -> Any:
    """The module with an `S4DLayer` in place of a layer with the drop-in of its kernel, where it is one."""
    layer = whole_layer(submodule(module, name))
    if name == ".":
        return layer
    set_submodule(module, name, layer)
    return module


def place_of(module: Any, name: str, adapter: Any, channels_first: bool | None) -> Place:
    """Place of a layer, with all checks that need no batch."""
    layer = submodule(module, name)
    target, call = name, _call_of(layer, adapter)
    if call in ("kernel", "channel_kernel"):
        target = "kernel" if name == "." else f"{name}.kernel"
        channels_first = getattr(layer, "transposed", None) if channels_first is None else channels_first
    if isinstance(layer, SSMLayer):
        channels_first = layer.channels_first
    elif call in ("s5_pytorch", "lru"):
        channels_first = False
    tensors = [*layer.parameters(), *layer.buffers()]
    dtype = torch.float64 if any(t.dtype in (torch.float64, torch.complex128) for t in tensors) else torch.float32
    return Place(name, target, call, dtype, tensors[0].device, channels_first)


def _call_of(layer: Any, adapter: Adapter) -> str:
    """How a layer is called."""
    if isinstance(layer, SSMLayer):
        return layer.call
    child = getattr(layer, "kernel", None)
    if isinstance(child, KernelLayer):
        return child.call
    kernel = next((call.kernel for call in adapter.calls if call.framework == "torch" and call.kernel), None)
    if kernel and isinstance(child, torch.nn.Module) and "L" in _parameters_of(child.forward):
        return "kernel" if kernel.axes == "hl" else "channel_kernel"
    if isinstance(adapter, S5PyTorch) and "step_scale" in _parameters_of(layer.forward):
        return "s5_pytorch"
    if isinstance(adapter, LRU) and "state" in _parameters_of(layer.forward):
        return "lru"
    return "plain"


def _parameters_of(function: Callable) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


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
