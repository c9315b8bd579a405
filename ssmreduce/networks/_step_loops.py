"""The compiled loop that goes through the operations of a program, sample by sample, for one or many streams.

Each number of a vector stands for all streams side by side. One stream multiplies with matrices column by column, many
streams through the matrix products of BLAS.
"""

import math

import numpy as np

from .._support.compiled import compiled

KINDS = (
    "linear",
    "affine",
    "norm",
    "add",
    "multiply",
    "slice",
    "recur",
    "features",
    "mean",
    "gelu",
    "gelu_tanh",
    "sigmoid",
    "tanh",
    "relu",
    "silu",
)
"""Operations by their numbers in the code of a program."""

_SQRT_HALF = np.float32(math.sqrt(0.5))
_GELU = np.float32(math.sqrt(2 / math.pi))


@compiled(fastmath={"contract"})
def advance(
    code: np.ndarray,
    weights: np.ndarray,
    poles: np.ndarray,
    values: np.ndarray,
    state: np.ndarray,
    u: np.ndarray,
    y: np.ndarray,
) -> None:
    """Go through u (S, L, m), fill y (S, L, p), and leave the state after it.

    `code` has a row (kind, place of the result, of two sources, width, width of the source, begin of the weights, begin
    of the states) for each operation. values (numbers, S) float32, state (numbers, S) and poles float32 or float64.
    """
    streams, length, _ = u.shape
    out = code[-1, 1]
    for k in range(length):
        for j in range(u.shape[2]):
            for s in range(streams):
                values[j, s] = u[s, k, j]
        for row in code:
            kind = row[0]
            if kind == 0:
                _linear(row, weights, values)
            elif kind < 6:
                _arithmetic(row, weights, values)
            elif kind == 6:
                _recur(row, poles, values, state)
            elif kind == 7:
                _features(row, weights, poles, values, state)
            elif kind == 8:
                _mean(row, values, state)
            else:
                result, taken = values[row[1] : row[1] + row[4]], values[row[2] : row[2] + row[4]]
                _elementwise(kind, result.reshape(-1), taken.reshape(-1))
        for j in range(y.shape[2]):
            for s in range(streams):
                y[s, k, j] = values[out + j, s]


@compiled(fastmath={"contract"})
def _linear(row: np.ndarray, weights: np.ndarray, values: np.ndarray) -> None:
    """W x + b; the weights hold b, then W column by column."""
    n, m, begin = row[4], row[5], row[6]
    x, y = values[row[2] : row[2] + m], values[row[1] : row[1] + n]
    matrix = weights[begin + n : begin + n + n * m]
    if values.shape[1] > 1:
        np.dot(matrix.reshape(m, n).T, x, y)
        for i in range(n):
            for s in range(values.shape[1]):
                y[i, s] += weights[begin + i]
        return
    x, y = x.reshape(-1), y.reshape(-1)
    for i in range(n):
        y[i] = weights[begin + i]
    whole = m - m % 4
    for j in range(0, whole, 4):
        columns = matrix[j * n : (j + 4) * n]
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        for i in range(n):
            y[i] += columns[i] * a + columns[n + i] * b + columns[2 * n + i] * c + columns[3 * n + i] * d
    for j in range(whole, m):
        column = matrix[j * n : (j + 1) * n]
        for i in range(n):
            y[i] += column[i] * x[j]


@compiled(fastmath={"contract"})
def _arithmetic(row: np.ndarray, weights: np.ndarray, values: np.ndarray) -> None:
    """Affine, norm, add, multiply, slice."""
    kind, n, streams = row[0], row[4], values.shape[1]
    y, x = values[row[1] : row[1] + n].reshape(-1), values[row[2] : row[2] + n].reshape(-1)
    z = values[row[3] : row[3] + n].reshape(-1)
    scale, shift = weights[row[6] : row[6] + n], weights[row[6] + n : row[6] + 2 * n]
    if kind == 1 and streams == 1:
        for i in range(n):
            y[i] = x[i] * scale[i] + shift[i]
    elif kind == 1:
        for i in range(n):
            for k in range(i * streams, (i + 1) * streams):
                y[k] = x[k] * scale[i] + shift[i]
    elif kind == 2 and streams == 1:
        _norm(y, x, scale, shift, weights[row[6] + 2 * n])
    elif kind == 2:
        for s in range(streams):
            _norm(y[s::streams], x[s::streams], scale, shift, weights[row[6] + 2 * n])
    elif kind == 3:
        for k in range(y.size):
            y[k] = x[k] + z[k]
    elif kind == 4:
        for k in range(y.size):
            y[k] = x[k] * z[k]
    else:
        for k in range(y.size):
            y[k] = x[k]


@compiled(fastmath={"contract", "reassoc"})
def _norm(y: np.ndarray, x: np.ndarray, scale: np.ndarray, shift: np.ndarray, eps: float) -> None:
    mean, variance = np.float32(0), np.float32(0)
    for i in range(x.size):
        mean += x[i]
    mean /= np.float32(x.size)
    for i in range(x.size):
        variance += (x[i] - mean) * (x[i] - mean)
    factor = np.float32(1) / np.sqrt(variance / np.float32(x.size) + eps)
    for i in range(x.size):
        y[i] = (x[i] - mean) * factor * scale[i] + shift[i]


@compiled(fastmath={"contract"})
def _recur(row: np.ndarray, poles: np.ndarray, values: np.ndarray, state: np.ndarray) -> None:
    """Go on from the states: Lambda x + v, real parts first."""
    n, begin = row[4] // 2, row[7]
    y, v = values[row[1] : row[1] + 2 * n], values[row[2] : row[2] + 2 * n]
    x, p = state[begin : begin + 2 * n], poles[begin : begin + 2 * n]
    if values.shape[1] == 1:
        _recur_one(n, y.reshape(-1), v.reshape(-1), x.reshape(-1), p)
        return
    for i in range(n):
        a, b = p[i], p[n + i]
        for s in range(values.shape[1]):
            re, im = x[i, s], x[n + i, s]
            x[i, s] = a * re - b * im + v[i, s]
            x[n + i, s] = a * im + b * re + v[n + i, s]
            y[i, s] = x[i, s]
            y[n + i, s] = x[n + i, s]


@compiled(fastmath={"contract"})
def _recur_one(n: int, y: np.ndarray, v: np.ndarray, x: np.ndarray, p: np.ndarray) -> None:
    for i in range(n):
        re, im = x[i], x[n + i]
        x[i] = p[i] * re - p[n + i] * im + v[i]
        x[n + i] = p[i] * im + p[n + i] * re + v[n + i]
        y[i], y[n + i] = x[i], x[n + i]


@compiled(fastmath={"contract"})
def _features(row: np.ndarray, weights: np.ndarray, poles: np.ndarray, values: np.ndarray, state: np.ndarray) -> None:
    """Re(c x) summed over the states of each feature, x = Lambda x + u."""
    n, begin, half = row[4], row[7], row[5]
    y, u = values[row[1] : row[1] + n], values[row[2] : row[2] + n]
    y[:] = 0
    for at in range(0, half, n):
        x_re, x_im = state[begin + at : begin + at + n], state[begin + half + at : begin + half + at + n]
        p_re, p_im = poles[begin + at : begin + at + n], poles[begin + half + at : begin + half + at + n]
        c_re = weights[row[6] + at : row[6] + at + n]
        c_im = weights[row[6] + half + at : row[6] + half + at + n]
        if values.shape[1] == 1:
            _feature_one(y.reshape(-1), u.reshape(-1), x_re.reshape(-1), x_im.reshape(-1), p_re, p_im, c_re, c_im)
            continue
        for h in range(n):
            for s in range(values.shape[1]):
                re, im = x_re[h, s], x_im[h, s]
                x_re[h, s] = p_re[h] * re - p_im[h] * im + u[h, s]
                x_im[h, s] = p_re[h] * im + p_im[h] * re
                y[h, s] += c_re[h] * np.float32(x_re[h, s]) - c_im[h] * np.float32(x_im[h, s])


@compiled(fastmath={"contract"})
def _feature_one(
    y: np.ndarray,
    u: np.ndarray,
    x_re: np.ndarray,
    x_im: np.ndarray,
    p_re: np.ndarray,
    p_im: np.ndarray,
    c_re: np.ndarray,
    c_im: np.ndarray,
) -> None:
    for h in range(y.size):
        re, im = x_re[h], x_im[h]
        x_re[h] = p_re[h] * re - p_im[h] * im + u[h]
        x_im[h] = p_re[h] * im + p_im[h] * re
        y[h] += c_re[h] * np.float32(x_re[h]) - c_im[h] * np.float32(x_im[h])


@compiled
def _mean(row: np.ndarray, values: np.ndarray, state: np.ndarray) -> None:
    """The mean so far, and behind it the number of samples."""
    n, begin = row[4], row[7]
    for s in range(values.shape[1]):
        state[begin + n, s] += 1
        for i in range(n):
            mean = state[begin + i, s]
            state[begin + i, s] = mean + (values[row[2] + i, s] - mean) / state[begin + n, s]
            values[row[1] + i, s] = state[begin + i, s]


@compiled
def _elementwise(kind: int, y: np.ndarray, x: np.ndarray) -> None:
    one, half = np.float32(1), np.float32(0.5)
    for k in range(y.size):
        v = x[k]
        if kind == 9:
            y[k] = half * v * (one + math.erf(v * _SQRT_HALF))
        elif kind == 10:
            y[k] = half * v * (one + math.tanh(_GELU * (v + np.float32(0.044715) * v * v * v)))
        elif kind == 11:
            y[k] = one / (one + math.exp(-v))
        elif kind == 12:
            y[k] = math.tanh(v)
        elif kind == 13:
            y[k] = max(v, np.float32(0))
        else:
            y[k] = v / (one + math.exp(-v))
