"""Running a selective layer: projections and convolution, the recurrence, gate and output projection.

The same few lines serve NumPy arrays, whose recurrence runs in compiled loops, and PyTorch tensors, whose recurrence is
differentiable.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ArrayKindError, NotCausalError, ShapeError
from ._functions import exp, is_numpy, join, linear, rms_scale, silu, softplus, zeros
from ._layers import Array, Mamba2SSM, SelectiveSSM


@dataclass(frozen=True, eq=False)
class LayerState:
    """What a selective layer remembers between tokens.

    Attributes
    ----------
    conv : array, shape (b, taps - 1, channels)
        The newest inputs of the convolution.
    ssm : array, shape (b, I, n) for Mamba-1, (b, H, P, n) for Mamba-2
        The state of the recurrence.
    """

    conv: Array
    ssm: Array


@dataclass(frozen=True, eq=False)
class Signals:
    """What drives the recurrence of a layer on data: x, dt, B, C, the gate z, and the new state of the convolution."""

    x: Array
    dt: Array
    B: Array
    C: Array
    gate: Array
    conv: Array


def initial_state(layer: SelectiveSSM, batch: int) -> LayerState:
    """State before the first token: zeros.

    Examples
    --------
    >>> from ssmreduce.selective import initial_state, random_layer
    >>> initial_state(random_layer("mamba2", width=8, order=16), 3).ssm.shape
    (3, 4, 4, 16)
    """
    like: Any = layer.A_log  # type: ignore[attr-defined]
    conv = zeros((batch, layer.taps - 1, int(layer.conv.shape[0])), like)  # type: ignore[attr-defined]
    if isinstance(layer, Mamba2SSM):
        return LayerState(conv, zeros((batch, layer.heads, layer.head_dim, layer.order), like))
    return LayerState(conv, zeros((batch, layer.inner, layer.order), like))


def simulate(layer: SelectiveSSM, u: Array) -> Array:
    """Output of a selective layer.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    u : array, shape (b, L, d)
        Input sequences, in the library and precision of the layer's arrays.

    Returns
    -------
    array, shape (b, L, d)

    Raises
    ------
    ShapeError, ArrayKindError

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, simulate
    >>> simulate(random_layer("mamba1", width=4, order=8), np.ones((2, 5, 4))).shape
    (2, 5, 4)
    """
    return run(layer, u)[0]


def run(layer: SelectiveSSM, u: Array, state: LayerState | None = None) -> tuple[Array, LayerState]:
    """Output of a selective layer on the next tokens, and its state behind them.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    u : array, shape (b, L, d)
    state : LayerState, optional
        State before these tokens; zeros by default. It is not changed.

    Returns
    -------
    y : array, shape (b, L, d)
    state : LayerState

    Raises
    ------
    NotCausalError
        A state is given to a bidirectional layer.
    ShapeError, ArrayKindError

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import random_layer, run
    >>> layer, u = random_layer("mamba2", width=8, order=4), np.ones((1, 6, 8))
    >>> whole, _ = run(layer, u)
    >>> first, state = run(layer, u[:, :4])
    >>> bool(np.allclose(run(layer, u[:, 4:], state)[0], whole[:, 4:]))
    True
    """
    _check_input(layer, u)
    if state is not None and not layer.causal:  # type: ignore[attr-defined]
        raise NotCausalError("a bidirectional layer needs the whole sequence at once: it has no state to go on from")
    start = initial_state(layer, int(u.shape[0])) if state is None else state
    signals = project(layer, u, start.conv)
    y, ssm = recur(layer, signals, start.ssm)
    return readout(layer, y, signals), LayerState(signals.conv, ssm)


def step(layer: SelectiveSSM, u: Array, state: LayerState) -> tuple[Array, LayerState]:
    """Output of a selective layer on one token per sequence, and the new state.

    Parameters
    ----------
    layer : Mamba1SSM or Mamba2SSM
    u : array, shape (b, d)
    state : LayerState

    Returns
    -------
    y : array, shape (b, d)
    state : LayerState

    Raises
    ------
    NotCausalError, ShapeError, ArrayKindError

    Examples
    --------
    >>> import numpy as np
    >>> from ssmreduce.selective import initial_state, random_layer, step
    >>> layer = random_layer("mamba1", width=4, order=8)
    >>> y, state = step(layer, np.ones((2, 4)), initial_state(layer, 2))
    >>> y.shape
    (2, 4)
    """
    if len(u.shape) != 2:
        raise ShapeError(f"u has shape {tuple(u.shape)}; one token per sequence is needed, (sequences, {layer.inputs})")
    y, state = run(layer, u[:, None], state)
    return y[:, 0], state


def project(layer: Any, u: Array, before: Array) -> Signals:
    """Everything ahead of the recurrence; `before` holds the past inputs of the convolution."""
    return signals_of(layer, linear(u, layer.in_proj, layer.in_bias), before)


def conv_input(layer: Any, projected: Array) -> Array:
    """The part of the projected input that the convolution reads."""
    if layer.kind == "mamba1":
        return projected[..., : layer.inner]
    return projected[..., layer.inner : -layer.heads]


def signals_of(layer: Any, projected: Array, before: Array) -> Signals:
    """Everything between the input projection and the recurrence."""
    signals = _signals_mamba1 if layer.kind == "mamba1" else _signals_mamba2
    return signals(layer, projected, before)


def _signals_mamba1(layer: Any, projected: Array, before: Array) -> Signals:
    x, gate = projected[..., : layer.inner], projected[..., layer.inner :]
    x, conv_state = convolve(x, layer.conv, layer.conv_bias, before, layer.ahead)
    x = silu(x)
    low = linear(x, layer.x_proj, layer.x_bias)
    rank, rows = layer.rank, layer.rows
    dt, B, C = low[..., :rank], low[..., rank : rank + rows], low[..., rank + rows :]
    if layer.norm_eps is not None:
        dt, B, C = (
            _normed(v, weight, layer.norm_eps)
            for v, weight in ((dt, layer.dt_norm), (B, layer.B_norm), (C, layer.C_norm))
        )
    if layer.take_B is not None:
        B = B[..., layer.take_B]
    if layer.mix_C is not None:
        C = C @ layer.mix_C.T
    return Signals(x, softplus(linear(dt, layer.dt_proj, layer.dt_bias)) + layer.dt_floor, B, C, gate, conv_state)


def _signals_mamba2(layer: Any, projected: Array, before: Array) -> Signals:
    inner, heads, states = layer.inner, layer.heads, layer.groups * layer.rows
    gate, signal, dt = projected[..., :inner], projected[..., inner:-heads], projected[..., -heads:]
    signal, conv_state = convolve(signal, layer.conv, layer.conv_bias, before)
    signal = silu(signal)
    batch, length = (int(n) for n in signal.shape[:2])
    B, C = (
        part.reshape(batch, length, layer.groups, layer.rows)
        for part in (signal[..., inner : inner + states], signal[..., inner + states :])
    )
    if layer.mix_B is not None and layer.mix_C is not None:
        B, C = mix(layer.mix_B, B), mix(layer.mix_C, C)
    x = signal[..., :inner].reshape(batch, length, heads, layer.head_dim)
    dt = softplus(dt + layer.dt_bias).clip(*layer.dt_limit)
    return Signals(x, dt, B, C, gate, conv_state)


def mix(matrix: Array, values: Array) -> Array:
    """Apply one matrix per group: matrix (G, n, N), values (b, L, G, N)."""
    if matrix.shape[0] == 1:
        return (values[:, :, 0] @ matrix[0].T)[:, :, None]
    return (values[..., None, :] @ matrix.swapaxes(1, 2))[..., 0, :]


def convolve(x: Array, weight: Array, bias: Array | None, before: Array, ahead: int = 0) -> tuple[Array, Array]:
    """Depthwise convolution over time, and the inputs that the next tokens need; `before` holds those of the past."""
    length, taps = int(x.shape[1]), int(weight.shape[1])
    parts = [before[:, ahead:], x]
    if ahead:
        parts.append(zeros((int(x.shape[0]), ahead, int(x.shape[2])), x))
    padded = join(parts, axis=1)
    y = padded[:, :length] * weight[:, 0]
    for tap in range(1, taps):
        y = y + padded[:, tap : tap + length] * weight[:, tap]
    return (y if bias is None else y + bias), padded[:, padded.shape[1] - (taps - 1) :]


def recur(layer: Any, signals: Signals, state: Array) -> tuple[Array, Array]:
    """The recurrence and the direct term; y has the shape of x."""
    A = -exp(layer.A_log)
    D = layer.D
    if layer.kind == "mamba2":
        D = D[:, None] if D.shape[0] == layer.heads else D.reshape(layer.heads, layer.head_dim)
    scan = _scan_numpy if is_numpy(signals.x) else _scan_torch
    y, state = scan(layer, signals, A, state)
    return y + D * signals.x, state


def _scan_numpy(layer: Any, signals: Signals, A: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from ._loops import outputs_mamba1, outputs_mamba2

    x, dt, B, C = (np.ascontiguousarray(v) for v in (signals.x, signals.dt, signals.B, signals.C))
    state, y = np.array(state, order="C"), np.zeros_like(x)
    if layer.kind == "mamba2":
        outputs_mamba2(x, dt, A, B, C, state, y)
        return y, state
    outputs_mamba1(x, dt, np.ascontiguousarray(A), B, C, state, y, False)
    if layer.bidirectional:
        outputs_mamba1(x, dt, np.ascontiguousarray(A), B, C, np.zeros_like(state), y, True)
    return y, state


def _scan_torch(layer: Any, signals: Signals, A: Array, state: Array) -> tuple[Array, Array]:
    from ._torch_scan import scan_mamba1, scan_mamba2, step_mamba2

    x, dt, B, C = signals.x, signals.dt, signals.B, signals.C
    if layer.kind == "mamba2" and x.shape[1] == 1:
        y, state = step_mamba2(x[:, 0], dt[:, 0], A, B[:, 0], C[:, 0], state)
        return y[:, None], state
    if layer.kind == "mamba2":
        return scan_mamba2(x, dt, A, B, C, state)
    y, after = scan_mamba1(x, dt, A, B, C, state)
    if layer.bidirectional:
        y = y + scan_mamba1(x, dt, A, B, C, zeros(tuple(state.shape), state), reverse=True)[0]
    return y, after


def readout(layer: Any, y: Array, signals: Signals) -> Array:
    """Gate, norm and output projection: y as `recur` returns it."""
    flat = y.reshape(*signals.gate.shape)
    return linear(flat * output_weights(layer, flat, signals.gate), layer.out_proj, layer.out_bias)


def output_weights(layer: Any, flat: Array, gate: Array) -> Array:
    """Factor of each inner channel between the recurrence and ``out_proj``; with a norm it depends on y."""
    weights = silu(gate)
    if layer.kind == "mamba1" or layer.norm_weight is None:
        return weights
    normed = flat if layer.norm_before_gate else flat * weights
    shape = (*normed.shape[:-1], layer.norm_groups, layer.inner // layer.norm_groups)
    scale = rms_scale(normed.reshape(shape), layer.norm_eps)
    return (weights.reshape(shape) * scale).reshape(*weights.shape) * layer.norm_weight


def _normed(x: Array, weight: Array | None, eps: float) -> Array:
    x = x * rms_scale(x, eps)
    return x if weight is None else x * weight


def _check_input(layer: Any, u: Array) -> None:
    if len(u.shape) != 3 or u.shape[2] != layer.inputs or u.shape[1] < 1:
        raise ShapeError(f"u has shape {tuple(u.shape)}; (sequences, tokens, {layer.inputs}) is needed")
    if type(u) is not type(layer.A_log) and is_numpy(u) != is_numpy(layer.A_log):
        raise ArrayKindError("u and the arrays of the layer must belong to the same library; see layer.map_arrays")
    if u.dtype != layer.A_log.dtype:
        raise ArrayKindError(f"u has dtype {u.dtype}; the layer has {layer.A_log.dtype}")
