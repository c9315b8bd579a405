"""What a reduction cost: the error system, its certified peak gain, its exact H2 norm, and what no method can beat."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from .._support.arrays import one_minus_abs
from ..norms import h2_norm, hankel_singular_values
from ..norms.peak import peak_gain
from ..systems import DiagonalSSM, error_system, unstable_states
from ..systems._batches import single_systems, stable_part
from ..systems._error import without_silent
from ..systems._real import output_rows, widening
from ..systems._systems import on_host

_ROUNDING = 1e-13  # relative error of Hankel singular values
_RANK = 1e-12  # relative Hankel singular value that counts as 0


@dataclass(frozen=True)
class Certificate:
    r"""The cost of reducing one layer; gains are those of the whole layer (the largest over a batch of systems).

    Attributes
    ----------
    error : float
        Peak gain of the error: a gain that it reaches. ``inf`` where an unstable state was changed.
    upper : float
        Proven upper bound on the peak gain of the error.
    h2_error : float
        Exact H2 norm of the error.
    real_order : int
        Order r of the real system that the stable part of the reduced one is: its nonzero Hankel singular values.
    lower_bound : float
        :math:`\sigma_{r+1}`, less a rounding of :math:`10^{-13} \sigma_1`: no system of that order comes closer in peak
        gain.
    a_priori : float
        :math:`2 (\sigma_{r+1} + \dots)`: holds for balanced truncation (and balanced singular perturbation) to that
        order in exact arithmetic, says nothing of other methods. Doubled for a bidirectional layer with several inputs,
        times :math:`\sqrt2` for one input. The poles of a reduced system are rounded, which adds about
        :math:`10^{-15} |c| |b| / (1 - |\lambda|)^2` a state: more than the bound itself for states with
        :math:`1 - |\lambda| < 10^{-5}`. `error` and `upper` are of the system as it is stored.
    norm, h2_norm : float
        Peak gain and H2 norm of the original, of its stable part if it has unstable states.
    """

    error: float
    upper: float
    h2_error: float
    real_order: int
    lower_bound: float
    a_priori: float
    norm: float
    h2_norm: float

    @property
    def multiple(self) -> float:
        """Proven error over the lower bound; 1 is optimal, ``nan`` where both are 0."""
        return _ratio(self.upper, self.lower_bound)

    @property
    def relative(self) -> float:
        """Proven error over the peak gain of the original."""
        return _ratio(self.upper, self.norm)

    @property
    def relative_h2(self) -> float:
        """H2 error over the H2 norm of the original."""
        return _ratio(self.h2_error, self.h2_norm)


def _ratio(a: float, b: float) -> float:
    return float(np.divide(a, b)) if b else (float("inf") if a else float("nan"))


def certify(ssm: DiagonalSSM, reduced: DiagonalSSM, *, rtol: float = 1e-3) -> Certificate:
    r"""Errors of a reduced layer: certified peak gain, exact H2 norm, and the bounds beside them.

    .. math:: \sigma_{r+1} \le \|G - \hat G\|_\infty \le \text{upper}

    with the Hankel singular values of the original and r the order of the real system that the reduced one is [1]_.

    Parameters
    ----------
    ssm : DiagonalSSM
        The original. Batch axes allowed. Arrays of a device are taken to the host.
    reduced : DiagonalSSM
        Made by any method, of the same inputs, outputs and batch.
    rtol : float, default 1e-3
        Relative width of the bracket of the peak gain.

    Returns
    -------
    Certificate

    Raises
    ------
    ShapeError
        Systems that do not fit together.

    Notes
    -----
    Unstable states that both have, bit for bit, cancel, and bounds and norms are those of the stable part; an unstable
    state of one only makes the errors infinite.

    The lower bound is that of the scan form where D is unchanged, else of the lags 1, 2, ...; for a bidirectional layer
    it is the larger one of its halves, since a two-sided system comes no closer than its causal part does. Where the
    reduced system has itself singular values beyond r, which are rounding, they are subtracted (Weyl's inequality).

    References
    ----------
    .. [1] Glover, "All optimal Hankel-norm approximations of linear multivariable systems and their L-infinity error
       bounds", Int. J. Control 39 (1984).

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.5], [[1.0], [0.1]], [[1.0, 0.1]], [[0.0]])
    >>> certificate = certify(ssm, DiagonalSSM([0.9], [[1.0]], [[1.0]], [[0.0]]))
    >>> round(certificate.error, 12), round(certificate.h2_error, 6), round(certificate.lower_bound, 6)
    (0.02, 0.011547, 0.007044)
    """
    return Original(ssm, rtol).certificate(reduced)


class Original:
    """A layer with which several are compared: its norms and singular values are computed once."""

    def __init__(self, ssm: DiagonalSSM, rtol: float = 1e-3) -> None:
        self.ssm, self.rtol = ssm, rtol
        self._values: dict[tuple, np.ndarray] = {}

    @cached_property
    def norms(self) -> tuple[float, float]:
        """Peak gain and H2 norm of the stable part."""
        stable = without_silent(_zeroed_unstable(on_host(self.ssm)))
        return _peak(stable, self.rtol)[0], _h2(stable)

    @cached_property
    def singles(self) -> list[DiagonalSSM]:
        """The stable parts of its systems."""
        return [stable_part(one) for one in single_systems(self.ssm)]

    def certificate(self, reduced: DiagonalSSM) -> Certificate:
        """See `certify`."""
        error = error_system(self.ssm, reduced)
        order, lower, a_priori = self._bounds(reduced)
        return Certificate(*_peak(error, self.rtol), _h2(error), order, lower, a_priori, *self.norms)

    @property
    def has_hankel(self) -> bool:
        """Whether a certificate has computed what `hankel` returns."""
        return (0, 0, "scan") in self._values

    def hankel(self) -> dict[str, np.ndarray]:
        """Hankel singular values of the causal and of the reverse half, the largest of a batch at each place."""
        found: dict[str, np.ndarray] = {}
        for index, ssm in enumerate(self.singles):
            for half, (label, whole) in enumerate(zip(("causal", "reverse"), _halves(ssm), strict=False)):
                values = self._singular_values((index, half, "scan"), whole)
                other = found.get(label, np.zeros(0))
                long, short = (values, other) if values.size >= other.size else (other, values)
                found[label] = np.maximum(long, np.pad(short, (0, long.size - short.size)))
        return found

    def _bounds(self, reduced: DiagonalSSM) -> tuple[int, float, float]:
        """Real order, lower bound and a-priori bound of a layer, from its stable part."""
        others = [stable_part(one) for one in single_systems(reduced)]
        bounds = [self._bounds_of_one(i, other) for i, other in enumerate(others)]
        orders, lower, a_priori = zip(*bounds, strict=True) if bounds else ((0,), (0.0,), (0.0,))
        return max(orders), max(lower), max(a_priori)

    def _bounds_of_one(self, index: int, reduced: DiagonalSSM) -> tuple[int, float, float]:
        ssm = self.singles[index]
        form = "scan" if not ssm.bidirectional and (ssm.D == reduced.D).all() else "textbook"
        lower = max(
            _lower_bound(self._singular_values((index, half, form), whole), hankel_singular_values(other, form=form))
            for half, (whole, other) in enumerate(zip(_halves(ssm), _halves(reduced), strict=True))
        )
        stacked_form = "scan" if ssm.bidirectional else form
        stacked = self._singular_values((index, "stacked", stacked_form), _with_rows(ssm, output_rows(ssm)))
        order = _degree(hankel_singular_values(_with_rows(reduced, output_rows(reduced))))
        return order, lower, float(2.0 * widening(ssm) * stacked[order:].sum())

    def _singular_values(self, key: tuple, ssm: DiagonalSSM) -> np.ndarray:
        if key not in self._values:
            self._values[key] = hankel_singular_values(ssm, form=key[-1])
        return self._values[key]


def _zeroed_unstable(ssm: DiagonalSSM) -> DiagonalSSM:
    return replace(ssm, B=np.where(one_minus_abs(ssm.Lambda)[..., None] > 0, ssm.B, 0.0))


def _peak(ssm: DiagonalSSM, rtol: float) -> tuple[float, float]:
    if unstable_states(ssm).size:
        return float("inf"), float("inf")
    peak = peak_gain(ssm, rtol=rtol)
    return float(np.max(peak.gain, initial=0.0)), float(np.max(peak.upper, initial=0.0))


def _h2(ssm: DiagonalSSM) -> float:
    """H2 norm of a layer, of all systems of a batch together."""
    return float("inf") if unstable_states(ssm).size else float(np.linalg.norm(np.ravel(h2_norm(ssm))))


def _lower_bound(values: np.ndarray, other: np.ndarray) -> float:
    """Weyl's inequality for Hankel operators, at the order of the reduced system."""
    order = _degree(other)
    if order >= values.size:
        return 0.0
    return max(0.0, float(values[order] - (other[order] if order < other.size else 0.0) - _ROUNDING * values[0]))


def _degree(values: np.ndarray) -> int:
    return int(np.count_nonzero(values > _RANK * values.max(initial=0.0)))


def _halves(ssm: DiagonalSSM) -> list[DiagonalSSM]:
    return [_with_rows(ssm, C) for C in (ssm.C, ssm.C_reverse) if C is not None]


def _with_rows(ssm: DiagonalSSM, C: np.ndarray) -> DiagonalSSM:
    return DiagonalSSM(ssm.Lambda, ssm.B, C, np.zeros((C.shape[0], ssm.inputs)), conj_sym=ssm.conj_sym)
