"""Block optimal brain surgeon: drop the state whose loss the others can best make up for, one after the other."""

import numpy as np

from ..errors import SelectionError
from ._moments import SelectiveMoments, joint_tensor
from ._scores import damped


def surgeon(moments: SelectiveMoments, order: int, *, ridge: float = 1e-4) -> tuple[np.ndarray, np.ndarray]:
    r"""States to keep, and the mix of C with which they stand in for the others.

    With :math:`J(M) = m^T G m - 2 r^T m + \mathrm{const}` in the rows :math:`m_k` of M (state k is read out with
    :math:`m_k^T C`), state k costs

    .. math:: \delta_k = m_k^T [(G^{-1})_{kk}]^{-1} m_k ,

    and dropping it changes the other rows by :math:`-(G^{-1})_{:k} [(G^{-1})_{kk}]^{-1} m_k` (block form of Hassibi and
    Stork, 1993). Starting from :math:`M = I`, the cheapest state is dropped until `order` are left; then M minimises J
    with a ridge that pulls it to the M at hand.

    Parameters
    ----------
    moments : SelectiveMoments
        Of a layer with one group. Without joint moments the Kronecker form :math:`G = P \otimes Q / T` is used, whose
        minimum is the M at hand.
    order : int
    ridge : float
        In units of the mean eigenvalue of G.

    Returns
    -------
    keep : ndarray, shape (order,), int64
        Increasing indices.
    mix : ndarray, shape (order, N)
        The rows of M that are left: ``mix_C`` of the reduced layer.

    Raises
    ------
    SelectionError
        ``order`` is out of range, or the layer has several groups.

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, selective_moments, surgeon
    >>> layer = random_layer("mamba1", width=4, order=8)
    >>> moments = selective_moments(layer, np.random.default_rng(0).standard_normal((2, 64, 4)))
    >>> keep, mix = surgeon(moments, 4)
    >>> keep.shape, mix.shape
    ((4,), (4, 8))
    """
    if not 1 <= order <= moments.order:
        raise SelectionError(f"order must be from 1 to {moments.order}, got {order}")
    if moments.groups != 1:
        raise SelectionError("the mix of C can be chosen freely in Mamba-1 layers only, which have one group")
    if moments.joint is None:
        return _kronecker(moments, order)
    return _joint(moments, order, ridge)


def _kronecker(moments: SelectiveMoments, order: int) -> tuple[np.ndarray, np.ndarray]:
    Q, inverse = moments.readouts[0], np.linalg.inv(damped(moments.contributions[0]))
    left, M = list(range(moments.order)), np.eye(moments.order)
    while len(left) > order:
        cost = np.einsum("kn,nm,km->k", M[left], Q, M[left]) / inverse[left, left]
        k = left.pop(int(np.argmin(cost)))
        M -= np.outer(inverse[:, k] / inverse[k, k], M[k])
        inverse -= np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    return np.array(left, dtype=np.int64), M[left]


def _joint(moments: SelectiveMoments, order: int, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    N = moments.order
    G = joint_tensor(moments, 0).transpose(0, 2, 1, 3).reshape(N * N, N * N)
    inverse = np.linalg.inv(damped(G)).reshape(N, N, N, N)  # state, column, state, column
    left, M = list(range(N)), np.eye(N)
    while len(left) > order:
        blocks = {k: np.linalg.inv(inverse[k, :, k]) for k in left}
        k = min(left, key=lambda n: float(M[n] @ blocks[n] @ M[n]))
        left.remove(k)
        pull = np.einsum("nmj,jl->nml", inverse[:, :, k], blocks[k])
        M = M - pull @ M[k]
        inverse = inverse - np.einsum("nml,lpq->nmpq", pull, inverse[k], optimize=True)
    return np.array(left, dtype=np.int64), refitted(G, moments.cross[0], left, M[left], ridge)


def refitted(G: np.ndarray, cross: np.ndarray, keep: list[int], mix: np.ndarray, ridge: float) -> np.ndarray:
    """The rows of M that minimise J over the states that are left, drawn to those given."""
    N = mix.shape[1]
    rows = (np.asarray(keep)[:, None] * N + np.arange(N)).ravel()
    block = G[np.ix_(rows, rows)]
    weight = ridge * np.trace(G) / len(G)
    right = cross[keep].ravel() + weight * mix.ravel()
    return np.linalg.solve(block + weight * np.eye(len(rows)), right).reshape(len(keep), N)
