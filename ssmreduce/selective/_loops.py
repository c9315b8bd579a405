"""Compiled recurrences of selective layers: one state in memory, never its history.

Arrays are C-contiguous and of one precision; `state`, `y`, `features` and `energy` are written in place (the last three
are added to, so that a bidirectional layer calls the loop twice).
"""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, fastmath=True)
def outputs_mamba1(x, dt, A, B, C, state, y, reverse):
    """x, dt, y (b, L, I); A (I, n); B, C (b, L, n); state (b, I, n)."""
    batch, length, inner = x.shape
    order = A.shape[1]
    for s in range(batch):
        for k in range(length):
            t = length - 1 - k if reverse else k
            for i in range(inner):
                step = dt[s, t, i]
                drive = step * x[s, t, i]
                total = x.dtype.type(0)
                for n in range(order):
                    value = np.exp(step * A[i, n]) * state[s, i, n] + drive * B[s, t, n]
                    state[s, i, n] = value
                    total += value * C[s, t, n]
                y[s, t, i] += total


@njit(cache=True, nogil=True, fastmath=True)
def outputs_mamba2(x, dt, A, B, C, state, y):
    """x, y (b, L, H, P); dt (b, L, H); A (H,); B, C (b, L, G, n); state (b, H, P, n)."""
    batch, length, heads, width = x.shape
    groups, order = B.shape[2], B.shape[3]
    per_group = heads // groups
    for s in range(batch):
        for t in range(length):
            for h in range(heads):
                decay = np.exp(dt[s, t, h] * A[h])
                g = h // per_group
                for p in range(width):
                    drive = dt[s, t, h] * x[s, t, h, p]
                    total = x.dtype.type(0)
                    for n in range(order):
                        value = decay * state[s, h, p, n] + drive * B[s, t, g, n]
                        state[s, h, p, n] = value
                        total += value * C[s, t, g, n]
                    y[s, t, h, p] += total


@njit(cache=True, nogil=True, fastmath=True)
def features_mamba1(x, dt, A, B, weights, state, features, energy, reverse):
    """Weighted sums of the rows of the state; weights (b, L, q, I), features (b, L, q, 1, n), energy (b, L, 1, n)."""
    batch, length, inner = x.shape
    order, probes = A.shape[1], weights.shape[2]
    for s in range(batch):
        for k in range(length):
            t = length - 1 - k if reverse else k
            for i in range(inner):
                step = dt[s, t, i]
                drive = step * x[s, t, i]
                for n in range(order):
                    value = np.exp(step * A[i, n]) * state[s, i, n] + drive * B[s, t, n]
                    state[s, i, n] = value
                    energy[s, t, 0, n] += value * value
                for q in range(probes):
                    weight = weights[s, t, q, i]
                    for n in range(order):
                        features[s, t, q, 0, n] += weight * state[s, i, n]


@njit(cache=True, nogil=True, fastmath=True)
def features_mamba2(x, dt, A, B, weights, state, features, energy):
    """As `features_mamba1`: weights (b, L, q, H, P), features (b, L, q, G, n), energy (b, L, G, n)."""
    batch, length, heads, width = x.shape
    groups, order, probes = B.shape[2], B.shape[3], weights.shape[2]
    per_group = heads // groups
    for s in range(batch):
        for t in range(length):
            for h in range(heads):
                decay = np.exp(dt[s, t, h] * A[h])
                g = h // per_group
                for p in range(width):
                    drive = dt[s, t, h] * x[s, t, h, p]
                    for n in range(order):
                        value = decay * state[s, h, p, n] + drive * B[s, t, g, n]
                        state[s, h, p, n] = value
                        energy[s, t, g, n] += value * value
                    for q in range(probes):
                        weight = weights[s, t, q, h, p]
                        for n in range(order):
                            features[s, t, q, g, n] += weight * state[s, h, p, n]
