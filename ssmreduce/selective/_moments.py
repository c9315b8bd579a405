"""Second moments of what the states of a selective layer contribute to its output: summed, never edited."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArrayKindError, SelectionError, ShapeError
from ._forward import Signals, initial_state, output_weights, project, readout, recur
from ._functions import is_numpy

EXACT_WIDTH = 64
"""Up to this width of the residual stream every output channel is followed; beyond it, random combinations."""

JOINT_ENTRIES = 64**4
"""Up to this many entries per group the joint moments of contributions and readouts are kept by default."""

TOKENS = 2048
"""Tokens taken together, whole sequences at least: what bounds the memory."""


@dataclass(frozen=True, eq=False)
class SelectiveMoments:
    r"""Second moments of one layer on data.

    At token t, group g contributes :math:`H_t C_t` to the residual stream, where :math:`H_t = \Omega_t X_t` (d x N)
    holds what each state puts there and :math:`\Omega_t` stands for gate, norm and output projection. With
    :math:`S_t = H_t^T H_t` and :math:`\delta_t`, the wanted output minus that of the layer:

    Attributes
    ----------
    tokens : int
        Number of tokens summed.
    contributions : ndarray, shape (G, N, N)
        :math:`P = \sum_t S_t`.
    readouts : ndarray, shape (G, N, N)
        :math:`Q = \sum_t C_t C_t^T`.
    cross : ndarray, shape (G, N, N)
        :math:`R = \sum_t (S_t C_t + H_t^T \delta_t / G) C_t^T`.
    energy : ndarray, shape (G,)
        :math:`\sum_t \|H_t C_t + \delta_t / G\|^2`.
    by_state : ndarray, shape (G, N)
        :math:`\sum_t (S_t)_{nn} (C_t)_n^2`.
    raw : ndarray, shape (G, N)
        :math:`\sum_t \sum_i (X_t)_{in}^2 (C_t)_n^2`: the same before gate, norm and output projection; for a
        bidirectional layer summed over both directions.
    joint : ndarray, shape (G, N (N + 1) / 2, N (N + 1) / 2), or None
        :math:`\sum_t \mathrm{vech}(S_t) \mathrm{vech}(C_t C_t^T)^T`, where vech stacks the upper triangle.
    """

    tokens: int
    contributions: np.ndarray
    readouts: np.ndarray
    cross: np.ndarray
    energy: np.ndarray
    by_state: np.ndarray
    raw: np.ndarray
    joint: np.ndarray | None = None

    def __add__(self, other: "SelectiveMoments") -> "SelectiveMoments":
        if not isinstance(other, SelectiveMoments):
            return NotImplemented
        if self.cross.shape != other.cross.shape or (self.joint is None) != (other.joint is None):
            raise ShapeError("moments of layers of different sizes, or with and without joint moments, cannot be added")
        joint = None if self.joint is None or other.joint is None else self.joint + other.joint
        return SelectiveMoments(
            self.tokens + other.tokens,
            self.contributions + other.contributions,
            self.readouts + other.readouts,
            self.cross + other.cross,
            self.energy + other.energy,
            self.by_state + other.by_state,
            self.raw + other.raw,
            joint,
        )

    @property
    def groups(self) -> int:
        """Number of groups."""
        return int(self.cross.shape[0])

    @property
    def order(self) -> int:
        """Number of states per group."""
        return int(self.cross.shape[1])


def selective_moments(
    layer: Any,
    u: np.ndarray,
    target: np.ndarray | None = None,
    *,
    joint: bool | None = None,
    probes: int | None = None,
    seed: Any = 0,
) -> SelectiveMoments:
    r"""Second moments of the contributions of the states of a layer.

    Memory does not grow with the number of sequences, which are taken a few at a time. Moments of several calls are
    summed with ``+``.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
        In NumPy arrays.
    u : ndarray, shape (b, L, d)
        Inputs of the layer (of the already reduced network, where layers are reduced one after the other).
    target : ndarray, shape (b, L, d), optional
        Outputs to be reproduced; those of the layer itself by default.
    joint : bool, optional
        Whether to keep the joint moments, of :math:`N^4 / 4` entries per group; by default where N is at most 64.
    probes : int, optional
        Follow this many random combinations of the output channels (independent signs, fresh ones at each token)
        instead of every channel: the moments are then unbiased estimates. By default all channels up to a width of
        64, and 8 combinations beyond.
    seed : int or Generator
        Seed of the combinations.

    Returns
    -------
    SelectiveMoments

    Raises
    ------
    ShapeError
        ``target`` has another shape than the output.
    ArrayKindError
        The layer is not in NumPy arrays.
    SelectionError
        ``probes`` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, selective_moments
    >>> layer = random_layer("mamba2", width=8, order=16)
    >>> u = np.random.default_rng(0).standard_normal((4, 32, 8))
    >>> moments = selective_moments(layer, u[:2]) + selective_moments(layer, u[2:])
    >>> moments.tokens, moments.contributions.shape
    (128, (1, 16, 16))
    """
    if not is_numpy(layer.A_log):
        raise ArrayKindError("moments are computed of a layer in NumPy arrays; see layer.map_arrays")
    if probes is not None and probes < 1:
        raise SelectionError(f"probes must be a positive integer, got {probes}")
    if target is not None and target.shape != (*u.shape[:2], layer.outputs):
        raise ShapeError(f"target has shape {target.shape}; the output has {(*u.shape[:2], layer.outputs)}")
    if probes is None and layer.outputs > EXACT_WIDTH:
        probes = 8
    if joint is None:
        joint = layer.order**4 <= JOINT_ENTRIES
    rng = np.random.default_rng(seed)
    total: SelectiveMoments | None = None
    together = max(1, TOKENS // u.shape[1])
    for k in range(0, len(u), together):
        wanted = None if target is None else target[k : k + together]
        moments = _of_sequences(layer, u[k : k + together], wanted, joint, probes, rng)
        total = moments if total is None else total + moments
    if total is None:
        raise ShapeError("u holds no sequence")
    return total


def _of_sequences(
    layer: Any, u: np.ndarray, target: np.ndarray | None, joint: bool, probes: int | None, rng: np.random.Generator
) -> SelectiveMoments:
    signals, weights, delta = _around(layer, u, target)
    tokens = u.shape[0] * u.shape[1]
    directions = _directions(layer, tokens, probes, u.dtype, rng)  # (1 or T, q, d)
    combined = np.matmul(directions, layer.out_proj) * weights.reshape(tokens, 1, layer.inner)  # (T, q, I)
    features, squares = _features(layer, signals, combined.reshape(*u.shape[:2], -1, layer.inner))
    scale = 1 if probes is None else 1 / np.sqrt(probes)
    features = features.astype(np.float64) * scale  # (T, q, G, N)
    C = signals.C.reshape(tokens, layer.groups, layer.order).astype(np.float64)
    wanted = np.matmul(directions, delta.reshape(tokens, -1, 1))[..., 0] * scale
    return _summed(features, squares.astype(np.float64), C, wanted / layer.groups, joint)


def _around(layer: Any, u: np.ndarray, target: np.ndarray | None) -> tuple[Signals, np.ndarray, np.ndarray]:
    """What drives the recurrence, the factors of the inner channels, and the wanted output minus the layer's."""
    start = initial_state(layer, len(u))
    signals = project(layer, u, start.conv)
    y, _ = recur(layer, signals, start.ssm)
    weights = output_weights(layer, y.reshape(*signals.gate.shape), signals.gate)
    if target is None:
        return signals, weights, np.zeros((*u.shape[:2], layer.outputs))
    return signals, weights, (target - readout(layer, y, signals)).astype(np.float64)


def _directions(layer: Any, tokens: int, probes: int | None, dtype: Any, rng: np.random.Generator) -> np.ndarray:
    if probes is None:
        return np.eye(layer.outputs, dtype=dtype)[None]
    return (2 * rng.integers(0, 2, (tokens, probes, layer.outputs)) - 1).astype(dtype)


def _features(layer: Any, signals: Signals, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of the rows of the states (T, q, G, n), and sums of their squares (T, G, n)."""
    from ._loops import features_mamba1, features_mamba2

    x, dt, B, weights = (np.ascontiguousarray(v) for v in (signals.x, signals.dt, signals.B, weights))
    A = np.ascontiguousarray(-np.exp(layer.A_log))
    batch, length, probes = weights.shape[:3]
    features = np.zeros((batch, length, probes, layer.groups, layer.order), dtype=x.dtype)
    squares = np.zeros((batch, length, layer.groups, layer.order), dtype=x.dtype)
    state = initial_state(layer, batch).ssm
    if layer.kind == "mamba2":
        weights = weights.reshape(batch, length, probes, layer.heads, layer.head_dim)
        features_mamba2(x, dt, A, B, weights, state, features, squares)
    else:
        features_mamba1(x, dt, A, B, weights, state, features, squares, False)
        if layer.bidirectional:
            features_mamba1(x, dt, A, B, weights, np.zeros_like(state), features, squares, True)
    return features.reshape(-1, *features.shape[2:]), squares.reshape(-1, *squares.shape[2:])


def _summed(
    features: np.ndarray, squares: np.ndarray, C: np.ndarray, wanted: np.ndarray, joint: bool
) -> SelectiveMoments:
    """Sums over the tokens: features (T, q, G, N), squares and C (T, G, N), wanted (T, q)."""
    length, groups, order = C.shape
    outputs = np.einsum("lqgn,lgn->lqg", features, C, optimize=True) + wanted[:, :, None]
    stacked = features.transpose(2, 0, 1, 3).reshape(groups, -1, order)
    back = np.einsum("lqgn,lqg->gln", features, outputs, optimize=True)
    readouts = C.transpose(1, 2, 0)
    pairs = None
    if joint:
        upper = np.triu_indices(order)
        each = features.transpose(2, 0, 3, 1)  # (G, L, N, q)
        S = (each @ each.swapaxes(2, 3))[:, :, upper[0], upper[1]]
        CC = C[:, :, upper[0]] * C[:, :, upper[1]]
        pairs = S.transpose(0, 2, 1) @ CC.transpose(1, 0, 2)
    return SelectiveMoments(
        length,
        stacked.swapaxes(1, 2) @ stacked,
        readouts @ readouts.swapaxes(1, 2),
        back.transpose(0, 2, 1) @ C.transpose(1, 0, 2),
        np.einsum("lqg,lqg->g", outputs, outputs),
        np.einsum("lqgn,lgn->gn", features**2, C**2, optimize=True),
        np.einsum("lgn,lgn->gn", squares, C**2),
        pairs,
    )


def joint_tensor(moments: SelectiveMoments, group: int) -> np.ndarray:
    r"""The quadratic form of one group, shape (N, N, N, N): entry (n, n', m, m') is :math:`\sum_t S_{nn'} C_m C_{m'}`.

    Without joint moments: the Kronecker form :math:`P \otimes Q / T`.
    """
    if moments.joint is None:
        P, Q = moments.contributions[group], moments.readouts[group]
        return P[:, :, None, None] * Q[None, None] / moments.tokens
    index = _pair_index(moments.order)
    return moments.joint[group][index[:, :, None, None], index[None, None]]


def _pair_index(order: int) -> np.ndarray:
    """Position of each entry of a symmetric matrix in its stacked upper triangle."""
    index = np.zeros((order, order), dtype=np.int64)
    upper = np.triu_indices(order)
    index[upper] = np.arange(len(upper[0]))
    return np.maximum(index, index.T)


def relative_error(moments: SelectiveMoments, mixes: np.ndarray) -> float:
    r"""Relative error of the layer where :math:`H_t C_t` becomes :math:`H_t \Pi C_t`.

    The error is :math:`\sqrt{J / \sum_t \|H_t C_t + \delta_t\|^2}` with

    .. math:: J(\Pi) = \sum_t C_t^T \Pi^T S_t \Pi C_t - 2 \langle R, \Pi \rangle + \mathrm{const}

    Exact for Mamba-1 on the data of the moments; for Mamba-2 with the norm frozen and, with several groups, without the
    products between groups.

    Parameters
    ----------
    moments : SelectiveMoments
        With joint moments; without them the error of the Kronecker form is returned.
    mixes : ndarray, shape (G, N, N)
        :math:`\Pi`, one matrix per group.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, relative_error, selective_moments
    >>> layer = random_layer("mamba1", width=4, order=8)
    >>> moments = selective_moments(layer, np.random.default_rng(0).standard_normal((2, 32, 4)))
    >>> bool(relative_error(moments, np.eye(8)[None]) < 1e-6), relative_error(moments, np.zeros((1, 8, 8)))
    (True, 1.0)
    """
    error = 0.0
    for g in range(moments.groups):
        if moments.joint is None:
            gap = mixes[g] - np.eye(moments.order)
            error += np.sum((moments.contributions[g] @ gap) * (gap @ moments.readouts[g])) / moments.tokens
        else:
            error += quadratic(moments, g, mixes[g]) - 2 * np.sum(moments.cross[g] * mixes[g]) + moments.energy[g]
    return float(np.sqrt(max(error, 0.0) / np.sum(moments.energy)))


def quadratic(moments: SelectiveMoments, group: int, mix: np.ndarray) -> float:
    """The quadratic part of J for one group, from joint moments."""
    assert moments.joint is not None
    upper = np.triu_indices(moments.order)
    twice = np.where(upper[0] == upper[1], 1.0, 2.0)
    half = symmetric_pairs(mix)  # (n n', m m'), from the pairs of m to those of n
    return float(np.sum(moments.joint[group] * (half * twice[:, None])))


def symmetric_pairs(mix: np.ndarray) -> np.ndarray:
    """Coefficient of vech(S) vech(CC^T)^T in C^T M^T S M C per entry of S: rows and columns are upper triangles."""
    a, b = np.triu_indices(mix.shape[0])
    m, k = np.triu_indices(mix.shape[1])
    products = mix[a][:, m] * mix[b][:, k]
    mirrored = mix[a][:, k] * mix[b][:, m]
    return np.where(m == k, products, products + mirrored)
