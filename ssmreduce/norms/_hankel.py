"""Hankel singular values and the Hankel norm of causal systems."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from .._support.arrays import Array, namespace, one_minus_abs2
from .._support.threads import for_each_part
from ..errors import NonFiniteError, UnknownNameError
from ..systems import DiagonalSSM, StateSpace
from ..systems._guards import require_causal, require_stable
from ._cancellation import balanced_states, closed_sizes, twofold_hankel_values
from ._dense import dense_hankel_singular_values
from ._gramians import cauchy_factor, factor_in_real_coordinates, output_matrix, real_gramian, unit_diagonal

ACCURACIES = ("absolute", "relative")
_SAFE_PIVOT = 1e-3  # of a Cholesky factor with unit diagonal: below it, rounding of the Gramian shows in small values
_MOST = 64.0  # terms over the largest value, less 2 a real state, up to which all is done in double precision
_MOST_OF_PIVOT = 2.0**8  # the same, over a pivot of their product, where every value is to be accurate
_SWEEPS = 60
_CACHED = 2**16  # entries of Gramians that are worked on at once


def hankel_singular_values(
    ssm: DiagonalSSM | StateSpace,
    *,
    accuracy: str = "absolute",
    form: str = "scan",
    threads: int | None = None,
) -> Array:
    r"""Hankel singular values of the real system, largest first.

    The roots of the eigenvalues of :math:`P Q`, computed as the singular values of :math:`K^* L` from factors
    :math:`P = L L^*`, :math:`Q = K K^*` of the Gramians of all states, conjugates included [1]_.

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Causal and stable. Batch axes allowed.
    accuracy : {"absolute", "relative"}, default "absolute"
        ``"absolute"``: errors of the order of the rounding of the largest value, also where it is far below the terms
        that it is made of (NumPy arrays). ``"relative"``: every value to nearly full relative accuracy, however small,
        for one input and one output (and in practice for several inputs that are not nearly parallel), by one-sided
        Jacobi [2]_; NumPy arrays and diagonal systems only.
    form : {"scan", "textbook"}, default "scan"
        ``"scan"``: the Hankel matrix of the lags 0, 1, ... (the matrices as they are stored, D kept); ``"textbook"``:
        of the lags 1, 2, ... (output matrix :math:`C \Lambda`). A `StateSpace` is in textbook form already.
    threads : int, optional
        Threads over the systems of a batch (NumPy arrays).

    Returns
    -------
    array, shape (..., 2 n), float64
        For n stored states; (n,) for a `StateSpace`. Zeros beyond the minimal order (a real pole counts once).

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle.
    NotCausalError
        A bidirectional system.
    UnknownNameError
        Another `accuracy` or `form`.
    NonFiniteError
        Values beyond the range of double precision (NumPy arrays).

    Notes
    -----
    With ``accuracy="absolute"`` NumPy arrays take the Gramians in real coordinates, their Cholesky factors (where
    these have small pivots, `cauchy_factor`) and a real singular value decomposition; for one input and one output, a
    real Cauchy factor and the eigenvalues of one symmetric matrix. With ``"relative"``, and in other namespaces, the
    factors come from `cauchy_factor`, which forms no Gramian and cannot fail for not being positive definite. Where
    residues cancel by more than the accuracy allows, which is always looked at, NumPy arrays take factors, product and,
    for ``"relative"``, rotations in twice the working precision, which takes longer. Gradients are exact where the
    singular values are distinct, and those of their sum everywhere. O(n^3).

    References
    ----------
    .. [1] Antoulas, "Approximation of Large-Scale Dynamical Systems", SIAM 2005, section 5.1.
    .. [2] Demmel et al., "Computing the singular value decomposition with high relative accuracy", Linear Algebra Appl.
       299 (1999).

    Examples
    --------
    >>> hankel_singular_values(DiagonalSSM([0.6], [[2.0]], [[1.0]], [[0.0]])).round(12)
    array([3.125, 0.   ])
    """
    if accuracy not in ACCURACIES:
        raise UnknownNameError(f"there is no accuracy {accuracy!r}; choose from {', '.join(ACCURACIES)}")
    if isinstance(ssm, StateSpace):
        return dense_hankel_singular_values(ssm)
    require_causal(ssm, "the Hankel operator")
    require_stable(ssm, "the Hankel operator")
    if not ssm.order:
        return namespace(ssm.Lambda).abs(ssm.Lambda)
    output_matrix(ssm, form)  # a form that there is
    B, (C,), scale = balanced_states(ssm.B, [ssm.C])
    with np.errstate(over="ignore"):
        values = _values(replace(ssm, B=B, C=C), form, accuracy, threads) * scale[..., None] * scale[..., None]
    if isinstance(values, np.ndarray) and not np.isfinite(values).all():
        raise NonFiniteError("the Hankel singular values are beyond the range of double precision; scale B or C down")
    return values


def _values(ssm: DiagonalSSM, form: str, accuracy: str, threads: int | None) -> Array:
    if not isinstance(ssm.Lambda, np.ndarray):
        return _factored(ssm.Lambda, ssm.B, output_matrix(ssm, form), ssm.kappa)
    n, count = ssm.order, ssm.systems
    arrays = (ssm.Lambda, ssm.B, ssm.C, output_matrix(ssm, form))
    Lambda, B, stored, C = (a.reshape(count, *a.shape[len(ssm.batch) :]) for a in arrays)

    def twofold(k: int) -> np.ndarray:
        delayed, relative = form == "textbook", accuracy == "relative"
        return twofold_hankel_values(Lambda[k], B[k], stored[k], delayed=delayed, relative=relative)

    found = _relative_values if accuracy == "relative" else _absolute_values
    return ssm.kappa / 2.0 * found(Lambda, B, C, threads, twofold).reshape(*ssm.batch, 2 * n)


Twofold = Callable[[int], np.ndarray]
"""From the number of a system to its values by factors in twice the working precision."""


def hankel_norm(ssm: DiagonalSSM | StateSpace, *, form: str = "scan") -> Array:
    r"""Hankel norm: the largest Hankel singular value, the gain from past inputs to future outputs.

    :math:`\sigma_1 \le \|G - D\|_\infty \le 2 \sum_i \sigma_i` in the scan form (the same with its feedthrough in the
    textbook form), the sum over distinct values [1]_.

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Causal and stable. Batch axes allowed.
    form : {"scan", "textbook"}, default "scan"
        See `hankel_singular_values`.

    Returns
    -------
    array, shape (...), float64
        A scalar for a single system.

    Raises
    ------
    UnstableSystemError, NotCausalError, UnknownNameError
        As `hankel_singular_values`.

    References
    ----------
    .. [1] Glover, "All optimal Hankel-norm approximations of linear multivariable systems and their L-infinity error
       bounds", Int. J. Control 39 (1984).

    Examples
    --------
    >>> float(hankel_norm(DiagonalSSM([0.6], [[2.0]], [[1.0]], [[0.0]])).round(12))
    3.125
    """
    values = hankel_singular_values(ssm, form=form)
    return namespace(values).sum(values[..., :1], axis=-1)  # 0 without states


def _adjoint(matrix: Array) -> Array:
    xp = namespace(matrix)
    return xp.conj(xp.matrix_transpose(matrix))


def _absolute_values(
    Lambda: np.ndarray, B: np.ndarray, C: np.ndarray, threads: int | None, twofold: Twofold
) -> np.ndarray:
    """Values of each system by real factors of its Gramians; where residues cancel, in twice the precision."""
    count, n = Lambda.shape
    some = max(1, _CACHED // (4 * n * n))
    values = np.empty((count, 2 * n))
    for k in range(0, count, some):
        part = slice(k, k + some)
        values[part] = _real_values(Lambda[part], B[part], C[part], threads)
    terms = np.sum(closed_sizes(B, C, 2.0) / one_minus_abs2(Lambda), axis=-1)
    for cancelling in np.flatnonzero(terms > (_MOST + 4.0 * n) * values[:, 0]):
        values[cancelling] = twofold(int(cancelling))
    return values


def _real_values(Lambda: np.ndarray, B: np.ndarray, C: np.ndarray, threads: int | None) -> np.ndarray:
    if B.shape[-1] == C.shape[-2] == 1:  # whose Gramian is nearly singular as a rule
        rows = np.sqrt(B * np.swapaxes(C, -1, -2))
        return _signed_values(factor_in_real_coordinates(Lambda, rows, threads=threads))
    L = _real_factors(Lambda, B, threads)
    K = _real_factors(np.conj(Lambda), _adjoint(C), threads)
    return np.linalg.svd(np.swapaxes(K, -1, -2) @ L, compute_uv=False)


def _real_factors(Lambda: np.ndarray, rows: np.ndarray, threads: int | None) -> np.ndarray:
    """Square factors of Gramians: plain Cholesky factors where no pivot is small, else from Cauchy factors."""
    from scipy.linalg.lapack import dpotrf

    scaled, scale = unit_diagonal(real_gramian(Lambda, rows))
    factors = np.empty_like(scaled)
    for k in range(len(factors)):
        plain, failed = dpotrf(scaled[k], lower=True, clean=True)
        if not failed and np.min(np.diagonal(plain)) > _SAFE_PIVOT:
            np.multiply(plain, scale[k], out=factors[k])
        else:
            factors[k] = factor_in_real_coordinates(Lambda[k], rows[k], threads=threads)
    return factors


def _signed_values(L: np.ndarray) -> np.ndarray:
    """Hankel singular values of one input and output, whose C was made B^T: Q is the conjugate of P.

    In the coordinates sqrt(2) (Re x, Im x) conjugation is S = diag(I, -I), and K^* L = L^T S L is real and symmetric.
    """
    n = L.shape[-1] // 2
    signed = L.copy()
    signed[..., n:, :] *= -1.0
    return np.sort(np.abs(np.linalg.eigvalsh(np.swapaxes(L, -1, -2) @ signed)), axis=-1)[..., ::-1]


def _factored(Lambda: Array, B: Array, C: Array, kappa: float) -> Array:
    """Hankel singular values in any namespace."""
    L, K = _closed_factors(Lambda, B, C, None)
    return kappa / 2.0 * namespace(Lambda).linalg.svdvals(namespace(Lambda).matmul(_adjoint(K), L))


def _closed_factors(Lambda: Array, B: Array, C: Array, threads: int | None) -> tuple[Array, Array]:
    """Cauchy factors of both Gramians of all states, conjugates included."""
    xp = namespace(Lambda)
    poles = xp.concat([Lambda, xp.conj(Lambda)], axis=-1)
    L = cauchy_factor(poles, xp.concat([B, xp.conj(B)], axis=-2), threads=threads)
    rows = xp.concat([_adjoint(C), xp.matrix_transpose(C)], axis=-2)
    return L, cauchy_factor(xp.conj(poles), rows, threads=threads)


def _relative_values(
    Lambda: np.ndarray, B: np.ndarray, C: np.ndarray, threads: int | None, twofold: Twofold
) -> np.ndarray:
    """Values of each system, every one to a small relative error."""
    L, K = _closed_factors(Lambda, B, C, threads)
    values = np.empty((len(Lambda), 2 * Lambda.shape[1]))

    def part(start: int, stop: int) -> None:
        for k in range(start, stop):
            graded = _graded_product(K[k], L[k])
            values[k] = twofold(k) if graded is None else _jacobi_values(graded, values.shape[1])

    for_each_part(part, len(values), threads)
    return values


def _graded_product(K: np.ndarray, L: np.ndarray) -> np.ndarray | None:
    """Product K^* L without columns of zeros; None where a pivot of it is far below the terms that it is the sum of."""
    from . import _cauchy

    K, L = (X[:, (X != 0).any(axis=0)] for X in (K, L))
    if K.shape[1] != L.shape[1]:
        return None
    product = K.conj().T @ L
    worst = _cauchy.worst_cancellation(product.copy(), np.abs(K).T @ np.abs(L))
    return product if worst < _MOST_OF_PIVOT else None


def _jacobi_values(product: np.ndarray, count: int) -> np.ndarray:
    """Singular values of a graded matrix, filled up with 0: pivoted QR, then one-sided Jacobi on the rows of R."""
    from scipy.linalg import qr

    from . import _cauchy

    values = np.zeros(count)
    triangle = np.ascontiguousarray(qr(product, mode="r", pivoting=True, check_finite=False)[0])
    values[: len(product)] = np.sort(_cauchy.jacobi_singular_values(triangle, _SWEEPS))[::-1]
    return values
