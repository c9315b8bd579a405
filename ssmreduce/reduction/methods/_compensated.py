"""Compensated modal truncation: the poles that stay, with B and C refitted to what the others did."""

import numpy as np
import scipy

from ..._support.arguments import positive_integer
from ...errors import UnknownNameError
from ...norms._gramians import real_gramian, safe_cholesky, unit_diagonal
from ...selection import hinf
from ...selection._scores import Criterion
from ...systems import DiagonalSSM, unstable_states
from ...systems._batches import batched, joined, single_systems, stable_part
from ...systems._real import output_rows, real_outputs, with_outputs
from ...systems._states import take_states
from ._base import Part, Reduction, reduce_each
from ._modal import strongest

REFITS = ("both", "outputs")
_SINGULAR = 1e-13  # relative eigenvalue of a scaled Gramian below which a direction is not fitted


def compensated_truncation(
    ssm: DiagonalSSM, order: int, *, criterion: Criterion = hinf, refit: str = "both", iterations: int = 8
) -> Reduction:
    r"""Modal truncation with B and C refitted: still diagonal, with poles of the original.

    The states with the largest criterion stay. With their poles and B fixed, the H2 error is a least-squares problem in
    C, and with C fixed one in B; both have closed solutions,

    .. math:: \hat C = C\,P_{12} P_{22}^{-1}, \qquad \hat B = Q_{22}^{-1} Q_{21}\,B

    with the Gramians of the original (1) and the reduced (2) system, conjugate pairs included [1]_. They are solved in
    turn; the H2 error never grows.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept as they are, and count towards the order.
    order : int
        Stored states that are left.
    criterion : callable
        From a system to one value a state; by default that of LAST.
    refit : {"both", "outputs"}
        ``"outputs"``: C alone, once.
    iterations : int, default 8
        Alternations of ``"both"``.

    Returns
    -------
    Reduction

    Raises
    ------
    SelectionError
        An order outside 0 ... n.
    OptionError
        Another `refit`, or fewer than one iteration.

    Notes
    -----
    When to use it: where the poles must stay, or to make the most of any selection of states (`refit`). A
    bidirectional layer is fitted with the outputs of both halves stacked, which counts the overlap of the halves at
    lag 0 twice: its H2 error is nearly always smaller than that of plain truncation, but need not be.
    O(n k (m + p) + k^3) an iteration.

    References
    ----------
    .. [1] Wilson, "Optimum solution of model-reduction problem", Proc. IEE 117 (1970), whose conditions for B and C
       these are.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.8], [[1.0], [1.0]], [[1.0, 0.2]], [[0.0]])
    >>> compensated_truncation(ssm, 1).ssm.C.round(3)
    array([[1.136+0.j]])
    """
    _check(refit, iterations)

    def method(one: DiagonalSSM, k: int) -> Part:
        return Part(refitted(one, take_states(one, strongest(criterion(one), k)), refit, iterations))

    return reduce_each(ssm, order, method, "compensated")


def _check(refit: str, iterations: int) -> None:
    if refit not in REFITS:
        raise UnknownNameError(f"there is no refit {refit!r}; choose from {', '.join(REFITS)}")
    positive_integer(iterations, "iterations")


def refitted_layer(ssm: DiagonalSSM, kept: DiagonalSSM) -> DiagonalSSM:
    """The stable states of `kept`, in every system, with B and C closest to `ssm` in the H2 norm."""
    systems = []
    for one, few in zip(single_systems(ssm), single_systems(kept), strict=True):
        fitted = refitted(stable_part(one), stable_part(few))
        systems.append(joined(fitted, take_states(few, unstable_states(few))))
    return batched(systems, ssm)


def refitted(ssm: DiagonalSSM, kept: DiagonalSSM, refit: str = "both", iterations: int = 8) -> DiagonalSSM:
    """The states of `kept`, a stable single system, with outputs (and inputs) closest to `ssm` in the H2 norm."""
    if not kept.order:
        return kept
    C, Lambda = output_rows(ssm), kept.Lambda
    B_kept = kept.B
    C_kept = _fitted_outputs(ssm.Lambda, ssm.B, C, Lambda, B_kept)
    for _ in range(iterations if refit == "both" else 0):
        # inputs are the outputs of the dual system
        rows = _fitted_outputs(ssm.Lambda.conj(), C.conj().T, ssm.B.conj().T, Lambda.conj(), C_kept.conj().T)
        B_kept = rows.conj().T
        C_kept = _fitted_outputs(ssm.Lambda, ssm.B, C, Lambda, B_kept)
    return with_outputs(kept, Lambda, *_evened_parts(Lambda, B_kept, C_kept))


def _evened_parts(Lambda: np.ndarray, B: np.ndarray, C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give the imaginary part of each state of a real pole the ratio of input to output that its real part has.

    They are two real states; nothing in a fit keeps their scales together.
    """
    b, c = (np.stack([np.linalg.norm(part, axis=axis) for part in (X.real, X.imag)]) for X, axis in ((B, 1), (C, 0)))
    both = (Lambda.imag == 0) & (b > 0).all(axis=0) & (c > 0).all(axis=0)
    ratio = np.sqrt(np.divide(b[0] * c[1], c[0] * b[1], out=np.ones(Lambda.size), where=both))
    return B.real + 1j * B.imag * ratio[:, None], C.real + 1j * C.imag / ratio


def _fitted_outputs(
    Lambda: np.ndarray, B: np.ndarray, C: np.ndarray, poles: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """C of the system with these poles and inputs that is closest to (Lambda, B, C) in the H2 norm."""
    cross = real_gramian(Lambda, B, poles, rows)
    fitted = _solve(real_gramian(poles, rows), (real_outputs(C, 1.0) @ cross).T).T
    k = poles.size
    return np.sqrt(2.0) * (fitted[:, :k] - 1j * fitted[:, k:])


def _solve(gramian: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solution of least norm, in coordinates in which the diagonal of the Gramian is 1."""
    factor = safe_cholesky(gramian)
    if factor is not None:
        return scipy.linalg.cho_solve((factor, True), right, check_finite=False)
    scaled, scale = unit_diagonal(gramian)
    values, vectors = np.linalg.eigh(scaled)
    kept = values > _SINGULAR * values[-1]
    vectors = vectors[:, kept]
    return vectors @ ((vectors.T @ (right / scale)) / values[kept, None]) / scale
