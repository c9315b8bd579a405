"""Gramians, H2 norm and Hankel singular values of dense systems, so that reduced models can be checked."""

import numpy as np

from ..errors import UnstableSystemError
from ..systems import StateSpace
from ..systems._guards import require_stable_dense

_DOUBLINGS = 60


def dense_factor(A: np.ndarray, rows: np.ndarray) -> np.ndarray:
    r"""Triangular factor of the solution of :math:`P = A P A^T + R R^T` by squared Smith steps in factored form.

    :math:`L_{k+1} = [L_k, A^{2^k} L_k]`, compressed by a QR factorisation: nothing is subtracted, no P is formed.

    Parameters
    ----------
    A : ndarray, shape (n, n), float64
        All poles inside the unit circle.
    rows : ndarray, shape (n, m), float64

    Returns
    -------
    ndarray, shape (n, r), float64, r <= n

    Raises
    ------
    UnstableSystemError
        No convergence: A is too close to instability for double precision.

    References
    ----------
    Penzl, "A cyclic low-rank Smith method for large sparse Lyapunov equations", SIAM J. Sci. Comput. 21 (2000);
    Anderson, "Second-order convergent algorithms for the steady-state Riccati equation", Int. J. Control 28 (1978).

    Examples
    --------
    >>> L = dense_factor(np.array([[0.6]]), np.array([[2.0]]))
    >>> (L @ L.T).round(12)
    array([[6.25]])
    """
    factor, power = rows, A
    for _ in range(_DOUBLINGS):
        added = power @ factor
        factor = np.transpose(np.linalg.qr(np.hstack([factor, added]).T, mode="r"))
        if np.linalg.norm(added) <= 1e-17 * np.linalg.norm(factor):
            return factor
        power = power @ power
        if not np.isfinite(power).all():
            break
    raise UnstableSystemError(
        "the Gramian series does not converge: a pole of A is on the unit circle to double precision"
    )


def dense_gramian_factors(system: StateSpace) -> tuple[np.ndarray, np.ndarray]:
    """Factors L, K of the controllability and observability Gramians L L^T and K K^T."""
    require_stable_dense(system, "the Gramian")
    return dense_factor(system.A, system.B), dense_factor(system.A.T, system.C.T)


def dense_hankel_singular_values(system: StateSpace) -> np.ndarray:
    """Hankel singular values, shape (n,), largest first, zeros beyond the rank of the factors."""
    L, K = dense_gramian_factors(system)
    values = np.linalg.svd(K.T @ L, compute_uv=False)
    return np.concatenate([values, np.zeros(system.A.shape[0] - values.size)])


def dense_h2_norm(system: StateSpace) -> float:
    r"""H2 norm :math:`\sqrt{\|D\|_F^2 + \|C L\|_F^2}` with :math:`L L^T` the controllability Gramian."""
    require_stable_dense(system, "the H2 norm")
    return float(np.hypot(np.linalg.norm(system.D), np.linalg.norm(system.C @ dense_factor(system.A, system.B))))
