"""Hankel singular values and the Hankel norm of causal systems."""

import numpy as np

from ._arrays import Array, namespace
from .dense import dense_hankel_singular_values
from .errors import UnknownNameError
from .gramians import cauchy_factor, output_matrix, real_gramian, require_causal, require_stable, safe_cholesky
from .systems import DiagonalSSM, StateSpace

ACCURACIES = ("absolute", "relative")
_SWEEPS = 60


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
        ``"absolute"``: errors of the size of the rounding of the largest value. ``"relative"``: every value to nearly
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

    Notes
    -----
    NumPy arrays take a fast path first: the Gramian in real coordinates, its Cholesky factor and a real singular value
    decomposition; where a pivot of that factor is small, the factors come from `cauchy_factor`, which forms no Gramian
    and cannot fail. Other namespaces always take `cauchy_factor`; gradients are exact where the singular values are
    distinct, and those of their sum everywhere. O(n^3).

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
    host = isinstance(ssm.Lambda, np.ndarray)
    if host and accuracy == "absolute":
        values = _fast(ssm, C)
        if values is not None:
            return values
        if ssm.batch:
            return _one_by_one(ssm, C, threads)
    return _factored(ssm, C, relative=host and accuracy == "relative", threads=threads)


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
    return hankel_singular_values(ssm, form=form)[..., 0]


def _adjoint(matrix: Array) -> Array:
    xp = namespace(matrix)
    return xp.conj(xp.matrix_transpose(matrix))


def _fast(ssm: DiagonalSSM, C: np.ndarray) -> np.ndarray | None:
    L = safe_cholesky(real_gramian(ssm.Lambda, ssm.B))
    K = None if L is None else safe_cholesky(real_gramian(np.conj(ssm.Lambda), _adjoint(C)))
    if L is None or K is None:
        return None
    return ssm.kappa / 2.0 * np.linalg.svd(np.swapaxes(K, -1, -2) @ L, compute_uv=False)


def _one_by_one(ssm: DiagonalSSM, C: np.ndarray, threads: int | None) -> np.ndarray:
    """A batch of which some systems are safe: each takes its own path."""
    n = ssm.order
    parts = zip(
        ssm.Lambda.reshape(-1, n),
        ssm.B.reshape(-1, n, ssm.inputs),
        C.reshape(-1, ssm.outputs, n),
        strict=True,
    )
    zero = np.zeros((ssm.outputs, ssm.inputs))
    singles = [DiagonalSSM(a, b, c, zero, conj_sym=ssm.conj_sym) for a, b, c in parts]
    fast = [_fast(one, one.C) for one in singles]
    left = [i for i, values in enumerate(fast) if values is None]
    if left:
        Lambda, B, C, D = (np.stack([getattr(singles[i], name) for i in left]) for name in ("Lambda", "B", "C", "D"))
        hard = DiagonalSSM(Lambda, B, C, D, conj_sym=ssm.conj_sym)
        for i, values in zip(left, _factored(hard, hard.C, relative=False, threads=threads), strict=True):
            fast[i] = values
    return np.array(fast).reshape(*ssm.batch, 2 * n)


def _factored(ssm: DiagonalSSM, C: Array, *, relative: bool, threads: int | None) -> Array:
    xp = namespace(ssm.Lambda)
    Lambda = xp.concat([ssm.Lambda, xp.conj(ssm.Lambda)], axis=-1)
    L = cauchy_factor(Lambda, xp.concat([ssm.B, xp.conj(ssm.B)], axis=-2), threads=threads)
    rows = xp.concat([_adjoint(C), xp.matrix_transpose(C)], axis=-2)
    K = cauchy_factor(xp.conj(Lambda), rows, threads=threads)
    product = xp.matmul(_adjoint(K), L)
    values = _relative_singular_values(product, threads) if relative else xp.linalg.svdvals(product)
    return ssm.kappa / 2.0 * values


def _relative_singular_values(product: np.ndarray, threads: int | None) -> np.ndarray:
    """Singular values of a graded matrix: pivoted QR, then one-sided Jacobi on the rows of R."""
    from scipy.linalg import qr

    from .kernels import _cauchy, _threads

    n = product.shape[-1]
    flat = product.reshape(-1, n, n)
    values = np.empty((len(flat), n))

    def part(start: int, stop: int) -> None:
        for i in range(start, stop):
            triangle = np.ascontiguousarray(qr(flat[i], mode="r", pivoting=True, check_finite=False)[0])
            values[i] = np.sort(_cauchy.jacobi_singular_values(triangle, _SWEEPS))[::-1]

    _threads.for_each_part(part, len(flat), threads)
    return values.reshape(product.shape[:-1])
