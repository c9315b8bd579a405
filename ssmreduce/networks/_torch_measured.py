"""Layers of no known family, which can only be run: measured, checked on a batch, and replaced by drop-in layers."""

import contextlib
import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import signal

from .._support.arguments import described
from ..errors import ArgumentError, EvaluationError, ShapeError
from ..realization import Realization, realize
from ._torch_calls import LAYERS
from ._torch_places import independent_copy, on_host, submodule

_LINEAR = 1e-4  # largest misfit of the measured responses on real inputs, relative to the outputs


def measured(
    module: Any,
    layers: Sequence[str],
    run: Callable[[Any], Any],
    *,
    order: int | None,
    tolerance: float | None,
) -> tuple[Any, dict[str, Realization]]:
    """Copy of a module with drop-ins for layers that are linear and time invariant, and what was realised for each.

    Parameters
    ----------
    module : torch.nn.Module
    layers : sequence of str
        Submodules that take (batch, L, width) and return as much, or a tuple that begins with it.
    run : callable
        Runs a module on a real batch.
    order, tolerance : int, float
        As in `realize`; `tolerance` is 1e-3 where neither is given.

    Raises
    ------
    EvaluationError
        A layer that is not linear, time invariant and causal on the batch, or is not called.
    ShapeError
        Inputs or outputs of another shape.
    """
    result = independent_copy(module).eval()
    recorded = _recorded(result, layers, run)
    found = {}
    for name in layers:
        layer = submodule(result, name)
        u, y, pair = recorded[name]
        kernel = _kernel(layer, u, name)
        _require_linear(layer, kernel, u, y, name)
        if order is None and tolerance is None:
            tolerance = 1e-3
        found[name] = realize(_bank(kernel), order=order, tolerance=tolerance)
        _put(result, name, layer, found[name], u, pair=pair)
    return result, found


def _recorded(module: Any, layers: Sequence[str], run: Callable[[Any], Any]) -> dict[str, tuple[Any, np.ndarray, bool]]:
    """Input tensor, output and whether a tuple was returned, of the last call of each layer."""
    seen: dict[str, tuple[Any, np.ndarray, bool]] = {}

    def hook(name: str) -> Callable:
        def after(_: Any, args: tuple, output: Any) -> None:
            if not args or not isinstance(args[0], torch.Tensor):
                raise EvaluationError(f"layer {name!r} is not called with a tensor, but with {described(args)}")
            value, pair = (output[0], True) if isinstance(output, tuple) else (output, False)
            seen[name] = (args[0].detach(), on_host(value), pair)

        return after

    with contextlib.ExitStack() as stack, torch.no_grad():
        for name in layers:
            stack.callback(submodule(module, name).register_forward_hook(hook(name)).remove)
        run(module)
    if missing := [name for name in layers if name not in seen]:
        raise EvaluationError(f"the network did not call {', '.join(missing)} on this batch")
    for name, (u, y, _) in seen.items():
        if u.ndim != 3 or y.ndim != 3 or y.shape[:2] != tuple(u.shape[:2]) or u.shape[1] < 8:
            raise ShapeError(
                f"layer {name!r} takes {tuple(u.shape)} and returns {y.shape}; a layer that is measured takes "
                "(batch, L, width) with at least 8 steps and returns (batch, L, width)"
            )
    return seen


def _called(layer: Any, u: torch.Tensor) -> np.ndarray:
    """Output of a layer, in double precision where it can."""
    with torch.no_grad():
        try:
            output = copy.deepcopy(layer).double()(u.double())
        except RuntimeError:  # it fixes its precision itself
            output = layer(u)
    return on_host(output[0] if isinstance(output, tuple) else output)


def _kernel(layer: Any, u: torch.Tensor, name: str) -> np.ndarray:
    """Impulse responses, shape (outputs, inputs, L), at the size of the inputs of the batch."""
    length, width = u.shape[1:]
    size = float(u.double().pow(2).mean().sqrt()) or 1.0
    impulses = torch.zeros(width + 1, length, width, dtype=u.dtype, device=u.device)
    impulses[torch.arange(width), 0, torch.arange(width)] = size
    y = _called(layer, impulses)
    if np.abs(y[width]).max() > _LINEAR * max(np.abs(y).max(), 1e-30):
        raise EvaluationError(f"layer {name!r} is not linear: its output for an input of zeros is not zero")
    return np.moveaxis(y[:width], 0, -1).transpose(1, 2, 0) / size


def _require_linear(layer: Any, kernel: np.ndarray, u: torch.Tensor, y: np.ndarray, name: str) -> None:
    """Raise where the measured responses do not give the layer's outputs, on the batch and on it reversed."""
    turned = -2.0 * torch.flip(u, dims=(1,))
    for inputs, outputs in ((u, y), (turned, _called(layer, turned))):
        wanted = _convolved(kernel, inputs.cpu().double().numpy())
        error, scale = np.abs(wanted - outputs).max(), np.abs(outputs).max()
        if not error <= _LINEAR * scale:
            raise EvaluationError(
                f"layer {name!r} is not linear, time invariant and causal: what its impulse responses give differs "
                f"from its outputs on the batch by {error:.3g} of {scale:.3g}. No linear system equals it; leave it "
                "out of layers=..."
            )


def _convolved(kernel: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Outputs (batch, L, p) of responses (p, m, L) and inputs (batch, L, m)."""
    length = u.shape[1]
    terms = signal.fftconvolve(kernel[None], np.swapaxes(u, 1, 2)[:, None], axes=-1)[..., :length]
    return np.swapaxes(terms.sum(axis=2), 1, 2)


def _bank(kernel: np.ndarray) -> np.ndarray:
    """One kernel a feature where features do not mix, shape (H, L), else the whole (p, m, L)."""
    p, m = kernel.shape[:2]
    if p == m:
        mixed = kernel[~np.eye(p, dtype=bool)]
        if mixed.size == 0 or np.abs(mixed).max() <= 1e-6 * np.abs(kernel).max():
            return np.ascontiguousarray(kernel[np.arange(p), np.arange(p)])
    return kernel


def _put(module: Any, name: str, layer: Any, found: Realization, u: torch.Tensor, *, pair: bool) -> None:
    ssm = found.ssm
    states = np.any(ssm.B != 0, axis=-1)
    states = states if ssm.batch else states[None]
    kept = LAYERS["pair" if pair else "plain"](ssm, valid=states, dtype=u.dtype, device=u.device)
    if name == ".":
        raise ArgumentError("the module itself is the layer: give the network around it")
    parent, _, leaf = name.rpartition(".")
    kept.train(layer.training)
    submodule(module, parent or ".")._modules[leaf] = kept
