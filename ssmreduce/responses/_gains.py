"""Singular values over frequency, for plots and reports: a grid shows, it does not certify."""

import numpy as np

from .._support.arrays import to_numpy
from ..systems import DiagonalSSM
from ._responses import frequency_response


def frequencies(ssm: DiagonalSSM, count: int) -> np.ndarray:
    """Frequencies in (0, pi], spaced logarithmically down to a tenth of the slowest pole's bandwidth."""
    slowest = np.clip(np.abs(1 - np.abs(to_numpy(ssm.Lambda))).min(initial=1.0), 1e-8, 1e-1)
    return np.pi * np.logspace(np.log10(slowest) - 1, 0, count)


def singular_values(ssm: DiagonalSSM, omega: np.ndarray) -> np.ndarray:
    """Singular values at each frequency, shape (w, k), of all systems of a batch: those of the block-diagonal layer."""
    values = np.linalg.svd(to_numpy(frequency_response(ssm, omega)), compute_uv=False)
    return np.moveaxis(values, -2, 0).reshape(omega.size, -1)
