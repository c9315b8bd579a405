"""The S4D kernel: many systems of one input and one output, the states of a block of channels in vector registers."""

from typing import Any

import numba
import numpy as np

from ._circle import two_product, two_sum
from ._layer import BlockedProducts, Layer, Response
from ._siso_ir import GROUP, WEIGHTS, feed_through, fence, load, respond, store
from ._threads import for_each_part

CHUNK = 32 * GROUP  # steps of a tile: with 64 bytes a step, u and y together fill three quarters of a cache of 32 KiB
PANEL = 16  # blocks that are copied at once
_STREAM_BYTES = 2**22  # outputs beyond this size go past the caches
_PART = 2**18  # steps of single states that are worth another thread
_SCALE = 1e18  # an input weight B beyond this or its inverse is not folded into C
_LINE = 64  # bytes of a cache line


def suits(layer: Layer) -> bool:
    """Whether the systems have one input, one output and a state."""
    return layer.D.shape[1:] == (1, 1) and layer.Lambda.size > 0


@numba.njit(cache=True, nogil=True)
def _load(tiles: np.ndarray, rows: np.ndarray, at: int, stride: int, steps: int, width: int) -> None:
    """Rows of `width` channels from index `at` on into tiles, one a block; lanes beyond them are left alone."""
    lanes = tiles[0].lanes.size
    for k in range(steps):
        row = at + k * stride
        for block in range(width // lanes):
            load(tiles, block * CHUNK + k, rows, row + block * lanes)
        for c in range(width - width % lanes, width):
            tiles[c // lanes * CHUNK + k].lanes[c % lanes] = rows[row + c]


@numba.njit(cache=True, nogil=True)
def _store(rows: np.ndarray, tiles: np.ndarray, at: int, stride: int, steps: int, width: int, stream: bool) -> None:
    lanes = tiles[0].lanes.size
    for k in range(steps):
        row = at + k * stride
        for block in range(width // lanes):
            store(rows, row + block * lanes, tiles, block * CHUNK + k, stream)
        for c in range(width - width % lanes, width):
            rows[row + c] = tiles[c // lanes * CHUNK + k].lanes[c % lanes]


@numba.njit(cache=True, nogil=True)
def _exchange(states: np.ndarray, values: np.ndarray, B: np.ndarray, blocks: tuple[int, int], enter: bool) -> None:
    """States of some blocks as vectors = values (S, n) / B if `enter`, else values = B * states; B is in double."""
    lanes = states[0, 0, 0].lanes.size
    for s in range(blocks[0] * lanes, min(blocks[1] * lanes, len(values))):
        for i in range(values.shape[1]):
            re, im, lane = states[s // lanes, i, 0].lanes, states[s // lanes, i, 1].lanes, s % lanes
            if enter:
                value = values[s, i] / B[s, i] if values[s, i] != 0 else 0j
                re[lane], im[lane] = value.real, value.imag
            else:
                values[s, i] = B[s, i] * complex(re[lane], im[lane])


@numba.njit(cache=True, nogil=True)
def _respond(
    u: np.ndarray,
    y: np.ndarray,
    state: np.ndarray,
    B: np.ndarray,
    weights: np.ndarray,
    taps: np.ndarray,
    states: np.ndarray,
    tiles: np.ndarray,
    part: tuple[int, int],
    reverse: bool,
    stream: bool,
) -> None:
    """Respond in the blocks of channels part[0] ... part[1] - 1, counted through all rows; y += ... if `reverse`.

    `state` (R, S, n) is overwritten with the last one. A panel of blocks is copied in and out at once, so that memory
    is met in long runs.
    """
    _, length, channels = u.shape
    blocks, order = weights.shape[:2]
    lanes, stride = tiles[0, 0].lanes.size, -channels if reverse else channels
    u_tiles, y_tiles, inputs, outputs = tiles[0], tiles[1], u.reshape(-1), y.reshape(-1)
    for row in range(part[0] // blocks, (part[1] - 1) // blocks + 1):
        begin, end = max(part[0] - row * blocks, 0), min(part[1] - row * blocks, blocks)
        _exchange(states, state[row], B, (begin, end), True)
        for done in range(0, length, CHUNK):
            steps = min(CHUNK, length - done)
            sample = row * length + (length - 1 - done if reverse else done)
            for first in range(begin, end, PANEL):
                last = min(first + PANEL, end)
                at, width = sample * channels + first * lanes, min(last * lanes, channels) - first * lanes
                _load(u_tiles, inputs, at, stride, steps, width)
                if reverse:
                    _load(y_tiles, outputs, at, stride, steps, width)
                for block in range(first, last):
                    tile = (block - first) * CHUNK
                    feed_through(y_tiles[tile:], u_tiles[tile:], taps[block], steps, reverse)
                    for i in range(order):
                        respond(y_tiles[tile:], u_tiles[tile:], weights[block, i], states[block, i], steps)
                _store(outputs, y_tiles, at, stride, steps, width, stream)
        _exchange(states, state[row], B, (begin, end), False)
    fence()


class Channels:
    """A layer of systems with one input and one output, ready to run with vectors of so many bytes.

    Parameters
    ----------
    layer : Layer
        With m = p = 1 and n >= 1.
    vector : int
        Bytes of a vector: 16, 32 or 64.
    plain : BlockedProducts
        The same layer, for calls that the kernel does not serve.

    Notes
    -----
    B is folded into C, z = x / B, so that the input itself excites every state. A state with B = 0 is dead unless it
    starts from another value than 0: such calls, and weights beyond the range of the precision, take `plain`.
    """

    def __init__(self, layer: Layer, vector: int, plain: BlockedProducts) -> None:
        self.layer, self.plain = layer, plain
        self.vector = np.dtype([("lanes", layer.D.dtype, vector // layer.D.itemsize)])
        self.B = layer.B[..., 0].astype(np.complex128)
        self.dead = self.B == 0
        sizes = np.abs(self.B[~self.dead])
        self.halves: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.served = bool(np.all((sizes >= 1.0 / _SCALE) & (sizes <= _SCALE)))
        with np.errstate(over="ignore", invalid="ignore"):
            for half in ["causal"] + ["reverse", "strict"] * (layer.C_reverse is not None):
                self.halves[half] = self._packed(half)
                self.served &= all(bool(np.isfinite(array["lanes"]).all()) for array in self.halves[half])

    def run(
        self,
        u: np.ndarray,
        state: np.ndarray,
        state_reverse: np.ndarray | None,
        *,
        strict: bool = False,
        threads: int | None = None,
    ) -> Response:
        """See `Products.run`; `threads` is Numba's thread count by default, and changes no bit of the result."""
        alive = not any(np.any(x[:, self.dead]) for x in (state, state_reverse) if x is not None)
        if not (self.served and alive):
            return self.plain.run(u, state, state_reverse, strict=strict, threads=threads)
        u = np.ascontiguousarray(u)
        y = _aligned(u.shape, u.dtype)
        last = self._half("causal", u, y, state, threads)
        if state_reverse is None:
            return Response(y, last, None)
        return Response(y, last, self._half("strict" if strict else "reverse", u, y, state_reverse, threads))

    def _half(self, half: str, u: np.ndarray, y: np.ndarray, state: np.ndarray, threads: int | None) -> np.ndarray:
        """Run one half, which fills y or adds to it; its last state."""
        weights, taps = self.halves[half]
        rows, length, channels = u.shape
        last, (blocks, order) = np.array(state), weights.shape[:2]
        lines = self.vector.itemsize == _LINE and channels * u.itemsize % _LINE == 0
        stream = lines and half == "causal" and y.nbytes > _STREAM_BYTES

        def work(start: int, stop: int) -> None:
            states = _aligned((blocks, order, 2), self.vector)
            tiles = _aligned((2, min(PANEL, blocks) * CHUNK), self.vector)
            reverse, part = half != "causal", (start, stop)
            _respond(u, y, last, self.B, weights, taps, states, tiles, part, reverse, stream)

        if rows:
            small = rows * length * self.B.size < _PART
            for_each_part(work, rows * blocks, 1 if small else threads)
        return last

    def _packed(self, half: str) -> tuple[np.ndarray, np.ndarray]:
        """Weights (blocks, n, WEIGHTS) and taps (blocks, GROUP) of a half: "causal", "reverse" or "strict"."""
        C: Any = self.layer.C if half == "causal" else self.layer.C_reverse
        gain = C[:, 0] * self.B
        powers, low = _powers(np.where(self.dead, 0, self.layer.Lambda))
        aged = [gain * power for power in (1.0, *powers)]  # an input as it is observed 0, 1, ... steps later
        taps = [np.sum(value, axis=-1, keepdims=True) for value in aged[:GROUP]]
        if half == "causal":
            taps[0] = taps[0] + self.layer.D[:, 0]
        elif half == "strict":
            aged, taps = aged[:-1], [np.zeros_like(taps[0]), *taps[:-1]]
        weights = self._lanes_last(np.stack([*powers, *aged[-GROUP:], low]))
        blocks, order, lanes = weights.shape[1], weights.shape[2], weights.shape[-1]
        weights = np.moveaxis(weights, 0, 2).reshape(blocks, order, WEIGHTS, lanes)
        return self._vectors(weights), self._vectors(np.moveaxis(self._lanes_last(np.stack(taps))[:, :, 0, 0], 0, 1))

    def _lanes_last(self, values: np.ndarray) -> np.ndarray:
        """Complex values (k, S, n) as (k, blocks, n, 2, lanes): blocks of channels, filled up with zeros."""
        lanes = self.vector["lanes"].shape[0]
        count, systems, order = values.shape
        blocks = -(-systems // lanes)
        padded = np.zeros((count, blocks * lanes, order, 2))
        padded[:, :systems, :, 0], padded[:, :systems, :, 1] = values.real, values.imag
        return np.moveaxis(padded.reshape(count, blocks, lanes, order, 2), 2, -1)

    def _vectors(self, values: np.ndarray) -> np.ndarray:
        """Values (..., lanes) as vectors (...)."""
        result = _aligned(values.shape[:-1], self.vector)
        result["lanes"] = values
        return result


def _powers(Lambda: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Powers 1 ... GROUP of the poles in double precision, and what the last one lacks when it is rounded to theirs.

    Twice as many digits are carried.
    """
    product: Any = two_product.py_func  # on arrays
    add: Any = two_sum.py_func
    exact = Lambda.astype(np.complex128)
    powers, low = [exact], np.zeros_like(exact)
    for _ in range(GROUP - 1):
        a, b, c, d = powers[-1].real, powers[-1].imag, exact.real, exact.imag
        (ac, ac_low), (bd, bd_low) = product(a, c), product(b, d)
        (ad, ad_low), (bc, bc_low) = product(a, d), product(b, c)
        (re, re_low), (im, im_low) = add(ac, -bd), add(ad, bc)
        low = low * exact + (re_low + ac_low - bd_low) + 1j * (im_low + ad_low + bc_low)
        powers.append(re + 1j * im)
    return powers, powers[-1] - powers[-1].astype(Lambda.dtype) + low


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uninitialised array that begins with a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)
