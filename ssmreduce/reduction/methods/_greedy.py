"""Greedy elimination: the states leave one by one, each time the one whose loss the others make good best."""

import numpy as np

from ...errors import UnknownNameError
from ...norms._gramians import real_gramian, unit_diagonal
from ...selection._path import elimination_order
from ...systems import DiagonalSSM
from ...systems._real import output_rows, real_outputs
from ...systems._states import take_states
from ._base import Part, Reduction, reduce_each
from ._compensated import refitted

RULES = ("h2", "hankel")
_FLOOR = 1e-12  # relative to the largest eigenvalue of a scaled Gramian, which may be singular


def greedy_elimination(ssm: DiagonalSSM, order: int, *, rule: str = "h2", iterations: int = 8) -> Reduction:
    r"""Greedy elimination of states by exact cost, then B and C refitted as in `compensated_truncation`.

    Deleting pair i and refitting C of the others optimally adds exactly

    .. math:: \mathrm{tr}\left(C_i [(P^{-1})_{ii}]^{-1} C_i^T\right)

    to the squared H2 error (``h2``; optimal brain surgeon [1]_ with the Gramian as the Hessian). Its two-sided dual
    (``hankel``) takes the largest eigenvalue of :math:`[(P^{-1})_{ii}]^{-1} [(Q^{-1})_{ii}]^{-1}`: the squared Hankel
    singular value of the part of the pair that the others neither reach nor show. After each deletion
    :math:`P^{-1}`, :math:`Q^{-1}` and C are updated in closed form.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int
        Stored states that are left.
    rule : {"h2", "hankel"}
    iterations : int, default 8
        Of the final refit.

    Returns
    -------
    Reduction

    Raises
    ------
    SelectionError
        An order outside 0 ... n.
    UnknownNameError
        Another rule.

    Notes
    -----
    When to use it: for the best diagonal system with poles of the original; ``h2`` for the smallest H2 error,
    ``hankel`` where the peak gain counts. A bidirectional layer is treated with the outputs of both halves stacked.
    O(n^3).

    References
    ----------
    .. [1] Hassibi and Stork, "Second order derivatives for network pruning: Optimal Brain Surgeon", NeurIPS 1992.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.9001, 0.2], [[1.0], [1.0], [1.0]], [[1.0, 0.9, 0.8]], [[0.0]])
    >>> greedy_elimination(ssm, 2).ssm.Lambda.real.round(1)
    array([0.9, 0.2])
    """
    if rule not in RULES:
        raise UnknownNameError(f"there is no rule {rule!r}; choose from {', '.join(RULES)}")

    def method(one: DiagonalSSM, k: int) -> Part:
        return Part(refitted(one, take_states(one, survivors(one, k, rule)), iterations=iterations))

    return reduce_each(ssm, order, method, "greedy" if rule == "h2" else "greedy_hankel")


def survivors(ssm: DiagonalSSM, count: int, rule: str = "h2") -> np.ndarray:
    """States of a stable single system that greedy elimination leaves."""
    return _h2_survivors(ssm, count) if rule == "h2" else _hankel_survivors(ssm, count)


def _h2_survivors(ssm: DiagonalSSM, count: int) -> np.ndarray:
    n = ssm.order
    gramian, scale = unit_diagonal(real_gramian(ssm.Lambda, ssm.B))
    side_by_side = np.arange(2 * n).reshape(2, n).T.ravel()
    second = (gramian + _FLOOR * np.eye(2 * n))[np.ix_(side_by_side, side_by_side)]
    C = (real_outputs(output_rows(ssm), 1.0) * scale[:, 0])[:, side_by_side]
    order, _ = elimination_order(second[None], (C @ second)[None], 2)
    return np.sort(order[0, n - count :])


def _hankel_survivors(ssm: DiagonalSSM, count: int) -> np.ndarray:
    n = ssm.order
    inverses = _inverses(ssm)
    alive = np.ones(n, dtype=bool)
    for _ in range(n - count):
        own = np.where(alive, _own_values(inverses), np.inf)
        gone = [int(own.argmin()), int(own.argmin()) + n]
        alive[gone[0]] = False
        inverses = [_without(a, np.linalg.solve(a[np.ix_(gone, gone)], a[gone]), gone) for a in inverses]
    return np.flatnonzero(alive)


def own_hankel_values(ssm: DiagonalSSM) -> np.ndarray:
    """Squared Hankel singular value of the part of each pair that the others neither reach nor show."""
    return _own_values(_inverses(ssm))


def _inverses(ssm: DiagonalSSM) -> list[np.ndarray]:
    rows = output_rows(ssm).conj().T
    return [_inverse(real_gramian(ssm.Lambda, ssm.B)), _inverse(real_gramian(ssm.Lambda.conj(), rows))]


def _own_values(inverses: list[np.ndarray]) -> np.ndarray:
    left, right = (np.linalg.inv(_pairs(inverse)) for inverse in inverses)
    trace = np.einsum("iab,iba->i", left, right)
    determinant = np.linalg.det(left) * np.linalg.det(right)
    return 0.5 * (trace + np.sqrt(np.maximum(trace**2 - 4.0 * determinant, 0.0)))


def _inverse(gramian: np.ndarray) -> np.ndarray:
    """Inverse with small eigenvalues raised to a floor, so that a singular Gramian has one."""
    scaled, scale = unit_diagonal(gramian)
    values, vectors = np.linalg.eigh(scaled)
    values = np.maximum(values, _FLOOR * max(values[-1], 1.0))
    return (vectors / values) @ vectors.T / scale / scale.T


def _pairs(matrix: np.ndarray) -> np.ndarray:
    """Diagonal blocks of the pairs (i, i + n), shape (n, 2, 2)."""
    n = len(matrix) // 2
    i = np.arange(n)
    return matrix.reshape(2, n, 2, n)[:, i, :, i]


def _without(inverse: np.ndarray, gain: np.ndarray, gone: list[int]) -> np.ndarray:
    """Inverse of the Gramian of the states that are left; an identity in the place of the others."""
    inverse = inverse - inverse[:, gone] @ gain
    inverse[gone], inverse[:, gone] = 0.0, 0.0
    inverse[gone, gone] = 1.0
    return inverse
