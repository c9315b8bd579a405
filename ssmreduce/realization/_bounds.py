"""Peak gain of a finite impulse response, bracketed with a proof."""

import math

import numpy as np
import scipy

_OVERSAMPLING = 16
_ROUNDS = 20  # of the search for the best D
_EPS = float(np.finfo(np.float64).eps)


def fir_peak_gain(samples: np.ndarray) -> tuple[float, float]:
    """Lower and upper bound of the largest singular value of ``sum_k h_k exp(-i k w)`` over w; (p, m, L)."""
    return _bracket(samples, _largest(_spectrum(samples)))


def fir_peak_gain_with_shift(samples: np.ndarray) -> tuple[float, float, float]:
    """A real number that added to D lowers the peak gain of the error, 0 with several channels, and its bracket."""
    spectrum = _spectrum(samples)
    shift = _centre(spectrum[:, 0, 0]) if spectrum.shape[1:] == (1, 1) else 0.0
    spectrum[:, :1, :1] -= shift
    samples = samples.copy()
    samples[:1, :1, 0] -= shift
    return shift, *_bracket(samples, _largest(spectrum))


def _spectrum(samples: np.ndarray) -> np.ndarray:
    return np.moveaxis(scipy.fft.rfft(samples, _points(samples)), -1, 0)


def _points(samples: np.ndarray) -> int:
    return int(scipy.fft.next_fast_len(_OVERSAMPLING * samples.shape[-1], real=True))


def _largest(spectrum: np.ndarray) -> float:
    if 1 in spectrum.shape[1:]:
        return float(np.sqrt((np.abs(spectrum) ** 2).sum((1, 2)).max()))
    return float(np.linalg.norm(spectrum, 2, axis=(1, 2)).max())


def _bracket(samples: np.ndarray, lower: float) -> tuple[float, float]:
    """The largest value on the grid, and a bound of the values between its points."""
    length, points = samples.shape[-1], _points(samples)
    rounding = 8.0 * _EPS * math.log2(points) * float(np.linalg.norm(np.abs(samples).sum(-1)))
    return lower, (lower + rounding) / math.cos(math.pi * (length - 1) / (2 * points))


def _centre(values: np.ndarray) -> float:
    """Real centre of the least circle around complex values: that of a few, to which the farthest is added in turn."""
    centre, chosen = 0.0, np.zeros(0, dtype=np.int64)
    for _ in range(_ROUNDS):
        farthest = int(np.abs(values - centre).argmax())
        if farthest in chosen:
            break
        chosen = np.append(chosen, farthest)
        centre = _centre_of_few(values[chosen])
    return centre


def _centre_of_few(values: np.ndarray) -> float:
    """Least maximum of the parabolas ``|v - c|^2``: at the vertex of one, or where two cross."""
    x, size = values.real, np.abs(values) ** 2
    with np.errstate(all="ignore"):
        crossings = (size[:, None] - size) / (2 * (x[:, None] - x))
    candidates = np.concatenate([x, crossings[np.isfinite(crossings)]])
    heights = (size[:, None] - 2 * np.outer(x, candidates) + candidates**2).max(0)
    return float(candidates[heights.argmin()])
