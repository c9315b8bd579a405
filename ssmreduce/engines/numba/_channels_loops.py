"""The S4D kernel: many systems of one input and one output, worked through in blocks of channels within the caches."""

from typing import Any

import numpy as np

from ..._support.compiled import compiled
from ._channels_ir import feed_through, load, respond, store
from ._wide_ir import address, fence

GROUP = 8  # steps that a state jumps over
COLUMNS = 6  # groups at once: with 4 rows of a product, or 2 where registers are few, their sums fill the registers
CHUNK = 4 * COLUMNS * GROUP  # steps of a tile: u and y, 64 bytes a step each, stay in the first-level cache
PANEL = 16  # blocks that are copied at once
WORK = 32 * COLUMNS  # vectors of states before groups, taken at once: their tables stay in the first-level cache


@compiled
def _load(shape: Any, tiles: np.ndarray, rows: np.ndarray, at: int, stride: int, steps: int, width: int) -> None:
    """Rows of `width` channels from index `at` on into tiles, one a block; lanes beyond them are left alone."""
    lanes, item, into, begin = len(shape[3]), rows.itemsize, address(tiles, 0), address(rows, at)
    for k in range(steps):
        for block in range(width // lanes):
            load(shape, into + (block * CHUNK + k) * lanes * item, begin + (k * stride + block * lanes) * item)
        for c in range(width - width % lanes, width):
            tiles[(c // lanes * CHUNK + k) * lanes + c % lanes] = rows[at + k * stride + c]


@compiled
def _store(
    shape: Any, rows: np.ndarray, tiles: np.ndarray, at: int, stride: int, steps: int, width: int, stream: bool
) -> None:
    lanes, item, begin, into = len(shape[3]), rows.itemsize, address(tiles, 0), address(rows, at)
    for k in range(steps):
        for block in range(width // lanes):
            place = begin + (block * CHUNK + k) * lanes * item
            store(shape, into + (k * stride + block * lanes) * item, place, stream)
        for c in range(width - width % lanes, width):
            rows[at + k * stride + c] = tiles[(c // lanes * CHUNK + k) * lanes + c % lanes]


@compiled
def _exchange(
    states: np.ndarray, values: np.ndarray, factors: np.ndarray, blocks: tuple[int, int], enter: bool
) -> None:
    """States of some blocks as vectors = factors * values (S, n) if `enter`, else values = factors * states."""
    lanes = states.shape[2]
    for s in range(blocks[0] * lanes, min(blocks[1] * lanes, len(values))):
        block, lane = s // lanes, s % lanes
        for i in range(values.shape[1]):
            if enter:
                value = factors[s, i] * values[s, i]
                states[block, 2 * i, lane], states[block, 2 * i + 1, lane] = value.real, value.imag
            else:
                values[s, i] = factors[s, i] * complex(states[block, 2 * i, lane], states[block, 2 * i + 1, lane])


@compiled
def _run(shape, tables, block, sizes, y, u, places, runs, add, ahead):
    """Respond over `runs` times the steps of a shape in one block of channels; y += ... if `add`.

    `sizes` are the rows of states of a block and the bytes of a vector; `tables`, y, u and `places` (states, work) are
    addresses. `ahead` is where the next inputs of such a block begin, an address and the index from there, and their
    stride.
    """
    if runs == 0:
        return
    (inject, jump, leap, observe, taps), (states, work), (order, vector) = tables, places, sizes
    rows, columns, group = len(shape[0]), len(shape[1]), len(shape[2])
    wide, (inputs, following, stride) = 8 * len(shape[3]), ahead
    size, pace = WORK // (rows * columns), -(-CHUNK * rows // (runs * order))
    feed_through(shape, y, u, taps + block * group * group * vector, runs, add)
    observe += block * group * order * vector
    for unit in range(0, order // rows, size):
        units, at = min(size, order // rows - unit), block * order + unit * rows
        own = inject + at * (group - 1) * vector, jump + at * (columns - 1) * vector, leap + at * wide
        seen = observe + unit * rows * min(rows, group) * vector
        here = states + unit * rows * wide
        respond(shape, y, u, *own, seen, here, work, units, order, runs, inputs, (following, stride), pace)
        following += units * runs * pace * stride


@compiled
def respond_in_blocks(shapes, tables, u, y, state, folding, states, tiles, work, part, reverse, stream):
    """Respond in the blocks of channels part[0] ... part[1] - 1, counted through all rows; y += ... if `reverse`.

    `tables` are the addresses of `_channels.Tables` for each shape; `state` (R, S, n) is overwritten with the last one;
    `states` (blocks, rows, lanes), the two `tiles` and `work` are space for vectors. A panel of blocks is copied in and
    out at once, so that memory is met in long runs.
    """
    _, length, channels = u.shape
    (blocks, order, lanes), (into, back), (many, one, step) = states.shape, folding, shapes
    (whole, each, single), stride = tables, -channels if reverse else channels
    vector, wide, group = lanes * u.itemsize, lanes * 8, len(many[1]) * GROUP
    inputs, outputs, read = u.reshape(-1), y.reshape(-1), address(u.reshape(-1), 0)
    u_tiles, y_tiles, held = address(tiles[0], 0), address(tiles[1], 0), address(states.reshape(-1), 0)
    scratch, sizes = address(work, 0), (order, vector)
    for row in range(part[0] // blocks, (part[1] - 1) // blocks + 1):
        begin, end = max(part[0] - row * blocks, 0), min(part[1] - row * blocks, blocks)
        _exchange(states, state[row], into, (begin, end), True)
        for done in range(0, length, CHUNK):
            steps = min(CHUNK, length - done)
            runs, rest = steps // group, steps % group
            sample = row * length + (length - 1 - done if reverse else done)
            for first in range(begin, end, PANEL):
                last = min(first + PANEL, end)
                at, width = sample * channels + first * lanes, min(last * lanes, channels) - first * lanes
                _load(many, tiles[0], inputs, at, stride, steps, width)
                if reverse:
                    _load(many, tiles[1], outputs, at, stride, steps, width)
                following = (sample * channels, last) if last < end else (sample * channels + steps * stride, begin)
                for block in range(first, last):
                    ahead = read, following[0] + (following[1] + block - first) * lanes, stride
                    tile, here = (block - first) * CHUNK * vector, (held + block * order * wide, scratch)
                    _run(many, whole, block, sizes, y_tiles + tile, u_tiles + tile, here, runs, reverse, ahead)
                    tile += (steps - rest) * vector
                    _run(one, each, block, sizes, y_tiles + tile, u_tiles + tile, here, rest // GROUP, reverse, ahead)
                    tile += (rest - rest % GROUP) * vector
                    _run(step, single, block, sizes, y_tiles + tile, u_tiles + tile, here, rest % GROUP, reverse, ahead)
                _store(many, outputs, tiles[1], at, stride, steps, width, stream)
        _exchange(states, state[row], back, (begin, end), False)
    fence()
