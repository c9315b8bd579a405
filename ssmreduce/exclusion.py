"""Peak gain of diagonal systems by phase exclusion: the compiled search, prepared, run and scaled back."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._arrays import Array, one_minus_abs2, to_numpy
from .errors import NonFiniteError
from .systems import DiagonalSSM, on_host

_NOTHING = -(2**20)  # exponent of a matrix of zeros


@dataclass(frozen=True, eq=False)
class PeakGain:
    """A proven bracket of the peak gain; arrays of the shape of the batch for a batch of systems.

    Attributes
    ----------
    gain : float
        Gain reached at `omega`: the peak gain, up to ``upper / gain - 1`` at most. A proven lower bound.
    omega : float
        Where it is reached, rad/sample in [0, pi].
    upper : float
        Proven upper bound.
    samples : int
        Frequency samples taken.
    method : str
        ``"exclusion"``; or ``"level-set"``, whose `upper` holds up to the rounding of an eigenvalue solver, unproven.
    """

    gain: Any
    omega: Any
    upper: Any
    samples: Any
    method: str = "exclusion"


def exclusion_budget(ssm: DiagonalSSM) -> int:
    """Samples that a search may take where nothing else is said."""
    return 20_000 + 100 * ssm.order


def exclusion_peak_gain(ssm: DiagonalSSM, rtol: float, budget: int, threads: int | None) -> PeakGain:
    """Bracket of the peak gain of each system of a batch; see `peak_gain`.

    Parameters
    ----------
    ssm : DiagonalSSM
        Stable.
    rtol : float
    budget : int
        Samples after which the bracket is returned as it is.
    threads : int or None
        Threads over the systems of a batch.

    Returns
    -------
    PeakGain

    Raises
    ------
    NonFiniteError
        A gain beyond the range of double precision.
    """
    ssm, exponent = scaled(ssm)
    found = ExclusionSearch(ssm).run(rtol, budget, threads=threads)
    return unscaled(PeakGain(*(a.reshape(ssm.batch) for a in (found.gain, found.omega, found.upper, found.samples))), exponent)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search of a batch of systems, its axes flattened, has found: (count,) each, points (count, 4)."""

    gain: np.ndarray
    upper: np.ndarray
    samples: np.ndarray
    points: np.ndarray

    @property
    def omega(self) -> np.ndarray:
        """Angles of the points, in [0, pi]."""
        return np.arctan2(self.points[:, 1], self.points[:, 0])


def scaled(ssm: DiagonalSSM) -> tuple[DiagonalSSM, np.ndarray]:
    """The system on the host with B, C and D near 1, and the power of two by which its gains are to be multiplied."""
    ssm = on_host(ssm)
    halves = [ssm.C] if ssm.C_reverse is None else [ssm.C, ssm.C_reverse]
    b, d = _exponent(ssm.B), _exponent(ssm.D)
    c = np.maximum.reduce([_exponent(C) for C in halves])
    exponent = np.maximum(b + c, d)
    exponent = np.where(exponent < _NOTHING // 2, 0, exponent)
    b = np.where(b == _NOTHING, 0, b)
    reverse = None if ssm.C_reverse is None else _ldexp(ssm.C_reverse, b - exponent)
    ssm = replace(ssm, B=_ldexp(ssm.B, -b), C=_ldexp(ssm.C, b - exponent), D=_ldexp(ssm.D, -exponent))
    return replace(ssm, C_reverse=reverse), exponent


def unscaled(peak: PeakGain, exponent: np.ndarray) -> PeakGain:
    """A bracket of the system as it was before `scaled`; Python numbers for a single system."""
    with np.errstate(over="ignore"):
        gain, upper = (np.ldexp(value, exponent) for value in (peak.gain, peak.upper))
    if not np.isfinite(upper).all():
        raise NonFiniteError("the peak gain is beyond the range of double precision; scale C and D down")
    if not exponent.shape:
        return PeakGain(float(gain), float(peak.omega), float(upper), int(peak.samples))
    return PeakGain(gain, peak.omega, upper, peak.samples)


def _exponent(matrix: np.ndarray) -> np.ndarray:
    """Binary exponent of the largest entry of each system's matrix."""
    size = np.maximum(np.abs(matrix.real), np.abs(matrix.imag)).max(axis=(-2, -1), initial=0.0)
    return np.where(size > 0, np.frexp(size)[1], _NOTHING)


def _ldexp(matrix: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    shift = exponent[..., None, None]
    if matrix.dtype.kind != "c":
        return np.ldexp(matrix, shift)
    return np.ldexp(matrix.real, shift) + 1j * np.ldexp(matrix.imag, shift)


class ExclusionSearch:
    """The contiguous host arrays, batch axes flattened, that the compiled search takes.

    Parameters
    ----------
    ssm : DiagonalSSM
        Stable, on the host, `scaled`.

    Attributes
    ----------
    triangle : ndarray, shape (count,), float64
        Upper bound of the sum of the norms of D and of all partial fractions, wherever on the circle.
    """

    def __init__(self, ssm: DiagonalSSM) -> None:
        n, m, p = ssm.order, ssm.inputs, ssm.outputs
        self.count = count = int(np.prod(ssm.batch, dtype=np.int64))
        self.halves = 1 + ssm.bidirectional

        def flat(value: Array, *shape: int) -> np.ndarray:
            return np.array(to_numpy(value), order="C").reshape(count, *shape)

        self.poles, B, D = flat(ssm.Lambda, n), flat(ssm.B, n, m), flat(ssm.D, p, m)
        C = ssm.kappa / 2.0 * flat(ssm.C, p, n)
        reverse = np.zeros_like(C) if ssm.C_reverse is None else ssm.kappa / 2.0 * flat(ssm.C_reverse, p, n)
        norms = np.linalg.norm(C, axis=-2) + np.linalg.norm(reverse, axis=-2)
        self.weights = np.linalg.norm(B, axis=-1) * norms
        gaps = one_minus_abs2(self.poles)
        scale = np.linalg.norm(D, axis=(-2, -1))
        triangle = scale + 2.0 * np.sum(self.weights * (1.0 + np.abs(self.poles)) / gaps, axis=-1)
        self.triangle = triangle * (1.0 + 2.0**-50 * (n + m * p + 8))  # its own rounding
        self.distinct = self._distinct_poles()
        counts = np.where(self.distinct, np.where(self.poles.imag == 0.0, 1, 2), 0)
        E, F = (np.concatenate([x.real, x.imag], axis=-1) for x in (C + reverse, C - reverse))
        transposed = [np.ascontiguousarray(np.swapaxes(x, -1, -2)) for x in (C, reverse)]
        if ssm.C_reverse is None:
            transposed[1] = np.zeros((count, 0, p), dtype=np.complex128)
        self.all = (self.poles, gaps, counts, self.weights, B, E, F, D, scale, *transposed)

    def run(self, rtol: float, budget: int, *, level: float = 0.0, threads: int | None = None) -> Found:
        """Bracket each peak gain to `rtol`; or, given a level, only find out whether the peak is above it."""
        from .kernels import _peak, _threads

        found = np.empty((self.count, 7))
        anchors = self._anchors()

        def part(start: int, stop: int) -> None:
            _peak.peak_gains(self.all, *anchors, self.halves, float(rtol), budget, level, start, stop, found)

        _threads.for_each_part(part, self.count, threads)
        gain, upper, samples = found.T[:3]
        upper = np.maximum(gain, np.minimum(upper, self.triangle))
        return Found(gain, upper, samples.astype(np.int64), found[:, 3:])

    def _distinct_poles(self) -> np.ndarray:
        """One state of each distinct pole pair that the transfer function has; equal poles add no phase."""
        real, imag = self.poles.real, np.abs(self.poles.imag)
        live = (self.weights > 0.0) & (self.poles != 0.0)
        real = np.where(live, real, 2.0)
        order = np.lexsort((imag, real), axis=-1)
        real, imag = (np.take_along_axis(a, order, axis=-1) for a in (real, imag))
        same = (real[:, 1:] == real[:, :-1]) & (imag[:, 1:] == imag[:, :-1])
        first = np.concatenate([np.ones((self.count, min(1, real.shape[1])), dtype=bool), ~same], axis=-1)
        distinct = np.empty_like(first)
        np.put_along_axis(distinct, order, first & (real < 2.0), axis=-1)
        return distinct

    def _anchors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poles folded into the upper half plane in the order of their angles, the angles, and how many there are."""
        folded = self.poles.real + 1j * np.abs(self.poles.imag)
        # a pole too small to be normalised stands for no direction worth a sample
        wanted = self.distinct & (folded.imag != 0.0) & (np.abs(folded) > 1e-100)
        angles = np.where(wanted, np.arctan2(folded.imag, folded.real), np.inf)
        order = np.argsort(angles, axis=-1)
        folded, angles = (np.take_along_axis(a, order, axis=-1) for a in (folded, angles))
        return folded, angles, np.sum(wanted, axis=-1)
