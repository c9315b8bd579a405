r"""Closed-form Gramians of diagonal systems and their factors; see the theory page on Gramians.

For :math:`P = \Lambda P \Lambda^* + B B^*` it is :math:`P_{ij} = (B B^*)_{ij} / (1 - \lambda_i \bar\lambda_j)`.
"""

import math

import numpy as np

from .._support.arrays import Array, namespace, one_minus_abs2
from .._support.threads import for_each_part
from ..errors import UnknownNameError
from ..systems import DiagonalSSM, StateSpace
from ..systems._guards import require_causal, require_stable
from ._dense import dense_gramian_factors

FORMS = ("scan", "textbook")
_SAFE_PIVOT = 1e-5  # of a Cholesky factor with unit diagonal: below it, a formed Gramian has lost half its digits


def one_minus_products(left: Array, right: Array) -> Array:
    r"""Matrix of :math:`1 - \lambda_i \bar\mu_j` without cancellation near the unit circle.

    The real part is :math:`\tfrac12[(1 - |\lambda_i|^2) + (1 - |\mu_j|^2) + |\lambda_i - \mu_j|^2]`, a sum of positive
    terms for stable poles; the imaginary part is :math:`-\mathrm{Im}((\lambda_i - \mu_j) \bar\mu_j)`.

    Parameters
    ----------
    left : array, shape (..., n), complex128
    right : array, shape (..., k), complex128

    Returns
    -------
    array, shape (..., n, k), complex128
    """
    xp = namespace(left)
    gaps = one_minus_abs2(left)[..., :, None] + one_minus_abs2(right)[..., None, :]
    difference = left[..., :, None] - right[..., None, :]
    real = 0.5 * (gaps + xp.real(difference) ** 2 + xp.imag(difference) ** 2)
    return real - 1j * xp.imag(difference * xp.conj(right)[..., None, :])


def controllability_gramian(ssm: DiagonalSSM | StateSpace) -> Array:
    r"""Controllability Gramian of the stored states.

    .. math:: P = \Lambda P \Lambda^* + B B^*, \qquad P_{ij} = \frac{(B B^*)_{ij}}{1 - \lambda_i \bar\lambda_j}

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Batch axes allowed.

    Returns
    -------
    array, shape (..., n, n), complex128
        Hermitian, positive semidefinite; float64 for a `StateSpace`.

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle; the message names the states.

    Notes
    -----
    For a system that stores one state of each conjugate pair this is the block of the stored states; the Gramian of all
    states of the real system is that of ``conjugate_closed(ssm)``. Differentiable in PyTorch and JAX. See Antoulas,
    "Approximation of Large-Scale Dynamical Systems", SIAM 2005, section 4.3.

    Examples
    --------
    >>> controllability_gramian(DiagonalSSM([0.6], [[2.0]], [[1.0]], [[0.0]])).real
    array([[6.25]])
    """
    if isinstance(ssm, StateSpace):
        factor = dense_gramian_factors(ssm)[0]
        return factor @ factor.T
    require_stable(ssm, "the controllability Gramian")
    return _gramian(ssm.Lambda, ssm.B)


def observability_gramian(ssm: DiagonalSSM | StateSpace, *, form: str = "scan") -> Array:
    r"""Observability Gramian of the stored states.

    .. math:: Q = \Lambda^* Q \Lambda + C^* C, \qquad Q_{ij} = \frac{(C^* C)_{ij}}{1 - \bar\lambda_i \lambda_j}

    Parameters
    ----------
    ssm : DiagonalSSM or StateSpace
        Causal. Batch axes allowed.
    form : {"scan", "textbook"}, default "scan"
        ``"scan"``: of the stored C, so that lag 0 of the state belongs to the dynamic part; ``"textbook"``: of
        :math:`C \Lambda`, the output matrix of the textbook form. A `StateSpace` is in textbook form already.

    Returns
    -------
    array, shape (..., n, n), complex128
        Hermitian, positive semidefinite; float64 for a `StateSpace`. It carries no factor :math:`\kappa`.

    Raises
    ------
    UnstableSystemError
        Poles on or outside the unit circle; the message names the states.
    NotCausalError
        A bidirectional system.
    UnknownNameError
        Another `form`.

    Examples
    --------
    >>> observability_gramian(DiagonalSSM([0.6], [[2.0]], [[1.0]], [[0.0]])).real
    array([[1.5625]])
    """
    if isinstance(ssm, StateSpace):
        factor = dense_gramian_factors(ssm)[1]
        return factor @ factor.T
    require_causal(ssm, "the observability Gramian")
    require_stable(ssm, "the observability Gramian")
    xp = namespace(ssm.Lambda)
    return _gramian(xp.conj(ssm.Lambda), xp.conj(xp.matrix_transpose(output_matrix(ssm, form))))


def output_matrix(ssm: DiagonalSSM, form: str) -> Array:
    """C of the scan form, or C Lambda of the textbook form."""
    if form not in FORMS:
        raise UnknownNameError(f"there is no form {form!r}; choose from {', '.join(FORMS)}")
    return ssm.C if form == "scan" else ssm.C * ssm.Lambda[..., None, :]


def _gramian(Lambda: Array, rows: Array) -> Array:
    xp = namespace(Lambda)
    return xp.matmul(rows, xp.conj(xp.matrix_transpose(rows))) / one_minus_products(Lambda, Lambda)


def real_gramian(
    Lambda: np.ndarray,
    rows: np.ndarray,
    other_Lambda: np.ndarray | None = None,
    other_rows: np.ndarray | None = None,
) -> np.ndarray:
    r"""Gramian of the real system in the coordinates :math:`\sqrt2 (\mathrm{Re}\,x, \mathrm{Im}\,x)`.

    Parameters
    ----------
    Lambda : ndarray, shape (..., n), complex128
        Stable.
    rows : ndarray, shape (..., n, m), complex128
        B for the controllability Gramian; :math:`C^*`, with the conjugate poles, for the observability Gramian.
    other_Lambda, other_rows : ndarray, optional
        Of a second system, shapes (..., k) and (..., k, m), for the cross Gramian of the two.

    Returns
    -------
    ndarray, shape (..., 2 n, 2 k), float64
    """
    from . import _cauchy

    other_Lambda = Lambda if other_Lambda is None else other_Lambda
    other_rows = rows if other_rows is None else other_rows
    batch, n, k = Lambda.shape[:-1], Lambda.shape[-1], other_Lambda.shape[-1]
    count = math.prod(batch)

    def flat(value: np.ndarray, *shape: int) -> np.ndarray:
        return np.ascontiguousarray(value).reshape(count, *shape)

    own = flat(rows @ _adjoint(other_rows), n, k)
    cross = flat(rows @ np.swapaxes(other_rows, -1, -2), n, k)
    left = flat(Lambda, n), flat(one_minus_abs2(Lambda), n)
    right = flat(other_Lambda, k), flat(one_minus_abs2(other_Lambda), k)
    gramians = np.empty((count, 2 * n, 2 * k))
    _cauchy.real_gramians(own, cross, left, right, gramians)
    return gramians.reshape(*batch, 2 * n, 2 * k)


def unit_diagonal(gramian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Semidefinite matrices scaled to ones on the diagonal, and the scales, (..., n, 1): 1 for rows of zeros."""
    diagonal = np.diagonal(gramian, axis1=-2, axis2=-1)
    scale = np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))[..., :, None]
    return gramian / scale / np.swapaxes(scale, -1, -2), scale


def safe_cholesky(gramian: np.ndarray) -> np.ndarray | None:
    """Cholesky factor with the diagonal scaled to 1 first; None where it fails or a pivot is too small to trust."""
    scaled, scale = unit_diagonal(gramian)
    try:
        factor = np.linalg.cholesky(scaled)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(factor, axis1=-2, axis2=-1)
    return scale * factor if pivots.size and pivots.min() > _SAFE_PIVOT else None


def _adjoint(matrix: np.ndarray) -> np.ndarray:
    return np.conj(np.swapaxes(matrix, -1, -2))


def cauchy_factor(Lambda: Array, rows: Array, *, threads: int | None = None) -> Array:
    r"""Factor :math:`L` of the solution :math:`P = L L^*` of :math:`P - \Lambda P \Lambda^* = R R^*`; no P is formed.

    One pole is eliminated a step, the one with the largest remaining diagonal entry of :math:`P` (pivoted Cholesky).
    With its row turned to :math:`(\rho, 0, \ldots, 0)` by a reflection, the column is

    .. math:: L_{i} = r_{i1} \frac{\sqrt{1 - |\lambda_k|^2}}{1 - \lambda_i \bar\lambda_k},
              \qquad r_{i1} \leftarrow r_{i1} \frac{\lambda_i - \lambda_k}{1 - \lambda_i \bar\lambda_k}

    Nothing is subtracted but poles, so that with one column of :math:`R` every entry has a small relative error, and
    the factor cannot fail for not being positive definite.

    Parameters
    ----------
    Lambda : array, shape (..., n), complex128
        Stable poles.
    rows : array, shape (..., n, m), complex128
        B for the controllability Gramian; :math:`C^*`, with the conjugate poles, for the observability Gramian.
    threads : int, optional
        Threads over the systems of a batch (NumPy arrays).

    Returns
    -------
    array, shape (..., n, n), complex128
        Columns in the order of elimination, 0 beyond the rank.

    Notes
    -----
    O(n^2 m). With several columns the reflections keep the error of a row small against the row, not against each of
    its entries. Compiled for NumPy arrays; other namespaces run the loop of the reference engine, which is
    differentiable. See Gohberg, Kailath and Olshevsky, "Fast Gaussian elimination with partial pivoting for matrices
    with displacement structure", Math. Comp. 64 (1995), and Demmel, "Accurate singular value decompositions of
    structured matrices", SIAM J. Matrix Anal. Appl. 21 (1999).

    Examples
    --------
    >>> L = cauchy_factor(np.array([0.6 + 0j]), np.array([[2.0 + 0j]]))
    >>> (L @ L.conj().T).real.round(12)
    array([[6.25]])
    """
    gaps = one_minus_abs2(Lambda)
    if not isinstance(Lambda, np.ndarray):
        from . import _cauchy_reference

        return _cauchy_reference.cauchy_factor(Lambda, gaps, rows)
    from . import _cauchy

    n, m = rows.shape[-2:]
    count = math.prod(Lambda.shape[:-1])
    poles, gaps = (np.ascontiguousarray(a).reshape(count, n) for a in (Lambda, gaps))
    work = np.array(rows, dtype=np.complex128, order="C").reshape(count, n, m)
    factor = np.empty((len(poles), n, n), dtype=np.complex128)

    def part(start: int, stop: int) -> None:
        _cauchy.cauchy_factors(poles[start:stop], gaps[start:stop], work[start:stop], factor[start:stop])

    for_each_part(part, len(poles), threads)
    return factor.reshape(*Lambda.shape, n)


def real_factor(Lambda: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Square factor of `real_gramian`: Cholesky where that is safe, else from `cauchy_factor`, which cannot fail."""
    factor = safe_cholesky(real_gramian(Lambda, rows))
    return factor_in_real_coordinates(Lambda, rows) if factor is None else factor


def factor_in_real_coordinates(Lambda: np.ndarray, rows: np.ndarray, *, threads: int | None = 1) -> np.ndarray:
    """Square factor of `real_gramian` from `cauchy_factor`: no Gramian is formed, whose small pivots would be noise.

    Parameters
    ----------
    Lambda : ndarray, shape (..., n), complex128
        Stable.
    rows : ndarray, shape (..., n, m), complex128
    threads : int, optional

    Returns
    -------
    ndarray, shape (..., 2 n, 2 n), float64
    """
    n = Lambda.shape[-1]
    if rows.shape[-1] == 1:
        return _factor_of_one_input(Lambda, rows, threads)
    poles = np.concatenate([Lambda, np.conj(Lambda)], axis=-1)
    closed = cauchy_factor(poles, np.concatenate([rows, np.conj(rows)], axis=-2), threads=threads)
    top, bottom = closed[..., :n, :], closed[..., n:, :]
    states = np.concatenate([top + bottom, -1j * (top - bottom)], axis=-2) / np.sqrt(2.0)
    wide = np.concatenate([states.real, states.imag], axis=-1)
    return np.swapaxes(np.linalg.qr(np.swapaxes(wide, -1, -2), mode="r"), -1, -2)


def _factor_of_one_input(Lambda: np.ndarray, rows: np.ndarray, threads: int | None) -> np.ndarray:
    from . import _cauchy

    n, count = Lambda.shape[-1], math.prod(Lambda.shape[:-1])
    poles, gaps = (np.ascontiguousarray(a).reshape(count, n) for a in (Lambda, one_minus_abs2(Lambda)))
    work = np.array(rows, dtype=np.complex128, order="C").reshape(count, n)
    factor = np.empty((count, 2 * n, 2 * n))

    def part(start: int, stop: int) -> None:
        _cauchy.real_factors(poles[start:stop], gaps[start:stop], work[start:stop], factor[start:stop])

    for_each_part(part, count, threads)
    return factor.reshape(*Lambda.shape[:-1], 2 * n, 2 * n)
