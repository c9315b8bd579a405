"""Balanced truncation of the state axis of Mamba-2 layers by data, and its refinement by alternating least squares."""

import numpy as np
import scipy

from ..errors import SelectionError
from ._moments import SelectiveMoments
from ._scores import damped


def rotate(moments: SelectiveMoments, order: int) -> tuple[np.ndarray, np.ndarray]:
    r"""Mixes of B and C that balance the states of each group on data and keep the first ones.

    All states of a head share their pole, so any invertible T leaves the layer unchanged where B becomes TB and C
    becomes :math:`T^{-T} C`. With the factors :math:`P = F F^T` and :math:`Q = K K^T` of the moments and
    :math:`F^T K = U \Sigma V^T`, the first r balanced coordinates are

    .. math:: W_B = \Sigma_r^{1/2} U_r^T F^{-1}, \qquad W_C = \Sigma_r^{1/2} V_r^T K^{-1},

    and :math:`W_B^T W_C` is the matrix of rank r nearest to I in the norm :math:`\|F^T (\cdot) K\|_F`: the minimum of J
    in its Kronecker form.

    Parameters
    ----------
    moments : SelectiveMoments
    order : int
        r, states to keep per group.

    Returns
    -------
    mix_B, mix_C : ndarray, shape (G, r, N)

    Raises
    ------
    SelectionError

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, rotate, selective_moments
    >>> layer = random_layer("mamba2", width=8, order=16)
    >>> moments = selective_moments(layer, np.random.default_rng(0).standard_normal((2, 64, 8)))
    >>> mix_B, mix_C = rotate(moments, 16)
    >>> bool(np.allclose(mix_B[0].T @ mix_C[0], np.eye(16), atol=1e-6))
    True
    """
    _require_order(moments, order)
    pairs = [_balanced(moments.contributions[g], moments.readouts[g], order) for g in range(moments.groups)]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def _balanced(P: np.ndarray, Q: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    F, K = (np.linalg.cholesky(damped(matrix, 1e-10)) for matrix in (P, Q))
    U, sigma, Vt = np.linalg.svd(F.T @ K)
    root = np.sqrt(sigma[:order])[:, None]
    mix_B = root * scipy.linalg.solve_triangular(F, U[:, :order], lower=True, trans="T").T
    mix_C = root * scipy.linalg.solve_triangular(K, Vt[:order].T, lower=True, trans="T").T
    return mix_B, mix_C


def balanced_values(moments: SelectiveMoments) -> np.ndarray:
    r"""Singular values :math:`\Sigma` of `rotate` per group, decreasing: the counterpart of Hankel singular values.

    Returns
    -------
    ndarray, shape (G, N)
    """
    values = []
    for P, Q in zip(moments.contributions, moments.readouts, strict=True):
        F, K = (np.linalg.cholesky(damped(matrix, 1e-10)) for matrix in (P, Q))
        values.append(np.linalg.svd(F.T @ K, compute_uv=False))
    return np.array(values)


def alternate(
    moments: SelectiveMoments, mix_B: np.ndarray, mix_C: np.ndarray, *, sweeps: int = 10, ridge: float = 1e-6
) -> tuple[np.ndarray, np.ndarray]:
    r"""Improve the mixes of a Mamba-2 layer by alternating least squares on J.

    :math:`J(W_B^T W_C)` is quadratic in each of the two mixes; each half step solves for one of them, with a ridge that
    pulls it to what it was, so that J does not grow.

    Parameters
    ----------
    moments : SelectiveMoments
        With joint moments.
    mix_B, mix_C : ndarray, shape (G, r, N)
        Where to begin, as `rotate` returns them.
    sweeps : int
    ridge : float
        In units of the mean eigenvalue of each system of equations.

    Returns
    -------
    mix_B, mix_C : ndarray, shape (G, r, N)

    Raises
    ------
    SelectionError
        There are no joint moments.

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import alternate, random_layer, relative_error, rotate, selective_moments
    >>> layer = random_layer("mamba2", width=8, order=8)
    >>> moments = selective_moments(layer, np.random.default_rng(0).standard_normal((2, 64, 8)))
    >>> first = rotate(moments, 2)
    >>> better = alternate(moments, *first)
    >>> errors = [relative_error(moments, b.swapaxes(1, 2) @ c) for b, c in (first, better)]
    >>> bool(errors[1] <= errors[0])
    True
    """
    if moments.joint is None:
        raise SelectionError("alternating least squares needs joint moments: selective_moments(..., joint=True)")
    results = [
        _alternate(moments.joint[g], moments.cross[g], mix_B[g], mix_C[g], sweeps, ridge) for g in range(moments.groups)
    ]
    return np.stack([pair[0] for pair in results]), np.stack([pair[1] for pair in results])


def _alternate(
    joint: np.ndarray, cross: np.ndarray, mix_B: np.ndarray, mix_C: np.ndarray, sweeps: int, ridge: float
) -> tuple[np.ndarray, np.ndarray]:
    for _ in range(sweeps):
        mix_B = _half_step(joint, cross, mix_B, mix_C, ridge)
        mix_C = _half_step(joint.T, cross.T, mix_C, mix_B, ridge)
    return mix_B, mix_C


def _half_step(joint: np.ndarray, cross: np.ndarray, free: np.ndarray, fixed: np.ndarray, ridge: float) -> np.ndarray:
    """Best mix on the side of the rows of `joint`, shape (r, N), the other one fixed."""
    rank, order = free.shape
    a, b = np.triu_indices(order)
    # coefficient of each pair (a, b) of the fixed side in the product of its mixed coordinates i and j
    products = fixed[:, None, a] * fixed[None, :, b]
    products = np.where(a == b, products, products + fixed[:, None, b] * fixed[None, :, a])
    pairs = joint @ products.reshape(rank * rank, -1).T  # (pairs of the free side, i j)
    normal = np.empty((order, order, rank, rank))
    normal[a, b] = pairs.reshape(-1, rank, rank)
    normal[b, a] = normal[a, b]
    matrix = normal.transpose(2, 0, 3, 1).reshape(rank * order, rank * order)
    weight = ridge * np.trace(matrix) / len(matrix)
    right = (fixed @ cross.T + weight * free).ravel()
    matrix[np.diag_indices_from(matrix)] += weight
    return scipy.linalg.solve(matrix, right, assume_a="pos").reshape(rank, order)


def _require_order(moments: SelectiveMoments, order: int) -> None:
    if not 1 <= order <= moments.order:
        raise SelectionError(f"order must be from 1 to {moments.order}, got {order}")
