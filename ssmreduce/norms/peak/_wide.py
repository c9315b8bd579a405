"""Peak gain of systems with more inputs and outputs than states, each level checked on a small equivalent system.

The theory page "Peak gain", section "Wide systems", has the equivalence and its proof.
"""

from dataclasses import dataclass

import numpy as np

from ...systems import DiagonalSSM
from ._bracket import PeakGain
from ._exclusion import ExclusionSearch, Found, HostSystems, scaled, unscaled
from ._level_set import largest_singular_triple

_ROUNDS = 30
_ROUGH = 1e-2  # bracket of the first small system, which only says where to look
_UNIT = 2.0**-53


def wide_peak_gain(ssm: DiagonalSSM, rtol: float, budget: int) -> PeakGain | None:
    r"""Bracket of the peak gain of one system with more inputs and outputs than states; None where rounding forbids it.

    A level is certified on the small system that stands for it, or beaten there: then the gain of the whole system at
    the best point of the small one is the next level.

    .. math:: \|G\|_\infty \le \max(\gamma, \|G_\gamma\|_\infty)

    Parameters
    ----------
    ssm : DiagonalSSM
        Stable, a single system.
    rtol : float
    budget : int
        Samples of a small system after which the bracket is returned as it is.

    Returns
    -------
    PeakGain or None
    """
    systems, exponent = scaled(ssm)
    whole, small = ExclusionSearch(systems), _SmallSystems(systems)
    found = ExclusionSearch(small.systems).run(_ROUGH, budget, threads=1)
    best, samples = _Sample(0.0), 0
    for _ in range(_ROUNDS):
        samples += int(found.samples[0]) + 1
        sample = _Sample.at(whole, found.points[0])
        if sample.gain <= best.gain:
            return None
        best, level = sample, sample.gain * (1.0 + 0.5 * rtol)
        try:
            search = ExclusionSearch(small.at(level))
        except np.linalg.LinAlgError:
            return None
        found = search.run(rtol, budget, level=level, threads=1)
        if found.gain[0] <= level:
            samples += int(found.samples[0]) + 1
            best = max(best, _Sample.at(whole, found.points[0]), key=lambda sample: sample.gain)
            upper = max(level, found.upper[0]) + small.rounding(level, whole.triangle[0], search.triangle[0])
            gain = best.proven(whole)
            row = np.array([[gain, max(upper, gain), samples]])
            return unscaled(Found(row[:, 0], row[:, 1], row[:, 2], np.array([best.point])), exponent, ())
    return None


def proven_gain_at(ssm: DiagonalSSM, omega: float) -> float:
    """Proven lower bound of the gain of a single system at the point of the circle that is nearest to an angle."""
    from ._effort import direction

    systems, exponent = scaled(ssm)
    search = ExclusionSearch(systems)
    point = np.array(direction(complex(np.cos(omega), np.sin(omega))))
    return float(np.ldexp(_Sample.at(search, point).proven(search), exponent[0]))


@dataclass(frozen=True, eq=False)
class _Sample:
    """Gain of a system at a point of the circle, and its singular vectors."""

    gain: float
    point: tuple = ()
    vectors: tuple = ()

    @classmethod
    def at(cls, search: ExclusionSearch, point: np.ndarray) -> "_Sample":
        from ._plain import response_at

        gain, u, v = largest_singular_triple(response_at(search.first, tuple(point)))
        return cls(gain, tuple(point), (u, v))

    def proven(self, search: ExclusionSearch) -> float:
        """Proven lower bound of the gain."""
        from ._effort import proven_gain

        return float(proven_gain(self.point, search.first, *self.vectors))


class _SmallSystems:
    """Turns inputs and outputs so that few carry the states, and eliminates the others at a level.

    Parameters
    ----------
    systems : HostSystems
        A single one.

    Attributes
    ----------
    systems : HostSystems
        From the inputs to the outputs that carry the states.
    D : ndarray, shape (p, m), float64
        The whole feedthrough, turned; that of `systems` is its leading block.
    """

    def __init__(self, systems: HostSystems) -> None:
        from scipy.linalg import qr

        poles, B, C, D, reverse = systems
        halves = [half[0] for half in (C, reverse) if half is not None]
        left, C = qr(np.hstack([x for half in halves for x in (half.real, half.imag)]))
        right, B = qr(np.vstack([B[0].real, B[0].imag]).T)
        n, self.rows, self.columns = poles.shape[1], min(C.shape), min(B.shape)
        self.D = left.T @ D[0] @ right
        self.gram = self.D[self.rows :].T @ self.D[self.rows :]
        B, C = B[: self.columns].T, C[: self.rows]
        halves = [C[:, k : k + n] + 1j * C[:, k + n : k + 2 * n] for k in range(0, C.shape[1], 2 * n)]
        D = self.D[: self.rows, : self.columns]
        self.systems = _single(poles[0], B[:n] + 1j * B[n:], halves, D)

    def at(self, level: float) -> HostSystems:
        """The system whose gains are below the level where those of the whole one are."""
        from scipy.linalg import solve_triangular

        rows, columns = self.rows, self.columns
        poles, B, C, D, reverse = self.systems
        gram = self.gram / level
        inner = np.linalg.cholesky(level * np.eye(len(gram) - columns) - gram[columns:, columns:])
        coupling = np.hstack([self.D[:rows, columns:].T, -gram[columns:, :columns]])
        coupling = solve_triangular(inner, coupling, lower=True, check_finite=False)
        out, into = coupling[:, :rows], coupling[:, rows:]
        left = np.linalg.cholesky(np.eye(rows) - out.T @ out / level)
        right = np.linalg.cholesky(np.eye(columns) - (gram[:columns, :columns] + into.T @ into) / level)

        def from_left(matrix: np.ndarray) -> np.ndarray:
            return solve_triangular(left, matrix, lower=True, check_finite=False)

        def from_right(matrix: np.ndarray) -> np.ndarray:
            return solve_triangular(right, matrix.T, lower=True, check_finite=False).T

        halves = [from_left(half[0]) for half in (C, reverse) if half is not None]
        return _single(poles[0], from_right(B[0]), halves, from_right(from_left(D[0] - out.T @ into)))

    def rounding(self, level: float, whole: float, small: float) -> float:
        """Bound on what rounding can have hidden, from bounds of the sums of all terms of both systems."""
        p, m = self.D.shape
        states = max(self.rows, self.columns)
        turned = 16.0 * (p + m) * states * whole
        eliminated = 4.0 * (p + m) ** 2 * level + 2.0 * (p + m) * np.linalg.norm(self.D) ** 2 / level
        solved = 4.0 * states**2 * small
        return float((turned + eliminated + solved) * _UNIT)


def _single(poles: np.ndarray, B: np.ndarray, halves: list[np.ndarray], D: np.ndarray) -> HostSystems:
    halves = [half[None] for half in halves]
    return HostSystems(poles[None], B[None], halves[0], D[None], halves[1] if len(halves) > 1 else None)
