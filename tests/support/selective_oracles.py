"""Plain transcriptions of Mamba-1 and Mamba-2 layers, token by token and channel by channel: the oracles."""

import numpy as np


def sigmoid(x):
    """The logistic function."""
    return 1 / (1 + np.exp(-x))


def softplus(x):
    """log(1 + exp(x))."""
    return np.log1p(np.exp(x))


def rms(x, eps):
    """RMS norm without weights."""
    return x / np.sqrt(np.mean(x**2) + eps)


def convolved(layer, signal, t):
    """Output of the depthwise convolution at token t, then SiLU."""
    taps = layer.conv.shape[1]
    y = np.zeros(layer.conv.shape[0]) if layer.conv_bias is None else layer.conv_bias.copy()
    for tap in range(taps):
        s = t - (taps - 1) + tap + getattr(layer, "ahead", 0)
        if 0 <= s < len(signal):
            y += layer.conv[:, tap] * signal[s]
    return y * sigmoid(y)


def states_mamba1(layer, u):
    """One sequence u (L, d): states (L, I, n), C (L, n), x (L, I), gate (L, I)."""
    inner, rank, rows = layer.inner, layer.rank, layer.rows
    projected = u @ layer.in_proj.T + (0 if layer.in_bias is None else layer.in_bias)
    xs, Cs, steps, inputs = [], [], [], []
    for t in range(len(u)):
        x = convolved(layer, projected[:, :inner], t)
        low = layer.x_proj @ x + (0 if layer.x_bias is None else layer.x_bias)
        dt, B, C = low[:rank], low[rank : rank + rows], low[rank + rows :]
        if layer.norm_eps is not None:
            dt, B, C = (rms(v, layer.norm_eps) for v in (dt, B, C))
            dt, B, C = (
                v if w is None else v * w
                for v, w in zip((dt, B, C), (layer.dt_norm, layer.B_norm, layer.C_norm), strict=True)
            )
        if layer.take_B is not None:
            B = B[layer.take_B]
        if layer.mix_C is not None:
            C = layer.mix_C @ C
        xs.append(x)
        Cs.append(C)
        steps.append(softplus(layer.dt_proj @ dt + layer.dt_bias) + layer.dt_floor)
        inputs.append(B)

    def history(order):
        state, states = np.zeros((inner, layer.order)), {}
        for t in order:
            for i in range(inner):
                for n in range(layer.order):
                    decay = np.exp(-np.exp(layer.A_log[i, n]) * steps[t][i])
                    state[i, n] = decay * state[i, n] + steps[t][i] * inputs[t][n] * xs[t][i]
            states[t] = state.copy()
        return np.array([states[t] for t in range(len(u))])

    states = history(range(len(u)))
    if layer.bidirectional:
        states = states + history(reversed(range(len(u))))
    return states, np.array(Cs), np.array(xs), projected[:, inner:]


def states_mamba2(layer, u):
    """One sequence u (L, d): states (L, H, P, n), C (L, G, n), x (L, H, P), gate (L, I)."""
    inner, heads, groups, rows, width = layer.inner, layer.heads, layer.groups, layer.rows, layer.head_dim
    projected = u @ layer.in_proj.T + (0 if layer.in_bias is None else layer.in_bias)
    state, states, Cs, xs = np.zeros((heads, width, layer.order)), [], [], []
    for t in range(len(u)):
        signal = convolved(layer, projected[:, inner:-heads], t)
        x = signal[:inner].reshape(heads, width)
        B = signal[inner : inner + groups * rows].reshape(groups, rows)
        C = signal[inner + groups * rows :].reshape(groups, rows)
        if layer.mix_B is not None:
            B = np.array([layer.mix_B[g] @ B[g] for g in range(groups)])
            C = np.array([layer.mix_C[g] @ C[g] for g in range(groups)])
        for h in range(heads):
            dt = np.clip(softplus(projected[t, -heads + h] + layer.dt_bias[h]), *layer.dt_limit)
            group = h * groups // heads
            state[h] = np.exp(-np.exp(layer.A_log[h]) * dt) * state[h] + dt * np.outer(x[h], B[group])
        states.append(state.copy())
        Cs.append(C)
        xs.append(x)
    return np.array(states), np.array(Cs), np.array(xs), projected[:, :inner]


def weights_mamba2(layer, flat, gate):
    """Factors of the inner channels at one token, given the signal before gate and norm."""
    silu = gate * sigmoid(gate)
    if layer.norm_weight is None:
        return silu
    normed = flat if layer.norm_before_gate else flat * silu
    blocks = normed.reshape(layer.norm_groups, -1)
    scale = 1 / np.sqrt(np.mean(blocks**2, axis=1, keepdims=True) + layer.norm_eps)
    return (silu.reshape(blocks.shape) * scale).ravel() * layer.norm_weight


def simulate(layer, u):
    """Outputs (b, L, d) of a layer on u (b, L, d), with the factors of the inner channels and the rest kept."""
    return np.array([parts(layer, sequence)["output"] for sequence in u])


def parts(layer, u):
    """One sequence: contributions H_t (L, G, d, n), C (L, G, n), the output, and its part without the states."""
    states, C, x, gate = (states_mamba1 if layer.kind == "mamba1" else states_mamba2)(layer, u)
    length, inner, groups = len(u), layer.inner, layer.groups
    C = C.reshape(length, groups, -1)
    states = states.reshape(length, inner, -1)
    x = x.reshape(length, inner)
    D = layer.D if len(layer.D) == inner else np.repeat(layer.D, inner // len(layer.D))
    per_group = inner // groups
    output, rest, features = [], [], []
    for t in range(length):
        flat = D * x[t]
        for g in range(groups):
            rows = slice(g * per_group, (g + 1) * per_group)
            flat[rows] += states[t, rows] @ C[t, g]
        weights = gate[t] * sigmoid(gate[t]) if layer.kind == "mamba1" else weights_mamba2(layer, flat, gate[t])
        bias = 0 if layer.out_bias is None else layer.out_bias
        output.append(layer.out_proj @ (weights * flat) + bias)
        rest.append(layer.out_proj @ (weights * D * x[t]) + bias)
        scaled = layer.out_proj * weights
        features.append(
            [
                scaled[:, g * per_group : (g + 1) * per_group] @ states[t, g * per_group : (g + 1) * per_group]
                for g in range(groups)
            ]
        )
    return {
        "output": np.array(output),
        "rest": np.array(rest),
        "features": np.array(features),
        "C": C,
        "states": states,
    }
