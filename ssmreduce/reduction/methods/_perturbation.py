"""Singular perturbation: what leaves is replaced by its gain at frequency 0, in D and in the states that stay."""

from dataclasses import replace

import numpy as np

from ...errors import UnknownNameError
from ...selection import hinf
from ...selection._scores import Criterion
from ...systems import DiagonalSSM
from ...systems._real import output_rows, with_outputs
from ...systems._states import take_states
from ._balanced import Balanced
from ._base import Part, Reduction, reduce_each, stored_order, stored_states
from ._modal import strongest

Matrices = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
BASES = ("balanced", "modal")
_WEAKEST = 1e-10  # relative Hankel singular value that is simply truncated
_SMALLEST_POLE = 1e-6  # of the reduced system: the scan form divides by its poles


def singular_perturbation(
    ssm: DiagonalSSM, order: int, *, basis: str = "balanced", criterion: Criterion = hinf
) -> Reduction:
    r"""Singular perturbation: the gain at frequency 0 is kept exactly, and D changes.

    In textbook form, with the states that leave (2) at rest, :math:`x_2 = A_{21} x_1 + A_{22} x_2 + B_2 u`,

    .. math::

        \hat A = A_{11} + A_{12} (I - A_{22})^{-1} A_{21}, \quad \hat B = B_1 + A_{12} (I - A_{22})^{-1} B_2, \quad
        \hat C = C_1 + C_2 (I - A_{22})^{-1} A_{21}, \quad \hat D = D + C_2 (I - A_{22})^{-1} B_2

    of a balanced realisation [1]_, or of the states as they are (``modal``: the states that leave become
    :math:`\kappa\,\mathrm{Re}(c_i b_i / (1 - \lambda_i))` in D). The result is converted back to scan form; the same
    formulas applied to the scan form itself are another system, to which the bound does not apply.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int
        Stored states that may be left.
    basis : {"balanced", "modal"}
    criterion : callable
        For ``modal``: which states stay.

    Returns
    -------
    Reduction
        With a dense D: model families that store D as a vector (S5, S4D with several inputs, LRU) cannot hold it, and
        say so when the model is exported. For ``balanced`` the a-priori bound is twice the sum of the Hankel singular
        values of the textbook form that leave.

    Raises
    ------
    SelectionError
        An order outside 0 ... n.
    UnknownNameError
        Another basis.

    Notes
    -----
    When to use it: where slow signals count and the model has a full D. The error is 0 at frequency 0 and larger than
    that of truncation at high frequencies; the H2 error may exceed the H2 norm.

    References
    ----------
    .. [1] Liu and Anderson, "Singular perturbation approximation of balanced systems", Int. J. Control 50 (1989).

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.5], [[1.0], [1.0]], [[1.0, 0.1]], [[0.0]])
    >>> reduced = singular_perturbation(ssm, 1, basis="modal").ssm
    >>> reduced.D.round(12)
    array([[0.2]])
    """
    if basis not in BASES:
        raise UnknownNameError(f"there is no basis {basis!r}; choose from {', '.join(BASES)}")
    if basis == "modal":
        return reduce_each(ssm, order, lambda one, k: _modal(one, strongest(criterion(one), k)), "modal_perturbation")
    return reduce_each(ssm, order, _balanced, "singular_perturbation")


def _modal(ssm: DiagonalSSM, kept: np.ndarray) -> Part:
    gone = take_states(ssm, np.setdiff1d(np.arange(ssm.order), kept))
    at_rest = ssm.kappa * (output_rows(gone) @ (gone.B / (1.0 - gone.Lambda)[:, None])).real
    return Part(replace(take_states(ssm, kept), D=ssm.D + _both_halves(ssm, at_rest)))


def _both_halves(ssm: DiagonalSSM, D: np.ndarray) -> np.ndarray:
    """Feedthroughs of the stacked halves added up."""
    return D.reshape(1 + ssm.bidirectional, *ssm.D.shape).sum(axis=0)


def textbook(ssm: DiagonalSSM) -> tuple[DiagonalSSM, np.ndarray]:
    """The system whose scan form is the dynamic part of the textbook form, and the stacked feedthrough of both."""
    C = output_rows(ssm)
    return with_outputs(ssm, ssm.Lambda, ssm.B, C * ssm.Lambda), ssm.kappa * (C @ ssm.B).real


def from_textbook(ssm: DiagonalSSM, matrices: Matrices, limit: int) -> DiagonalSSM | None:
    """Scan form of a real textbook system with stacked halves; None where it stores too much or has a pole near 0."""
    A, B, C, D = matrices
    if stored_order(A) > limit or (states := stored_states(A, B, C, ssm.kappa)) is None:
        return None
    Lambda, rows, columns = states
    if Lambda.size > limit or (np.abs(Lambda) < _SMALLEST_POLE).any():
        return None
    columns = columns / Lambda
    lag0 = ssm.kappa * (columns @ rows).real
    return replace(with_outputs(ssm, Lambda, rows, columns), D=ssm.D + _both_halves(ssm, D - lag0))


def _static_gain(ssm: DiagonalSSM) -> np.ndarray:
    """Gain at frequency 0, whose terms have a small relative error each."""
    return ssm.D + _both_halves(ssm, ssm.kappa * (output_rows(ssm) @ (ssm.B / (1.0 - ssm.Lambda)[:, None])).real)


def _with_static_gain(ssm: DiagonalSSM, gain: np.ndarray) -> DiagonalSSM:
    """The system with D corrected for what rounding of the projection has changed."""
    return replace(ssm, D=ssm.D + (gain - _static_gain(ssm)) if ssm.order else gain)


def _balanced(ssm: DiagonalSSM, order: int) -> Part:
    dynamic, D = textbook(ssm)
    balanced = Balanced(dynamic, "square_root")
    rank = int(np.count_nonzero(balanced.values > _WEAKEST * balanced.values.max(initial=0.0)))
    A, B, C = balanced.project(rank) if rank else (np.zeros((0, 0)), np.zeros((0, ssm.inputs)), D[:, :0])
    for r in range(min(2 * order, rank), -1, -1):
        rest = np.eye(rank - r) - A[r:, r:]
        from_states, from_inputs = (np.linalg.solve(rest, right) for right in (A[r:, :r], B[r:]))
        matrices = (
            A[:r, :r] + A[:r, r:] @ from_states,
            B[:r] + A[:r, r:] @ from_inputs,
            C[:, :r] + C[:, r:] @ from_states,
            D + C[:, r:] @ from_inputs,
        )
        reduced = from_textbook(ssm, matrices, order)
        if reduced is not None:
            return Part(_with_static_gain(reduced, _static_gain(ssm)), balanced.bound(r))
    raise AssertionError("order 0 is always possible")
