"""Optimal Hankel-norm approximation after Glover, by way of continuous time."""

import numpy as np
import scipy

from ..._support.arrays import one_minus_abs
from ...errors import UnattainableError
from ...norms import hankel_norm
from ...systems import DiagonalSSM
from ...systems._batches import difference
from ...systems._real import output_rows
from ._balanced import Balanced
from ._base import Part, Reduction, reduce_each
from ._perturbation import Matrices, from_textbook, textbook

_WEAKEST = 1e-10  # relative Hankel singular value that is simply truncated
_NEAR = 1e-3  # distance of a pole from the point that is mapped to infinity below which another point is taken
_EQUAL = 1e-8  # relative difference of Hankel singular values that count as one


def hankel_approximation(ssm: DiagonalSSM, order: int) -> Reduction:
    r"""Optimal Hankel-norm approximation: the error has the Hankel norm :math:`\sigma_{r+1}`, which none can beat.

    The balanced textbook realisation is mapped to continuous time by :math:`z = (1 + s) / (1 - s)`, which keeps the
    Gramians; the all-pass dilation of Glover [1]_ (theorem 6.3) at :math:`\sigma = \sigma_{r+1}`,

    .. math::

        \hat A = \Gamma^{-1} (\sigma^2 A_1^T + \Sigma_1 A_1 \Sigma_1 - \sigma C_1^T U B_1^T), \quad
        \hat B = \Gamma^{-1} (\Sigma_1 B_1 + \sigma C_1^T U), \quad \hat C = C_1 \Sigma_1 + \sigma U B_1^T,
        \quad \hat D = D - \sigma U

    with :math:`\Gamma = \Sigma_1^2 - \sigma^2 I` and :math:`B_2 = -C_2^T U`, has r stable poles; their part is mapped
    back. The map sends -1 to infinity; where poles lie close to it, :math:`z = t (1 + s) / (1 - s)` sends another point
    -t there, far from all poles.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int
        Stored states that may be left.

    Returns
    -------
    Reduction
        With a dense D, which model families that store D as a vector cannot hold. The a-priori bound on the peak gain
        is :math:`2 (\sigma_{r+1} + \dots)`, as for balanced truncation.

    Raises
    ------
    SelectionError
        An order outside 0 ... n.
    UnattainableError
        Several inputs and outputs and poles so close to both 1 and -1 that rounding spoils the approximation: its error
        was measured and is not the optimum.

    Notes
    -----
    When to use it: where the Hankel norm itself counts. In peak gain it is seldom much better than balanced truncation,
    and in the H2 norm worse, since D changes.

    References
    ----------
    .. [1] Glover, "All optimal Hankel-norm approximations of linear multivariable systems and their L-infinity error
       bounds", Int. J. Control 39 (1984).

    Examples
    --------
    >>> from ssmreduce.systems import error_system
    >>> from ssmreduce.norms import hankel_norm, hankel_singular_values
    >>> ssm = DiagonalSSM([0.9, 0.5], [[1.0], [1.0]], [[1.0, 0.1]], [[0.0]])
    >>> reduced = hankel_approximation(ssm, 1).ssm
    >>> error = hankel_norm(error_system(ssm, reduced), form="textbook")
    >>> bool(np.isclose(error, hankel_singular_values(ssm, form="textbook")[1]))
    True
    """
    return reduce_each(ssm, order, _approximated, "hankel")


def _approximated(ssm: DiagonalSSM, order: int) -> Part:
    dynamic, D = textbook(ssm)
    balanced = Balanced(dynamic, "square_root")
    values = balanced.values
    rank = int(np.count_nonzero(values > _WEAKEST * values.max(initial=0.0)))
    empty = np.zeros((0, 0)), np.zeros((0, ssm.inputs)), D[:, :0]
    minimal = balanced.project(rank) if rank else empty
    turn = _turn(ssm, min(D.shape))
    for r in range(min(2 * order, rank), -1, -1):
        found = _of_order((*minimal, D), values[:rank], r, turn) if r else (*empty, D)
        reduced = None if found is None else from_textbook(ssm, found, order)
        if reduced is not None:
            if r:
                _require_optimal(ssm, reduced, values, r)
            return Part(reduced, balanced.bound(r))
    raise AssertionError("order 0 is always possible")


def _turn(ssm: DiagonalSSM, width: int) -> complex:
    """Factor t of the unit circle whose opposite -t is far from all poles: z = t (1 + s) / (1 - s) maps it to infinity.

    1 or -1, which keep the matrices real, where that will do; and with several inputs and outputs, where the optimum is
    not unique and that of complex matrices need not be real.
    """
    poles = np.concatenate([ssm.Lambda, ssm.Lambda.conj()])

    def distance(turn: complex) -> float:
        return float(np.abs(turn + poles).min(initial=2.0))

    if distance(1.0) > _NEAR:
        return 1.0
    if distance(-1.0) > _NEAR or width > 1:
        return max(1.0, -1.0, key=distance)
    return max(np.exp(1j * np.pi * np.arange(1, 64) / 64), key=distance)


def _require_optimal(ssm: DiagonalSSM, reduced: DiagonalSSM, values: np.ndarray, r: int) -> None:
    """Raise `UnattainableError` unless the Hankel norm of the error is the next singular value, but for rounding."""
    error = difference(ssm, reduced)
    C = output_rows(error)
    stacked = DiagonalSSM(error.Lambda, error.B, C, np.zeros((C.shape[0], ssm.inputs)), conj_sym=ssm.conj_sym)
    found, optimum = float(hankel_norm(stacked, form="textbook")), float(values[r]) if r < values.size else 0.0
    rounding = 1e-13 / float(one_minus_abs(error.Lambda).min())  # of the poles that are stored
    if found > 1.01 * optimum + (_WEAKEST * values.size + rounding) * values[0]:
        raise UnattainableError(
            f"the Hankel-norm approximation of {ssm!r} of real order {r} is lost in rounding: the Hankel norm of its "
            f"error is {found:.3g}, the optimum {optimum:.3g}; poles lie too close to both 1 and -1. Take "
            "balanced_truncation"
        )


def _of_order(minimal: Matrices, values: np.ndarray, r: int, turn: complex) -> Matrices | None:
    """Real approximation of order r in discrete time; None between equal values, where there is none."""
    if r == values.size:
        return minimal
    if values[r - 1] - values[r] <= _EQUAL * values[r - 1]:
        return None
    A, B, C, D = minimal
    found = _to_discrete(*_dilated(*_to_continuous(A / turn, B, C / turn, D), values, r), r)
    if found is None:
        return None
    A, B, C, D = found
    return (turn * A, B, turn * C, D) if turn in (1.0, -1.0) else _real_form(turn * A, B, turn * C, D)


def _real_form(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> Matrices | None:
    """Real matrices of a system that is real but for rounding; None if its poles are not."""
    Lambda, V = np.linalg.eig(A)
    rows, columns = np.linalg.solve(V, B), C @ V
    partner = np.abs(Lambda[:, None] - Lambda.conj()).argmin(axis=1)
    if (partner[partner] != np.arange(Lambda.size)).any():
        return None
    blocks, inputs, outputs = [], [], []
    for i, pole in enumerate(Lambda):
        if partner[i] == i:
            k = np.abs(rows[i]).argmax()  # a phase that makes the rank-one residue real
            phase = rows[i, k] / abs(rows[i, k]) if rows[i, k] else 1.0
            blocks.append([[pole.real]])
            inputs.append((rows[i] / phase).real[None])
            outputs.append((columns[:, i] * phase).real[:, None])
        elif pole.imag > 0:
            blocks.append([[pole.real, -pole.imag], [pole.imag, pole.real]])
            inputs.append(np.stack([rows[i].real, rows[i].imag]))
            outputs.append(2.0 * np.stack([columns[:, i].real, -columns[:, i].imag], axis=1))
    return scipy.linalg.block_diag(*blocks), np.vstack(inputs), np.hstack(outputs), D.real


def _to_continuous(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray) -> Matrices:
    inverse = np.linalg.inv(A + np.eye(len(A)))
    root = np.sqrt(2.0)
    return inverse @ (A - np.eye(len(A))), root * inverse @ B, root * C @ inverse, D - C @ inverse @ B


def _dilated(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, values: np.ndarray, r: int) -> Matrices:
    """Glover's dilation; the error system is all-pass with gain sigma."""
    outputs, inputs = D.shape
    square = max(outputs, inputs)
    B = np.pad(B, ((0, 0), (0, square - inputs)))
    C = np.pad(C, ((0, square - outputs), (0, 0)))
    D = np.pad(D, ((0, square - outputs), (0, square - inputs)))
    sigma = values[r]
    equal = np.abs(values - sigma) <= _EQUAL * sigma
    U = np.linalg.svd(-C[:, equal] @ B[equal])
    U = U[0] @ U[2]
    A, B, C, rest = A[np.ix_(~equal, ~equal)], B[~equal], C[:, ~equal], values[~equal]
    gamma = (rest**2 - sigma**2)[:, None]
    A_hat = (sigma**2 * A.conj().T + rest[:, None] * A * rest - sigma * C.conj().T @ U @ B.conj().T) / gamma
    B_hat = (rest[:, None] * B + sigma * C.conj().T @ U) / gamma
    C_hat = C * rest + sigma * U @ B.conj().T
    D_hat = D - sigma * U
    return A_hat, B_hat[:, :inputs], C_hat[:outputs], D_hat[:outputs, :inputs]


def _to_discrete(A: np.ndarray, B: np.ndarray, C: np.ndarray, D: np.ndarray, r: int) -> Matrices | None:
    """Stable part of a continuous system in discrete time, from an ordered Schur form; None unless of order r."""
    T, Z, stable = scipy.linalg.schur(A, sort="lhp")
    if stable != r:
        return None
    coupling = scipy.linalg.solve_sylvester(T[:r, :r], -T[r:, r:], -T[:r, r:])
    inputs = Z.conj().T @ B
    A, B, C = T[:r, :r], inputs[:r] - coupling @ inputs[r:], C @ Z[:, :r]
    inverse = np.linalg.inv(np.eye(r) - A)
    root = np.sqrt(2.0)
    return inverse @ (np.eye(r) + A), root * inverse @ B, root * C @ inverse, D + C @ inverse @ B
