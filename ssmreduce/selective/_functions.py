"""The few nonlinear functions of selective layers, for NumPy arrays and PyTorch tensors."""

from typing import Any

import numpy as np
import scipy


def is_numpy(x: Any) -> bool:
    """Whether the array is NumPy's."""
    return isinstance(x, np.ndarray)


def silu(x: Any) -> Any:
    """X times the logistic function of x."""
    if is_numpy(x):
        return x * scipy.special.expit(x)
    import torch

    return torch.nn.functional.silu(x)


def softplus(x: Any) -> Any:
    """log(1 + exp(x))."""
    if is_numpy(x):
        return np.logaddexp(x, x.dtype.type(0))
    import torch

    return torch.nn.functional.softplus(x)


def exp(x: Any) -> Any:
    """Exponential function."""
    return np.exp(x) if is_numpy(x) else x.exp()


def rms_scale(x: Any, eps: float) -> Any:
    """1 / root mean square over the last axis, which is kept with length 1."""
    if is_numpy(x):
        return 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    import torch

    return torch.rsqrt((x * x).mean(dim=-1, keepdim=True) + eps)


def linear(x: Any, weight: Any, bias: Any | None) -> Any:
    """Apply a weight (outputs, inputs) and a bias to the last axis."""
    y = x @ weight.T
    return y if bias is None else y + bias


def join(parts: list[Any], axis: int) -> Any:
    """Concatenate along an axis."""
    if is_numpy(parts[0]):
        return np.concatenate(parts, axis=axis)
    import torch

    return torch.cat(parts, dim=axis)


def zeros(shape: tuple[int, ...], x: Any) -> Any:
    """Zeros of the library, precision and device of an array."""
    if is_numpy(x):
        return np.zeros(shape, dtype=x.dtype)
    return x.new_zeros(shape)
