"""Balanced truncation: the square-root method on closed-form Gramian factors, back in diagonal form."""

import operator
from bisect import bisect_left
from functools import cached_property

import numpy as np
import scipy

from ..._support.arguments import real_number
from ...errors import SelectionError, UnattainableError, UnknownNameError
from ...norms._gramians import real_factor
from ...systems import DiagonalSSM
from ...systems._real import advance, output_rows, real_inputs, real_outputs, widening, with_outputs
from ...systems._states import take_states
from ._base import Part, Reduction, reduce_each, stored_order, stored_states

METHODS = ("auto", "square_root", "balancing_free")
_SMALLEST_BALANCED = 1e-8  # relative Hankel singular value below which the projection is left unbalanced
_RANK = 1e-15  # relative Hankel singular value that is rounding


def balanced_truncation(
    ssm: DiagonalSSM, order: int | None = None, *, tolerance: float | None = None, method: str = "auto"
) -> Reduction:
    r"""Balanced truncation: drop what is hard to reach and hard to see; the peak gain of the error is bounded.

    With factors :math:`P = L L^T`, :math:`Q = K K^T` of the Gramians of the real system and
    :math:`K^T L = U \Sigma V^T`, the system is projected with :math:`T_r = L V_1 \Sigma_1^{-1/2}` and
    :math:`T_l = K U_1 \Sigma_1^{-1/2}` [1]_, and its eigenvectors make it diagonal again. For the real order r,

    .. math:: \|G - \hat G\|_\infty \le 2 (\sigma_{r+1} + \dots + \sigma_{2n})

    [2]_. No system of real order r with the same D comes closer than :math:`\sigma_{r+1}`.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int, optional
        Stored states that may be left. A conjugate pair costs one, and so does a real pole: the result has the largest
        real order that fits, and may store fewer states.
    tolerance : float, optional
        Instead of `order`, or with it as a limit: the bound on the error, relative to the Hankel norm
        :math:`\sigma_1`; the smallest order that meets it is taken.
    method : {"auto", "square_root", "balancing_free"}
        ``"balancing_free"`` projects on orthonormal bases of the same spaces [3]_, which loses less where
        :math:`\sigma_r \ll \sigma_1`; ``"auto"`` takes it where that ratio is below 1e-8.

    Returns
    -------
    Reduction
        Real poles have real inputs and, with `conj_sym`, half their C. D is unchanged. Systems of a batch are filled up
        with silent states to one order.

    Raises
    ------
    SelectionError
        Neither `order` nor `tolerance`, or an order outside 0 ... n.
    UnattainableError
        A tolerance that is not positive, or that `order` states do not meet.
    UnknownNameError
        Another `method`.

    Notes
    -----
    When to use it: for the smallest peak gain of the error at a given size. It replaces poles, B and C; where the poles
    must stay, see `compensated_truncation` and `greedy_elimination`.

    The scan form is truncated as it is stored (C, not :math:`C \Lambda`): on the unit circle the factor z changes no
    gain. A bidirectional system shares its states between both halves, so it is reduced with the outputs of both
    stacked, and the bound grows by :math:`\sqrt2` for one input, by 2 for several. O(n^3).

    References
    ----------
    .. [1] Tombs and Postlethwaite, "Truncated balanced realization of a stable non-minimal state-space system", Int. J.
       Control 46 (1987).
    .. [2] Al-Saggaf and Franklin, "An error bound for a discrete reduced order model of a linear multivariable system",
       IEEE Trans. Automat. Control 32 (1987).
    .. [3] Varga, "Efficient minimal realization procedure based on balancing", IMACS Symposium MCTS, 1991.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.5j], [[1.0], [0.1]], [[1.0, 0.1]], [[0.0]], conj_sym=True)
    >>> reduction = balanced_truncation(ssm, 1)
    >>> reduction.ssm.Lambda.round(2), round(reduction.bound, 2)
    (array([0.9+0.j]), 0.05)
    """
    if order is None and tolerance is None:
        raise SelectionError("balanced truncation needs an order or a tolerance")
    if tolerance is not None and not real_number(tolerance, "tolerance") > 0:
        raise UnattainableError(f"the tolerance must be positive, got {tolerance}")
    if method not in METHODS:
        raise UnknownNameError(f"there is no method {method!r}; choose from {', '.join(METHODS)}")
    if tolerance is None:
        return reduce_each(ssm, order or 0, lambda one, k: _by_order(Balanced(one, method), k), "balanced")
    limit = ssm.order if order is None else order
    whole = order is None

    def by_tolerance(one: DiagonalSSM, k: int) -> Part:
        return _by_tolerance(Balanced(one, method), k, tolerance, whole)

    return reduce_each(ssm, limit, by_tolerance, "balanced", identity=False)


class Balanced:
    """Projections of one stable system on its largest Hankel singular values."""

    def __init__(self, ssm: DiagonalSSM, method: str = "auto") -> None:
        C = output_rows(ssm)
        L = real_factor(ssm.Lambda, ssm.B)
        K = ssm.kappa / 2.0 * real_factor(ssm.Lambda.conj(), C.conj().T)
        U, self.values, V = scipy.linalg.svd(K.T @ L, check_finite=False)
        self.rank = int(np.count_nonzero(self.values > _RANK * self.values.max(initial=0.0)))
        self.ssm, self.method, self.outputs = ssm, method, real_outputs(C, ssm.kappa)
        self.left, self.right = K @ U[:, : self.rank], L @ V[: self.rank].T

    @cached_property
    def _middle(self) -> np.ndarray:
        return self.left.T @ advance(self.ssm.Lambda, self.right)

    def bound(self, order: int) -> float:
        """Of the peak gain of the error at a real order."""
        return float(2.0 * widening(self.ssm) * self.values[order:].sum())

    def project(self, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A, B, C of the real truncated system, C in scan form."""
        left, right, values = self.left[:, :order], self.right[:, :order], self.values[:order]
        A, inputs, C = self._middle[:order, :order], left.T @ real_inputs(self.ssm.B), self.outputs @ right
        if self.method == "square_root" or (self.method == "auto" and values[-1] > _SMALLEST_BALANCED * values[0]):
            root = np.sqrt(values)
            return A / root[:, None] / root, inputs / root[:, None], C / root
        return self._project_unbalanced(left, right)

    def _project_unbalanced(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left, right = np.linalg.qr(left)[0], np.linalg.qr(right)[0]
        rows = np.linalg.solve(left.T @ right, left.T)
        return rows @ advance(self.ssm.Lambda, right), rows @ real_inputs(self.ssm.B), self.outputs @ right


def truncated(ssm: DiagonalSSM, order: int) -> Part:
    """Balanced truncation of a stable single system."""
    return _by_order(Balanced(ssm), order)


def _by_order(balanced: Balanced, order: int) -> Part:
    """The largest real order whose diagonal form stores at most `order` states."""
    orders = range(min(2 * order, balanced.rank), -1, -1)
    return next(part for r in orders if (part := _at(balanced, r, order)) is not None)


def _by_tolerance(balanced: Balanced, order: int, tolerance: float, whole: bool) -> Part:
    """The smallest real order that meets the tolerance, or where that is not smaller the system as it is."""
    allowed = tolerance * balanced.values.max(initial=0.0)
    bounds = [balanced.bound(r) for r in range(balanced.rank + 1)]
    limit = order - 1 if whole else order
    for real_order in range(bisect_left(bounds, -allowed, key=operator.neg), min(2 * limit, balanced.rank) + 1):
        part = _at(balanced, real_order, limit)
        if part is not None:
            return part
    if whole:
        return Part(balanced.ssm, 0.0)
    raise UnattainableError(
        f"{order} stored states do not meet the tolerance {tolerance:g} of {balanced.ssm!r}: at the largest real order "
        f"that they may hold, {min(2 * order, balanced.rank)}, the bound is "
        f"{bounds[min(2 * order, balanced.rank)] / balanced.values[0]:.3g} of the Hankel norm"
    )


def _at(balanced: Balanced, real_order: int, limit: int) -> Part | None:
    """The truncated system if its diagonal form stores at most `limit` states and is reliable."""
    if real_order == 0:
        return Part(take_states(balanced.ssm, np.arange(0)), balanced.bound(0))
    A, B, C = balanced.project(real_order)
    if real_order > limit and stored_order(A) > limit:
        return None
    states = stored_states(A, B, C, balanced.ssm.kappa)
    if states is None or states[0].size > limit:
        return None
    return Part(with_outputs(balanced.ssm, *states), balanced.bound(real_order))
