"""The diagonal scan on pairs of real numbers, for layers that torch.compile, ONNX and autocast can take."""

from typing import Any

import torch

from ..engines import _torch as engine


def scan_pairs(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, *, reverse: bool) -> torch.Tensor:
    """States of a diagonal recurrence, complex numbers as pairs (re, im) along the last axis.

    Parameters
    ----------
    Lambda : Tensor, shape (n, 2)
    inputs : Tensor, shape (batch, L, n, 2)
    state : Tensor, shape (batch, n, 2)
        Before the first sample; in reverse, after the last one.
    reverse : bool

    Returns
    -------
    Tensor, shape (batch, L, n, 2)
    """
    if torch.compiler.is_compiling():
        return _pairs(Lambda, inputs, state, reverse)
    complex_ = (torch.view_as_complex(tensor.contiguous()).unsqueeze(0) for tensor in (Lambda, inputs, state))
    return torch.view_as_real(engine.scan(*complex_, reverse=reverse).squeeze(0))


@torch.library.custom_op("ssmreduce::scan_pairs", mutates_args=())
def _pairs(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    """Opaque to torch.compile, and real on its outside."""
    complex_ = (torch.view_as_complex(tensor.contiguous()).unsqueeze(0) for tensor in (Lambda, inputs, state))
    return torch.view_as_real(engine._states(*complex_, reverse).squeeze(0)).contiguous()


@_pairs.register_fake
def _(Lambda: torch.Tensor, inputs: torch.Tensor, state: torch.Tensor, reverse: bool) -> torch.Tensor:
    return torch.empty_like(inputs, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple, output: torch.Tensor) -> None:
    Lambda, _, state, ctx.reverse = inputs
    ctx.save_for_backward(Lambda, state, output)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple:
    """See `_Reversible.backward` of the engine; here on pairs."""
    Lambda, state, states = ctx.saved_tensors
    conjugate = torch.stack([Lambda[..., 0], -Lambda[..., 1]], dim=-1)
    g = _pairs(conjugate, gradient.contiguous(), torch.zeros_like(state), not ctx.reverse)
    if ctx.reverse:
        first, before, after = g[:, -1], states[:, 1:], g[:, :-1]
    else:
        first, before, after = g[:, 0], states[:, :-1], g[:, 1:]
    poles = _times_conjugate(after, before).sum((0, 1)) + _times_conjugate(first, state).sum(0)
    return poles, g, _times_conjugate(first, Lambda.expand_as(first)), None


def _times_conjugate(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Product of a and the conjugate of b, on pairs."""
    real = a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1]
    imaginary = a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]
    return torch.stack([real, imaginary], dim=-1)


_pairs.register_autograd(_backward, setup_context=_setup_context)
