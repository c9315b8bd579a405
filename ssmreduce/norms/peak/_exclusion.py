"""Peak gain of diagonal systems by phase exclusion: the compiled search, prepared, run and scaled back."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..._support.arrays import Array, one_minus_abs2, to_numpy
from ..._support.threads import for_each_part
from ...errors import NonFiniteError
from ...systems import DiagonalSSM
from ._bracket import PeakGain
from ._phases import phases
from ._types import System

_NOTHING = -(2**20)  # exponent of a matrix of zeros
_SAMPLES, _SAMPLES_OF_A_STATE = 40, 4  # that a search takes, about


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
    systems, exponent = scaled(ssm)
    return unscaled(ExclusionSearch(systems).run(rtol, budget, threads=threads), exponent, ssm.batch)


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


class HostSystems(NamedTuple):
    """Matrices of a batch of systems on the host, its axes flattened; C and C_reverse hold the factor kappa / 2."""

    Lambda: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    C_reverse: np.ndarray | None


def scaled(ssm: DiagonalSSM) -> tuple[HostSystems, np.ndarray]:
    """Systems with B, C and D near 1, and the power of two by which the gains of each are to be multiplied."""
    count = ssm.systems

    def flat(value: Array) -> np.ndarray:
        return to_numpy(value).reshape(count, *value.shape[len(ssm.batch) :])

    Lambda, B, D = flat(ssm.Lambda), flat(ssm.B), flat(ssm.D)
    halves = [flat(half) for half in (ssm.C, ssm.C_reverse) if half is not None]
    b, d = _exponent(B), _exponent(D)
    c = np.maximum.reduce([_exponent(C) for C in halves])
    exponent = np.maximum(b + c, d)
    exponent[exponent < _NOTHING // 2] = 0
    b[b == _NOTHING] = 0
    shift = b - exponent + (0 if ssm.conj_sym else -1)
    halves = [_ldexp(C, shift) for C in halves]
    reverse = halves[1] if ssm.bidirectional else None
    return HostSystems(Lambda, _ldexp(B, -b), halves[0], _ldexp(D, -exponent), reverse), exponent


def unscaled(found: "Found", exponent: np.ndarray, batch: tuple[int, ...]) -> PeakGain:
    """Brackets of the systems as they were before `scaled`; Python numbers for a single system."""
    with np.errstate(over="ignore"):
        gain, upper = np.ldexp(found.gain, exponent), np.ldexp(found.upper, exponent)
    if not np.isfinite(upper).all():
        raise NonFiniteError("the peak gain is beyond the range of double precision; scale C and D down")
    if not batch:
        return PeakGain(float(gain[0]), float(found.omega[0]), float(upper[0]), int(found.samples[0]))
    gain, omega, upper, samples = (a.reshape(batch) for a in (gain, found.omega, upper, found.samples))
    return PeakGain(gain, omega, upper, samples)


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
    """The contiguous arrays that the compiled search takes.

    Parameters
    ----------
    systems : HostSystems
        Stable and `scaled`.

    Attributes
    ----------
    arrays : tuple of ndarray
        Those of a `System`, for all systems.
    triangle : ndarray, shape (count,), float64
        Upper bound of the sum of the norms of D and of all partial fractions, wherever on the circle.
    """

    def __init__(self, systems: HostSystems) -> None:
        Lambda, B, C, D, reverse = systems
        (count, n, m), p = B.shape, D.shape[1]
        self.count, self.halves = count, 1 if reverse is None else 2
        norms = np.linalg.norm(C, axis=1)
        E = F = C
        transposed = [np.swapaxes(C, 1, 2), np.zeros((count, 0, p), dtype=np.complex128)]
        if reverse is not None:
            norms, E, F = norms + np.linalg.norm(reverse, axis=1), C + reverse, C - reverse
            transposed[1] = np.swapaxes(reverse, 1, 2)
        weights = np.linalg.norm(B, axis=2) * norms
        gaps = one_minus_abs2(Lambda)
        scale = np.linalg.norm(D, axis=(1, 2))
        triangle = scale + 2.0 * np.sum(weights * (1.0 + np.abs(Lambda)) / gaps, axis=1)
        self.triangle = triangle * (1.0 + 2.0**-50 * (n + m * p + 8))  # its own rounding
        counts, anchors, angles, numbers = phases(Lambda, weights)
        E, F = (np.concatenate([x.real, x.imag], axis=2) for x in (E, F))
        arrays = (Lambda, gaps, counts, weights, B, E, F, D, scale, *transposed)
        self.arrays = tuple(np.require(a, requirements=("C", "W")) for a in arrays)  # one type for compiled code
        self.anchors = anchors, angles, numbers

    @property
    def first(self) -> System:
        """The first system."""
        return System(*(array[0] for array in self.arrays))

    def run(self, rtol: float, budget: int, *, level: float = 0.0, threads: int | None = None) -> Found:
        """Bracket each peak gain to `rtol`; or, given a level, only find out whether the peak is above it."""
        from ._effort import peak_gains

        found = np.empty((self.count, 7))
        arguments = self.arrays, self.anchors, self.halves, (float(rtol), budget, float(level))
        n = self.arrays[0].shape[1]
        search = peak_gains.chosen((*arguments, 0, 0, found), work=self.count * (_SAMPLES + _SAMPLES_OF_A_STATE * n))

        def part(start: int, stop: int) -> None:
            with np.errstate(all="ignore"):  # where it runs as plain Python
                search(*arguments, start, stop, found)

        for_each_part(part, self.count, threads)
        gain, upper, samples = found.T[:3]
        upper = np.maximum(gain, np.minimum(upper, self.triangle))
        return Found(gain, upper, samples.astype(np.int64), found[:, 3:])
