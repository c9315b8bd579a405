"""Peak gain of systems with more inputs and outputs than states, each level checked on a small equivalent system.

The theory page "Peak gain", section "Wide systems", has the equivalence and its proof.
"""

from dataclasses import dataclass, replace

import numpy as np

from .exclusion import ExclusionSearch, PeakGain, scaled, unscaled
from .level_set import largest_singular_triple
from .systems import DiagonalSSM

_ROUNDS = 30
_ROUGH = 1e-2  # bracket of the first small system, which only says where to look
_UNIT = 2.0**-53


def wide_peak_gain(ssm: DiagonalSSM, rtol: float, budget: int) -> PeakGain | None:
    r"""Bracket of the peak gain of one system with more inputs and outputs than states; None where rounding forbids it.

    A level is certified on the small system that stands for it, or beaten there: then the gain of the whole system at
    the peak of the small one is the next level.

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
    ssm, exponent = scaled(ssm)
    whole, small = ExclusionSearch(ssm), _SmallSystems(ssm)
    found = ExclusionSearch(small.system).run(_ROUGH, budget, threads=1)
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
            return unscaled(PeakGain(gain, best.omega, max(upper, gain), samples), exponent)
    return None


@dataclass(frozen=True, eq=False)
class _Sample:
    """Gain of a system at a point of the circle, and its singular vectors."""

    gain: float
    point: tuple = ()
    vectors: tuple = ()

    @classmethod
    def at(cls, search: ExclusionSearch, point: np.ndarray) -> "_Sample":
        from .kernels import _peak

        gain, u, v = largest_singular_triple(_peak.response_at(search.all, point))
        return cls(gain, tuple(point), (u, v))

    @property
    def omega(self) -> float:
        return float(np.arctan2(self.point[1], self.point[0]))

    def proven(self, search: ExclusionSearch) -> float:
        """Proven lower bound of the gain."""
        from .kernels import _circle

        poles, B, D, C, reverse = (search.all[k][0] for k in (0, 4, 7, 9, 10))
        return _circle.proven_gain(self.point, poles, B, C, reverse, D, *self.vectors)


class _SmallSystems:
    """Turns inputs and outputs so that few carry the states, and eliminates the others at a level.

    Parameters
    ----------
    ssm : DiagonalSSM
        A single system on the host.

    Attributes
    ----------
    system : DiagonalSSM
        From the inputs to the outputs that carry the states.
    D : ndarray, shape (p, m), float64
        The whole feedthrough; that of `system` is its leading block.
    """

    def __init__(self, ssm: DiagonalSSM) -> None:
        from scipy.linalg import qr

        halves = [ssm.C] if ssm.C_reverse is None else [ssm.C, ssm.C_reverse]
        left, C = qr(np.hstack([x for half in halves for x in (half.real, half.imag)]))
        right, B = qr(np.vstack([ssm.B.real, ssm.B.imag]).T)
        n, self.rows, self.columns = ssm.order, min(C.shape), min(B.shape)
        D = left.T @ ssm.D @ right
        B, C = B[: self.columns].T, C[: self.rows]
        parts = [C[:, 2 * k * n : (2 * k + 1) * n] + 1j * C[:, (2 * k + 1) * n : 2 * (k + 1) * n] for k in range(len(halves))]
        self.D, self.gram = D, D[self.rows :].T @ D[self.rows :]
        self.system = replace(
            ssm,
            B=B[:n] + 1j * B[n:],
            C=parts[0],
            D=D[: self.rows, : self.columns],
            C_reverse=None if ssm.C_reverse is None else parts[1],
        )

    def at(self, level: float) -> DiagonalSSM:
        """The system whose gains are below the level where those of the whole one are."""
        from scipy.linalg import solve_triangular

        rows, columns, system = self.rows, self.columns, self.system
        gram = self.gram / level
        inner = np.linalg.cholesky(level * np.eye(len(gram) - columns) - gram[columns:, columns:])
        coupling = np.hstack([self.D[:rows, columns:].T, -gram[columns:, :columns]])
        coupling = solve_triangular(inner, coupling, lower=True)
        out, into = coupling[:, :rows], coupling[:, rows:]
        left = np.linalg.cholesky(np.eye(rows) - out.T @ out / level)
        right = np.linalg.cholesky(np.eye(columns) - (gram[:columns, :columns] + into.T @ into) / level)

        def from_left(matrix: np.ndarray) -> np.ndarray:
            return solve_triangular(left, matrix, lower=True)

        def from_right(matrix: np.ndarray) -> np.ndarray:
            return solve_triangular(right, matrix.T, lower=True).T

        return replace(
            system,
            B=from_right(system.B),
            C=from_left(system.C),
            D=from_right(from_left(system.D - out.T @ into)),
            C_reverse=None if system.C_reverse is None else from_left(system.C_reverse),
        )

    def rounding(self, level: float, whole: float, small: float) -> float:
        """Bound on what rounding can have hidden, from bounds of the sums of all terms of both systems."""
        p, m = self.D.shape
        states = max(self.rows, self.columns)
        turned = 16.0 * (p + m) * states * whole
        eliminated = 4.0 * (p + m) ** 2 * level + 2.0 * (p + m) * np.linalg.norm(self.D) ** 2 / level
        solved = 4.0 * states**2 * small
        return float((turned + eliminated + solved) * _UNIT)
