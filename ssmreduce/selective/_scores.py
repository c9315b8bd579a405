"""Scores of the states of a selective layer, from its weights or from moments of data, and selections by score."""

from typing import Any

import numpy as np

from ..errors import SelectionError, UnknownNameError
from ._functions import softplus
from ._layers import Mamba1SSM
from ._moments import SelectiveMoments

CRITERIA = ("random", "magnitude", "aire", "ghost", "contribution", "surgeon")


def selective_scores(
    layer: Any, criterion: str, moments: SelectiveMoments | None = None, *, seed: Any = 0
) -> np.ndarray:
    r"""Score of each state of a selective layer; states of small score are dropped first.

    ==============  ===================================================================================================
    random          independent uniform numbers
    magnitude       product of the norms of the rows of B and of C in the projection that computes them
    aire            :math:`\|w_{B,n}\|^2 \|w_{C,n}\|^2 \sum_i 1 / (1 - e^{2 \Delta_i A_{in}})` at the time step that the
                    bias alone gives: the AIRE score, carried over to a layer whose poles move
    ghost           :math:`\sqrt{\mathrm{mean}_{t,i} (X_t)_{in}^2 (C_t)_n^2}`, the score of GHOST (Menezes, Kyrillidis
                    and Rice, arXiv 2602.11408): the root mean square change of y where the state is silenced
    contribution    the same in the residual stream: :math:`\sqrt{\mathrm{mean}_t (S_t)_{nn} (C_t)_n^2}`
    surgeon         increase of the error where the state is dropped and the others make up for it, in the Kronecker
                    form: :math:`Q_{nn} / (P^{-1})_{nn}`
    ==============  ===================================================================================================

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
        In NumPy arrays.
    criterion : {"random", "magnitude", "aire", "ghost", "contribution", "surgeon"}
    moments : SelectiveMoments, optional
        Needed by the last three.
    seed : int or Generator
        For ``random``.

    Returns
    -------
    ndarray, shape (groups, order)

    Raises
    ------
    UnknownNameError
    SelectionError
        The criterion needs moments.

    Examples
    --------
    >>> from ssmreduce.selective import random_layer, selective_scores
    >>> selective_scores(random_layer("mamba2", width=8, order=16, groups=2), "magnitude").shape
    (2, 16)
    """
    if criterion not in CRITERIA:
        raise UnknownNameError(f"there is no criterion {criterion!r} for selective layers; give {', '.join(CRITERIA)}")
    if criterion == "random":
        return np.random.default_rng(seed).uniform(size=(layer.groups, layer.order))
    if criterion in ("magnitude", "aire"):
        return _of_weights(layer, criterion)
    if moments is None:
        raise SelectionError(f"the criterion {criterion!r} needs moments; see selective_moments")
    if criterion == "ghost":
        return np.sqrt(moments.raw / (moments.tokens * (layer.inner // layer.groups)))
    if criterion == "contribution":
        return np.sqrt(moments.by_state / moments.tokens)
    return np.array(
        [
            np.diag(moments.readouts[g]) / np.diag(np.linalg.inv(damped(moments.contributions[g])))
            for g in range(moments.groups)
        ]
    )


def _of_weights(layer: Any, criterion: str) -> np.ndarray:
    if isinstance(layer, Mamba1SSM):
        first, rows = layer.rank, layer.rows
        B, C = (np.linalg.norm(layer.x_proj[i : i + rows], axis=1)[None] for i in (first, first + rows))
        if layer.take_B is not None:
            B = B[:, layer.take_B]
        if layer.mix_C is not None:
            C = np.linalg.norm(layer.mix_C @ layer.x_proj[first + rows :], axis=1)[None]
        decay = softplus(layer.dt_bias)[:, None] * -np.exp(layer.A_log)
        dwell = np.sum(-1 / np.expm1(2 * decay), axis=0)[None]
    else:
        states = layer.groups * layer.rows
        weights = layer.in_proj[2 * layer.inner : 2 * layer.inner + 2 * states].reshape(2, layer.groups, layer.rows, -1)
        if layer.mix_B is not None:
            weights = np.stack([layer.mix_B @ weights[0], layer.mix_C @ weights[1]])
        B, C = np.linalg.norm(weights, axis=-1)
        decay = softplus(layer.dt_bias) * -np.exp(layer.A_log)
        dwell = layer.head_dim * np.sum((-1 / np.expm1(2 * decay)).reshape(layer.groups, -1), axis=1)[:, None]
    return B * C if criterion == "magnitude" else B**2 * C**2 * dwell


def highest(scores: np.ndarray, order: int) -> np.ndarray:
    """Indices of the states of highest score, increasing, as many in each group; of equal ones the first.

    Parameters
    ----------
    scores : ndarray, shape (groups, n)
    order : int
        States to keep per group.

    Returns
    -------
    ndarray, shape (groups, order), int64

    Raises
    ------
    SelectionError

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import highest
    >>> highest(np.array([[3.0, 1.0, 2.0]]), 2)
    array([[0, 2]])
    """
    if not 1 <= order <= scores.shape[1]:
        raise SelectionError(f"order must be from 1 to {scores.shape[1]}, got {order}")
    return np.sort(np.argsort(-scores, axis=1, kind="stable")[:, :order], axis=1)


def damped(matrix: np.ndarray, relative: float = 1e-8) -> np.ndarray:
    """A positive semidefinite matrix with a small multiple of its mean eigenvalue added to the diagonal."""
    size = len(matrix)
    shift = relative * np.trace(matrix) / size
    return matrix + (shift if shift > 0 else 1.0) * np.eye(size)
