"""Positive parameters as S4 stores them: under exp, softplus, sigmoid, relu, or as they are."""

from collections.abc import Callable

import numpy as np

_TINY = 1e-30  # in place of 0, which the logarithm cannot hold


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


def _inverse_softplus(y: np.ndarray) -> np.ndarray:
    return y + np.log(-np.expm1(-y))


TRANSFORMS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "none": (lambda x: x, lambda y: y),
    "exp": (np.exp, np.log),
    "relu": (lambda x: np.maximum(x, 0.0) + 1e-4, lambda y: y - 1e-4),
    "sigmoid": (lambda x: 1.0 / (1.0 + np.exp(-x)), lambda y: np.log(y) - np.log1p(-y)),
    "softplus": (_softplus, _inverse_softplus),
}
"""Name -> (stored value to parameter, parameter to stored value)."""


TRANSFORM_CHOICES = dict.fromkeys(("real_transform", "imag_transform", "dt_transform"), tuple(TRANSFORMS))
"""The flags that are transforms, and their values."""


def stored(name: str, value: np.ndarray, *, zero: bool = False) -> np.ndarray:
    """What is stored for a parameter; where `zero`, 0 becomes a number too small to matter."""
    return TRANSFORMS[name][1](np.where(value == 0, _TINY, value) if zero and name != "none" else value)
