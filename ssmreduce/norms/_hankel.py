"""Hankel singular values and the Hankel norm of causal systems."""

import numpy as np

from .._support.arrays import Array, namespace
from .._support.threads import for_each_part
from ..errors import NonFiniteError, UnknownNameError
from ..systems import DiagonalSSM, StateSpace
from ..systems._guards import require_causal, require_stable
from ._dense import dense_hankel_singular_values
from ._gramians import cauchy_factor, output_matrix, real_gramian, unit_diagonal

ACCURACIES = ("absolute", "relative")
_SAFE_PIVOT = 1e-7  # of a Cholesky factor with unit diagonal: smaller ones are rounding noise of the Gramian
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
        ``"absolute"``: errors of the order of the rounding of the largest value. ``"relative"``: every value to nearly
        full relative accuracy, however small, for one input and one output (and in practice for several inputs that are
        not nearly parallel), by one-sided Jacobi [2]_; NumPy arrays and diagonal systems only.
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
        A Gramian that overflows (NumPy arrays).

    Notes
    -----
    With ``accuracy="absolute"`` NumPy arrays take the Gramians in real coordinates, their Cholesky factors (with
    complete pivoting where they are nearly singular) and a real singular value decomposition; for one input and one
    output, the eigenvalues of one symmetric matrix. With ``"relative"``, and in other namespaces, the factors come from
    `cauchy_factor`, which forms no Gramian and cannot fail for not being positive definite. Gradients are exact where
    the singular values are distinct, and those of their sum everywhere. O(n^3).

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
    C = output_matrix(ssm, form)
    relative = accuracy == "relative"
    if not isinstance(ssm.Lambda, np.ndarray):
        return _factored(ssm.Lambda, ssm.B, C, ssm.kappa)
    if not ssm.order:
        return np.zeros((*ssm.batch, 0))
    if relative:
        return _factored(ssm.Lambda, ssm.B, C, ssm.kappa, relative=True, threads=threads)
    return _in_real_coordinates(ssm, C)


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


def _real_factors(gramians: np.ndarray, *, pivoted: bool = False) -> np.ndarray:
    """Square factors L L^T of positive semidefinite matrices, their diagonals scaled to 1 first.

    If asked for, or where a pivot of the plain Cholesky factor fails or is small, by Cholesky with complete pivoting,
    which stops at the numerical rank instead of failing; the error of a Hankel singular value stays of the order of the
    rounding of the largest one.
    """
    if not np.isfinite(gramians).all():
        raise NonFiniteError("a Gramian is beyond the range of double precision; scale B or C down")
    scaled, scale = unit_diagonal(gramians)
    factors = np.empty_like(scaled)
    for k in range(len(factors)):
        _fill_real_factor(scaled[k], scale[k, :, 0], pivoted, factors[k])
    return factors


def _fill_real_factor(matrix: np.ndarray, scale: np.ndarray, pivoted: bool, factor: np.ndarray) -> None:
    from scipy.linalg.lapack import dpotrf, dpstrf

    from . import _cauchy

    if not pivoted:
        plain, failed = dpotrf(matrix, lower=True, clean=True)
        if not failed and np.min(np.diagonal(plain)) > _SAFE_PIVOT:
            np.multiply(plain, scale[:, None], out=factor)
            return
    columns, order, rank, _ = dpstrf(matrix.T, lower=True, tol=-1.0)  # symmetric, and in LAPACK's order of storage
    _cauchy.unpivot(columns, order, rank, scale, factor)


def _in_real_coordinates(ssm: DiagonalSSM, C: np.ndarray) -> np.ndarray:
    """Hankel singular values from real factors of the Gramians of each system of a batch."""
    n, count = ssm.order, ssm.systems
    Lambda, B, C = (a.reshape(count, *a.shape[len(ssm.batch) :]) for a in (ssm.Lambda, ssm.B, C))
    some = max(1, _CACHED // (4 * n * n))
    values = np.empty((count, 2 * n))
    for k in range(0, count, some):
        part = slice(k, k + some)
        values[part] = _real_values(Lambda[part], B[part], C[part])
    return ssm.kappa / 2.0 * values.reshape(*ssm.batch, 2 * n)


def _real_values(Lambda: np.ndarray, B: np.ndarray, C: np.ndarray) -> np.ndarray:
    if B.shape[-1] == C.shape[-2] == 1:
        gramians = real_gramian(Lambda, np.sqrt(B * np.swapaxes(C, -1, -2)))
        return _signed_values(_real_factors(gramians, pivoted=True))  # nearly singular as a rule
    L = _real_factors(real_gramian(Lambda, B))
    K = _real_factors(real_gramian(np.conj(Lambda), _adjoint(C)))
    return np.linalg.svd(np.swapaxes(K, -1, -2) @ L, compute_uv=False)


def _signed_values(L: np.ndarray) -> np.ndarray:
    """Hankel singular values of one input and output, whose C was made B^T: Q is the conjugate of P.

    In the coordinates sqrt(2) (Re x, Im x) conjugation is S = diag(I, -I), and K^* L = L^T S L is real and symmetric.
    """
    n = L.shape[-1] // 2
    signed = L.copy()
    signed[..., n:, :] *= -1.0
    return np.sort(np.abs(np.linalg.eigvalsh(np.swapaxes(L, -1, -2) @ signed)), axis=-1)[..., ::-1]


def _factored(
    Lambda: Array, B: Array, C: Array, kappa: float, *, relative: bool = False, threads: int | None = None
) -> Array:
    xp = namespace(Lambda)
    poles = xp.concat([Lambda, xp.conj(Lambda)], axis=-1)
    L = cauchy_factor(poles, xp.concat([B, xp.conj(B)], axis=-2), threads=threads)
    rows = xp.concat([_adjoint(C), xp.matrix_transpose(C)], axis=-2)
    K = cauchy_factor(xp.conj(poles), rows, threads=threads)
    product = xp.matmul(_adjoint(K), L)
    values = _relative_singular_values(product, threads) if relative else xp.linalg.svdvals(product)
    return kappa / 2.0 * values


def _relative_singular_values(product: np.ndarray, threads: int | None) -> np.ndarray:
    """Singular values of a graded matrix: pivoted QR, then one-sided Jacobi on the rows of R."""
    from scipy.linalg import qr

    from . import _cauchy

    n = product.shape[-1]
    flat = product.reshape(-1, n, n)
    values = np.empty((len(flat), n))

    def part(start: int, stop: int) -> None:
        for i in range(start, stop):
            triangle = np.ascontiguousarray(qr(flat[i], mode="r", pivoting=True, check_finite=False)[0])
            values[i] = np.sort(_cauchy.jacobi_singular_values(triangle, _SWEEPS))[::-1]

    for_each_part(part, len(flat), threads)
    return values.reshape(product.shape[:-1])
