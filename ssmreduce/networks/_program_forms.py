"""A program in real arithmetic, as one step or in blocks of samples, in any namespace of a few functions."""

from typing import Any

import numpy as np

from ..errors import NotRepresentableError
from ._program import Operation, Program

_LARGEST = 30.0  # decimal logarithm of the largest power of a pole's inverse
_LONGEST, _SHORTEST = 64, 8  # samples of a block


def one_step(program: Program, xp: Any, u: Any, state: Any) -> tuple[Any, Any]:
    """Output and next state (batch, S) of one sample u (batch, m)."""
    values, carried = [u], []
    for operation, begin in zip(program, program.state_offsets(), strict=True):
        x = values[operation.sources[0]]
        if not operation.states:
            values.append(_pointwise(operation, xp, [values[k] for k in operation.sources]))
            continue
        own = xp.part(state, begin, begin + operation.states)
        result, after = _stateful(operation, xp, x, own)
        values.append(result)
        carried.append(after)
    return values[-1], xp.concat(carried)


def blocks(program: Program, xp: Any, u: Any, length: int) -> Any:
    """Outputs (batch, L, p), or (batch, p) of a network that answers once, of u (batch, L, m), from states of zero."""
    values = [u]
    for operation in program:
        x, n = values[operation.sources[0]], operation.width
        if operation.kind == "mean":
            values.append(xp.mean_of_time(x))
        elif operation.kind == "recur":
            re, im = _recurrence(xp, xp.part(x, 0, n // 2), xp.part(x, n // 2, n), operation.arrays[0], length)
            values.append(xp.concat([re, im]))
        elif operation.kind == "features":
            poles, weights = (array.reshape(2, -1) for array in operation.arrays)
            states = poles.shape[1] // n
            driven = xp.concat([x] * states)
            re, im = _recurrence(xp, driven, driven * xp.constant(np.zeros(1)), poles, length)
            values.append(xp.sum_groups(re * xp.constant(weights[0]) - im * xp.constant(weights[1]), states, 2))
        else:
            values.append(_pointwise(operation, xp, [values[k] for k in operation.sources]))
    return values[-1]


def _stateful(operation: Operation, xp: Any, x: Any, state: Any) -> tuple[Any, Any]:
    """Result and next state of an operation that carries one."""
    n = operation.width
    if operation.kind == "mean":
        mean, count = xp.part(state, 0, n), xp.part(state, n, n + 1) + xp.constant(np.ones(1))
        mean = mean + (x - mean) / count
        return mean, xp.concat([mean, count])
    half = operation.states // 2
    re, im = xp.part(state, 0, half), xp.part(state, half, 2 * half)
    a, b = (xp.constant(pole.ravel()) for pole in operation.arrays[0])
    if operation.kind == "recur":
        after = xp.concat([a * re - b * im, a * im + b * re]) + x
        return after, after
    driven = xp.concat([x] * (half // n))
    re, im = a * re - b * im + driven, a * im + b * re
    c, d = (xp.constant(weight.ravel()) for weight in operation.arrays[1])
    return xp.sum_groups(c * re - d * im, half // n, 1), xp.concat([re, im])


def _pointwise(operation: Operation, xp: Any, sources: list[Any]) -> Any:
    """Result of an operation without states, along the last axis."""
    x = sources[0]
    arrays = [xp.constant(array) for array in operation.arrays[:2]] if operation.kind in ("affine", "norm") else []
    match operation.kind:
        case "linear":
            W, b = operation.arrays
            return xp.matmul(x, xp.constant(W.T)) + xp.constant(b)
        case "affine":
            return x * arrays[0] + arrays[1]
        case "norm":
            return xp.norm(x, arrays[0], arrays[1], float(operation.arrays[2][0]))
        case "add":
            return x + sources[1]
        case "multiply":
            return x * sources[1]
        case "slice":
            return xp.part(x, operation.start, operation.start + operation.width)
        case "silu":
            return x * xp.sigmoid(x)
        case "gelu" | "gelu_tanh":
            return xp.gelu(x, "tanh" if operation.kind == "gelu_tanh" else "none")
        case "sigmoid" | "tanh" | "relu":
            return getattr(xp, operation.kind)(x)
    raise NotRepresentableError(f"there is no form for {operation.kind}")


# ---------------------------------------------------------------- many samples at once


def block_length(poles: np.ndarray) -> int | None:
    """Samples of a block in which no inverse power of a pole overflows; None where a pole is too fast for any."""
    with np.errstate(divide="ignore"):
        decay = float(-np.log10(np.abs(poles).min(initial=1.0)))
    longest = _LONGEST if decay <= 0 else min(_LONGEST, int(_LARGEST / decay))
    return longest if longest >= _SHORTEST else None


def _recurrence(xp: Any, re: Any, im: Any, parts: np.ndarray, length: int) -> tuple[Any, Any]:
    """States (batch, L, n) of inputs: sums weighted with inverse powers inside blocks, and doubling over the blocks."""
    poles = parts[0] + 1j * parts[1]
    longest = block_length(poles)
    if longest is None:
        return _doubled(xp, re, im, poles, length)
    size = min(longest, length)
    count = -(-length // size)
    powers = poles ** np.arange(size + 1)[:, None]
    re, im = (xp.in_blocks(xp.padded(x, count * size - length), count, size) for x in (re, im))
    re, im = _times(xp, 1 / powers[:size], re, im)
    re, im = _times(xp, powers[:size], xp.cumulative(re), xp.cumulative(im))
    before = _doubled(xp, xp.last(re), xp.last(im), powers[size], count)
    more = _times(xp, powers[1:], *(xp.spread(xp.shifted(x, 1, count)) for x in before))
    re, im = (xp.in_rows(a + b, count * size, length) for a, b in zip((re, im), more, strict=True))
    return re, im


def _doubled(xp: Any, re: Any, im: Any, poles: np.ndarray, length: int) -> tuple[Any, Any]:
    """The same by sums over 1, 2, 4, ... samples, which no pole makes overflow."""
    reach = 1
    while reach < length:
        more = _times(xp, poles**reach, xp.shifted(re, reach, length), xp.shifted(im, reach, length))
        re, im, reach = re + more[0], im + more[1], 2 * reach
    return re, im


def _times(xp: Any, factor: np.ndarray, re: Any, im: Any) -> tuple[Any, Any]:
    a, b = xp.constant(factor.real), xp.constant(factor.imag)
    return a * re - b * im, a * im + b * re
