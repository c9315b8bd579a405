"""What an engine is given of a layer, and the plain way to run it: two matrix products around a scan."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .._support.arrays import Array, namespace
from ..errors import NonFiniteError

_BLOCK_BYTES = 2**21  # states of one block


class Layer(NamedTuple):
    """S systems as the block-diagonal layer, in the precision of the arithmetic; the factor kappa is in C.

    Lambda (S, n), B (S, n, m), C and C_reverse (S, p, n) complex; D (S, p, m) real; `C_reverse` None if causal.
    """

    Lambda: Array
    B: Array
    C: Array
    C_reverse: Array | None
    D: Array


class Response(NamedTuple):
    """Output (R, L, S p) and the states (R, S, n) that carry over; the last is None for a causal layer."""

    output: Array
    state: Array
    state_reverse: Array | None


def require_finite(u: Array) -> None:
    """Raise NonFiniteError for a host array that holds NaN or infinite values."""
    if isinstance(u, np.ndarray) and not np.isfinite(u).all():
        raise NonFiniteError("u holds NaN or infinite values")


def require_finite_where(last: np.ndarray, u: np.ndarray) -> None:
    """The same after the fact, at no cost: every state that has seen such an input ends as such; it can also overflow.

    `last` (R, S, n), n >= 1, holds the last states.
    """
    if not np.isfinite(last[..., 0]).all():
        require_finite(u)


class Products:
    """A layer ready to run with the products packed as real ones, [re, im] side by side: half the work of complex ones.

    Parameters
    ----------
    layer : Layer
    scan : callable
        See `_reference.scan`; its inputs may be overwritten.
    """

    def __init__(self, layer: Layer, scan: Callable[..., Array]) -> None:
        self.scan, self.Lambda, self.order = scan, layer.Lambda, layer.Lambda.shape[-1]
        self.systems, self.outputs, self.inputs = layer.D.shape
        xp = namespace(layer.Lambda)
        self.B = _paired(xp.matrix_transpose(layer.B), axis=-1)[:, None, ...]
        self.C = _observer(layer.C)
        self.C_reverse = None if layer.C_reverse is None else _observer(layer.C_reverse)
        self.D = xp.matrix_transpose(layer.D)[:, None, ...]

    def run(
        self, u: Array, state: Array, state_reverse: Array | None, *, strict: bool = False, threads: int | None = None
    ) -> Response:
        """Respond to u (R, L, S m) from the states (R, S, n).

        `state` is before the first sample, `state_reverse` after the last; `strict`: the reverse half sees later
        samples only, x_{k+1} instead of x_k. `threads` is not used here: matrix products have their own threads.
        Raises NonFiniteError where u is a host array with NaN or infinite values.
        """
        require_finite(u)
        y, last = self.causal(u, state)
        if self.C_reverse is None:
            return Response(y, last, None)
        more, last_reverse = self.reverse(u, state_reverse, strict=strict)
        return Response(y + more, last, last_reverse)

    def causal(self, u: Array, state: Array) -> tuple[Array, Array]:
        """D u and the causal half: its output, and the state after the last sample."""
        xp, v = namespace(u), self._by_system(u)
        states = self.scan(self.Lambda, self._driven(v), _swapped(state), reverse=False)
        y = self._observed(self.C, states) + xp.matmul(v, self.D)
        return self._by_sequence(y), _swapped(states[:, :, -1, :])

    def reverse(self, u: Array, state: Array, *, strict: bool) -> tuple[Array, Array]:
        """The reverse half: its output, and the state at the first sample."""
        xp, first = namespace(u), _swapped(state)
        states = self.scan(self.Lambda, self._driven(self._by_system(u)), first, reverse=True)
        last = _swapped(states[:, :, 0, :])
        if strict:
            states = xp.concat([states[:, :, 1:, :], first[:, :, None, :]], axis=2)
        return self._by_sequence(self._observed(self.C_reverse, states)), last

    def _by_system(self, u: Array) -> Array:
        rows, length, _ = u.shape
        xp = namespace(u)
        return xp.permute_dims(xp.reshape(u, (rows, length, self.systems, self.inputs)), (2, 0, 1, 3))

    def _by_sequence(self, y: Array) -> Array:
        systems, rows, length, outputs = y.shape
        xp = namespace(y)
        return xp.reshape(xp.permute_dims(y, (1, 2, 0, 3)), (rows, length, systems * outputs))

    def _driven(self, v: Array) -> Array:
        """B u as complex states."""
        product = namespace(v).matmul(v, self.B)
        if isinstance(product, np.ndarray):
            return product.view(self.Lambda.dtype)
        pairs = namespace(v).reshape(product, (*product.shape[:-1], self.order, 2))
        return pairs[..., 0] + 1j * pairs[..., 1]

    def _observed(self, C: Array, states: Array) -> Array:
        """Re(C x)."""
        if isinstance(states, np.ndarray):
            return np.matmul(states.view(C.dtype), C)
        xp = namespace(states)
        pairs = xp.stack([xp.real(states), xp.imag(states)], axis=-1)
        return xp.matmul(xp.reshape(pairs, (*states.shape[:-1], 2 * self.order)), C)


class BlockedProducts(Products):
    """The same for host arrays of any length: blocks of rows and steps, so that the workspace stays in the caches."""

    def run(
        self, u: Array, state: Array, state_reverse: Array | None, *, strict: bool = False, threads: int | None = None
    ) -> Response:
        """See `Products.run`."""
        rows, length, _ = u.shape
        samples = max(64, _BLOCK_BYTES // max(1, self.systems * self.order * self.Lambda.itemsize))
        block, chunk = max(1, samples // length), min(length, samples)
        y = np.empty((rows, length, self.systems * self.outputs), dtype=u.dtype)
        last, last_reverse = np.array(state), np.array(state if state_reverse is None else state_reverse)
        steps = [slice(k, k + chunk) for k in range(0, length, chunk)]
        for row in (slice(i, i + block) for i in range(0, rows, block)):
            for step in steps:
                require_finite(u[row, step])
                y[row, step], last[row] = self.causal(u[row, step], last[row])
            for step in reversed(steps if self.C_reverse is not None else []):
                more, last_reverse[row] = self.reverse(u[row, step], last_reverse[row], strict=strict)
                y[row, step] += more
        return Response(y, last, None if self.C_reverse is None else last_reverse)


def _swapped(x: Array) -> Array:
    """A private copy of the states of one sample with its two leading axes exchanged, (R, S, n) <-> (S, R, n)."""
    xp = namespace(x)
    return xp.astype(xp.permute_dims(x, (1, 0, 2)), x.dtype, copy=True)  # asarray would cut PyTorch's gradients


def _paired(matrix: Array, axis: int) -> Array:
    """Real matrix with the real and imaginary part of each entry side by side along the axis."""
    xp = namespace(matrix)
    shape = list(matrix.shape)
    shape[axis] *= 2
    pairs = xp.stack([xp.real(matrix), xp.imag(matrix)], axis=axis)
    return xp.reshape(pairs, tuple(shape))


def _observer(C: Array) -> Array:
    """Transposed C, (S, 1, 2 n, p) real, such that the interleaved states times it are Re(C x)."""
    xp = namespace(C)
    return _paired(xp.matrix_transpose(xp.conj(C)), axis=-2)[:, None, ...]
