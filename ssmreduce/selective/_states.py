"""Taking and silencing states of a selective layer, and folding what can be folded."""

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import NotRepresentableError, SelectionError
from ._layers import Array, Mamba1SSM, Mamba2SSM, SelectiveSSM


def state_indices(layer: SelectiveSSM, keep: Any) -> np.ndarray:
    """Check the states that are to stay: increasing indices, shape (groups, n).

    Raises
    ------
    SelectionError
        Not increasing, out of range, none at all, or another number of rows than groups.
    """
    groups = layer.groups  # type: ignore[attr-defined]
    index = np.asarray(keep)
    if index.size == 0 or index.dtype.kind not in "iu":
        raise SelectionError("keep must hold at least one index of a state, as integers")
    index = np.broadcast_to(index, (groups, index.shape[-1])) if index.ndim == 1 else index
    if index.shape[0] != groups or index.ndim != 2:
        raise SelectionError(f"keep has shape {index.shape}; one row per group is needed ({groups})")
    if index.min() < 0 or index.max() >= layer.order or np.any(np.diff(index, axis=1) <= 0):
        raise SelectionError(f"keep must be increasing indices below {layer.order} in each group")
    return index.astype(np.int64)


def take_states(layer: Any, keep: Any) -> Any:
    """Layer with some of its states, and everything else as it was.

    Without norms over the states the result is a stock layer of a smaller state size, and equals the layer whose other
    states are silent. With such norms (Falcon-Mamba, Jamba) the rows of B and C stay, so that the result is exact, and
    stock code cannot hold it.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    keep : array_like of int, shape (n,) or (groups, n)
        Increasing indices.

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Raises
    ------
    SelectionError

    Examples
    --------
    >>> from ssmreduce.selective import random_layer, take_states
    >>> layer = random_layer("mamba2", width=8, order=16, groups=2, seed=0)
    >>> take_states(layer, [[0, 1], [4, 9]]).order
    2
    """
    index = state_indices(layer, keep)
    return _take_mamba1(layer, index[0]) if layer.kind == "mamba1" else _take_mamba2(layer, index)


def _take_mamba1(layer: Mamba1SSM, keep: np.ndarray) -> Mamba1SSM:
    if layer.norm_eps is None and layer.take_B is None and layer.mix_C is None:
        head = layer.rank
        rows = np.concatenate([np.arange(head), head + keep, head + layer.rows + keep])
        bias = None if layer.x_bias is None else layer.x_bias[rows]
        return replace(layer, x_proj=layer.x_proj[rows], x_bias=bias, A_log=layer.A_log[:, keep])
    take = keep if layer.take_B is None else np.asarray(layer.take_B)[keep]
    mix = like(np.eye(layer.rows)[keep], layer.A_log) if layer.mix_C is None else layer.mix_C[keep]
    return replace(layer, A_log=layer.A_log[:, keep], take_B=take, mix_C=mix)


def _take_mamba2(layer: Mamba2SSM, keep: np.ndarray) -> Mamba2SSM:
    if layer.mix_B is not None and layer.mix_C is not None:
        group = np.arange(layer.groups)[:, None]
        return replace(layer, mix_B=layer.mix_B[group, keep], mix_C=layer.mix_C[group, keep])
    kept = (keep + layer.rows * np.arange(layer.groups)[:, None]).ravel()
    states = np.concatenate([kept, layer.groups * layer.rows + kept])
    inner, total = layer.inner, int(layer.in_proj.shape[0])
    channels = np.concatenate([np.arange(inner), inner + states])
    rows = np.concatenate([np.arange(inner), inner + channels, np.arange(total - layer.heads, total)])
    return replace(
        layer,
        in_proj=layer.in_proj[rows],
        in_bias=None if layer.in_bias is None else layer.in_bias[rows],
        conv=layer.conv[channels],
        conv_bias=None if layer.conv_bias is None else layer.conv_bias[channels],
    )


def silence_states(layer: Any, drop: Any) -> Any:
    """Layer of the same shapes in which some states have no effect on the output.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    drop : array_like of int, shape (n,) or (groups, n)
        Increasing indices of the states to silence.

    Returns
    -------
    Mamba1SSM or Mamba2SSM

    Raises
    ------
    SelectionError

    Examples
    --------
    >>> from ssmreduce.selective import random_layer, silence_states
    >>> layer = random_layer("mamba1", width=4, order=8, seed=0)
    >>> silence_states(layer, [1, 2]).order
    8
    """
    index = state_indices(layer, drop)
    mix = layer.mix_C
    if layer.kind == "mamba1":
        mix = like(np.eye(layer.rows), layer.A_log) if mix is None else mix
        return absorb(replace(layer, mix_C=_scaled(mix, index[0], axis=0)))
    if mix is None:
        channels = (
            layer.inner + layer.groups * layer.rows + (index + layer.rows * np.arange(layer.groups)[:, None]).ravel()
        )
        bias = None if layer.conv_bias is None else _scaled(layer.conv_bias, channels, axis=0)
        return replace(layer, conv=_scaled(layer.conv, channels, axis=0), conv_bias=bias)
    ones = np.ones((layer.groups, layer.order, 1))
    np.put_along_axis(ones, index[:, :, None], 0.0, axis=1)
    return replace(layer, mix_C=mix * like(ones, mix))


def absorb(layer: Mamba1SSM) -> Mamba1SSM:
    """Fold the mix of C of a Mamba-1 layer into ``x_proj``, so that stock code can hold the layer.

    Raises
    ------
    NotRepresentableError
        A norm over the states stands between ``x_proj`` and C.
    """
    if layer.take_B is None and layer.mix_C is None:
        return layer
    if layer.norm_eps is not None:
        raise NotRepresentableError(
            "the layer normalises B and C over all its states (Falcon-Mamba, Jamba), so a selection or a mix cannot be "
            "absorbed in x_proj; keep it as a drop-in layer"
        )
    head, rows = layer.rank, layer.rows
    take = np.arange(layer.order) if layer.take_B is None else np.asarray(layer.take_B)
    mix = like(np.eye(rows), layer.A_log) if layer.mix_C is None else layer.mix_C
    weight, bias = layer.x_proj, layer.x_bias
    parts = [weight[:head], weight[head : head + rows][take], mix @ weight[head + rows :]]
    if bias is not None:
        bias = stack([bias[:head], bias[head : head + rows][take], mix @ bias[head + rows :]])
    return replace(layer, x_proj=stack(parts), x_bias=bias, take_B=None, mix_C=None)


def like(values: np.ndarray, array: Array) -> Array:
    """A NumPy array as an array of the library, precision and device of another."""
    if isinstance(array, np.ndarray):
        return np.asarray(values, dtype=array.dtype)
    import torch

    return torch.as_tensor(np.asarray(values), dtype=array.dtype, device=array.device)


def stack(parts: list[Array]) -> Array:
    """Concatenate along the first axis."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    import torch

    return torch.cat(parts)


def _scaled(array: Array, rows: np.ndarray, axis: int) -> Array:
    """Array with some rows set to zero."""
    shape = [1] * len(array.shape)
    shape[axis] = int(array.shape[axis])
    ones = np.ones(shape[axis])
    ones[rows] = 0.0
    return array * like(ones.reshape(shape), array)
