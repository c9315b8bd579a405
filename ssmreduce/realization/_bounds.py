"""Peak gain of a finite impulse response, bracketed with a proof."""

import math

import numpy as np
import scipy

_OVERSAMPLING = 16
_EPS = float(np.finfo(np.float64).eps)


def fir_peak_gain(samples: np.ndarray) -> tuple[float, float]:
    """Lower and upper bound of the largest singular value of ``sum_k h_k exp(-i k w)`` over w; (p, m, L)."""
    length = samples.shape[-1]
    points = scipy.fft.next_fast_len(_OVERSAMPLING * length, real=True)
    spectrum = np.moveaxis(scipy.fft.rfft(samples, points), -1, 0)
    if spectrum.shape[1] == 1 or spectrum.shape[2] == 1:
        lower = float(np.sqrt((np.abs(spectrum) ** 2).sum((1, 2)).max()))
    else:
        lower = float(np.linalg.norm(spectrum, 2, axis=(1, 2)).max())
    rounding = 8.0 * _EPS * math.log2(points) * float(np.linalg.norm(np.abs(samples).sum(-1)))
    return lower, (lower + rounding) / math.cos(math.pi * (length - 1) / (2 * points))
