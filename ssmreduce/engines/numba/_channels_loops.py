"""The S4D kernel: many systems of one input and one output, worked through in blocks of channels within the caches."""

from typing import Any, NamedTuple

from ..._support.compiled import compiled, inlined
from ._channels_ir import advance, feed_through, load, store
from ._team_ir import fence
from ._vector_ir import VECTOR_CODE, address

GROUP = 8  # steps that a state jumps over
COLUMNS = 6  # groups at once: with 4 rows of a product, or 2 where registers are few, their sums fill the registers
CHUNK = 4 * COLUMNS * GROUP  # steps of a tile: u and y, 64 bytes a step each, stay in the first-level cache
PANEL = 16  # blocks that are copied at once
WORK = 32 * COLUMNS  # vectors of states before groups, taken at once: their tables stay in the first-level cache


class Shape(NamedTuple):
    """Tuples of None and a number of the precision, see `_channels_ir`."""

    rows: tuple
    columns: tuple
    group: tuple
    lanes: tuple
    number: Any


class Tables(NamedTuple):
    """Addresses of `_channels.Tables`."""

    inject: int
    jump: int
    leap: int
    observe: int
    taps: int


class Form(NamedTuple):
    """One way to take steps: several groups at once, one group, or one step."""

    shape: Shape
    tables: Tables


class Arrays(NamedTuple):
    """Inputs and outputs (R, L, S), flat; states (R, S, n), overwritten with the last; their factors in and out."""

    u: Any
    y: Any
    state: Any
    into: Any
    back: Any


class Space(NamedTuple):
    """Memory for vectors: states (blocks, rows, lanes), tiles of inputs and of outputs, and states before groups."""

    states: Any
    inputs: Any
    outputs: Any
    work: Any


class Plan(NamedTuple):
    """The blocks start ... stop - 1, counted through all rows; y += ... if `reverse`; past the caches if `stream`."""

    start: int
    stop: int
    length: int
    channels: int
    reverse: bool
    stream: bool


class Place(NamedTuple):
    """Addresses of a block's tiles, its states and the work space; its rows of states; the bytes of a vector."""

    y: int
    u: int
    states: int
    work: int
    order: int
    vector: int


class Ahead(NamedTuple):
    """Where the next inputs of such a block begin, an address and an offset from there, and their stride."""

    inputs: int
    offset: int
    stride: int


@compiled(key=VECTOR_CODE)
def _load(shape, tiles, rows, at, stride, steps, width):
    """Rows of `width` channels from index `at` on into tiles, one a block; lanes beyond them are left alone."""
    lanes, item, into, begin = len(shape.lanes), rows.itemsize, address(tiles, 0), address(rows, at)
    for k in range(steps):
        for block in range(width // lanes):
            load(shape, into + (block * CHUNK + k) * lanes * item, begin + (k * stride + block * lanes) * item)
        for c in range(width - width % lanes, width):
            tiles[(c // lanes * CHUNK + k) * lanes + c % lanes] = rows[at + k * stride + c]


@inlined
def _store(shape, rows, tiles, at, stride, steps, width, stream):
    """The way back."""
    lanes, item, begin, into = len(shape.lanes), rows.itemsize, address(tiles, 0), address(rows, at)
    for k in range(steps):
        for block in range(width // lanes):
            place = begin + (block * CHUNK + k) * lanes * item
            store(shape, into + (k * stride + block * lanes) * item, place, stream)
        for c in range(width - width % lanes, width):
            rows[at + k * stride + c] = tiles[(c // lanes * CHUNK + k) * lanes + c % lanes]


@inlined
def _enter(states, values, row, factors, begin, end):
    """States of some blocks as vectors = factors * values (R, S, n)."""
    lanes = states.shape[2]
    for s in range(begin * lanes, min(end * lanes, values.shape[1])):
        for i in range(values.shape[2]):
            value = factors[s, i] * values[row, s, i]
            states[s // lanes, 2 * i, s % lanes], states[s // lanes, 2 * i + 1, s % lanes] = value.real, value.imag


@inlined
def _leave(states, values, row, factors, begin, end):
    """Values = factors * states."""
    lanes = states.shape[2]
    for s in range(begin * lanes, min(end * lanes, values.shape[1])):
        for i in range(values.shape[2]):
            re, im = states[s // lanes, 2 * i, s % lanes], states[s // lanes, 2 * i + 1, s % lanes]
            values[row, s, i] = factors[s, i] * complex(re, im)


@compiled(key=VECTOR_CODE)
def _run(form, block, place, skipped, runs, add, ahead):
    """Respond over `runs` times the steps of a form in a block, behind the steps `skipped`; y += ... if `add`."""
    shape, tables, order, vector = form.shape, form.tables, place.order, place.vector
    rows, columns, group, wide = len(shape.rows), len(shape.columns), len(shape.group), 8 * len(shape.lanes)
    if runs == 0:
        return
    y, u = place.y + skipped * vector, place.u + skipped * vector
    size, pace, index = WORK // (rows * columns), -(-CHUNK * rows // (runs * order)), ahead.offset
    feed_through(shape, y, u, tables.taps + block * group * group * vector, runs, add)
    observe = tables.observe + block * group * order * vector
    for unit in range(0, order // rows, size):
        units, at = min(size, order // rows - unit), block * order + unit * rows
        inject, jump = tables.inject + at * (group - 1) * vector, tables.jump + at * (columns - 1) * vector
        own = inject, jump, tables.leap + at * wide, observe + unit * rows * min(rows, group) * vector
        places, following = (place.states + unit * rows * wide, place.work), (ahead.inputs, index, ahead.stride)
        advance(shape, (y, u), own, places, (units, order, runs, pace), following)
        index += units * runs * pace * ahead.stride


@inlined
def _run_all(many, one, step, block, place, steps, add, ahead):
    """The same over any number of steps: in whole shapes, then in groups, then step by step."""
    group = len(many.shape.columns) * GROUP
    whole, groups = steps - steps % group, steps - steps % GROUP
    _run(many, block, place, 0, whole // group, add, ahead)
    _run(one, block, place, whole, (groups - whole) // GROUP, add, ahead)
    _run(step, block, place, groups, steps - groups, add, ahead)


@compiled(key=VECTOR_CODE)
def respond(shapes, tables, arrays, space, plan):
    """Respond in some blocks of channels; the arguments are the tuples that the names above stand for.

    A panel of blocks is copied in and out at once, so that memory is met in long runs.
    """
    arrays, space, plan = Arrays(*arrays), Space(*space), Plan(*plan)
    many = Form(Shape(*shapes[0]), Tables(*tables[0]))
    one, step = Form(Shape(*shapes[1]), Tables(*tables[1])), Form(Shape(*shapes[2]), Tables(*tables[2]))
    u, y, channels, reverse = arrays.u, arrays.y, plan.channels, plan.reverse
    (blocks, order, lanes), stride = space.states.shape, -channels if reverse else channels
    vector, held, scratch = lanes * u.itemsize, address(space.states.reshape(-1), 0), address(space.work, 0)
    y_tiles, u_tiles, read = address(space.outputs, 0), address(space.inputs, 0), address(u, 0)
    for row in range(plan.start // blocks, (plan.stop - 1) // blocks + 1):
        begin, end = max(plan.start - row * blocks, 0), min(plan.stop - row * blocks, blocks)
        _enter(space.states, arrays.state, row, arrays.into, begin, end)
        for done in range(0, plan.length, CHUNK):
            steps = min(CHUNK, plan.length - done)
            sample = row * plan.length + (plan.length - 1 - done if reverse else done)
            for first in range(begin, end, PANEL):
                last = min(first + PANEL, end)
                at, width = sample * channels + first * lanes, min(last * lanes, channels) - first * lanes
                _load(many.shape, space.inputs, u, at, stride, steps, width)
                if reverse:
                    _load(many.shape, space.outputs, y, at, stride, steps, width)
                following = sample * channels + (last * lanes if last < end else begin * lanes + steps * stride)
                for block in range(first, last):
                    tile, states = (block - first) * CHUNK * vector, held + block * order * lanes * 8
                    place = Place(y_tiles + tile, u_tiles + tile, states, scratch, order, vector)
                    ahead = Ahead(read, following + (block - first) * lanes, stride)
                    _run_all(many, one, step, block, place, steps, reverse, ahead)
                _store(many.shape, y, space.outputs, at, stride, steps, width, plan.stream)
        _leave(space.states, arrays.state, row, arrays.back, begin, end)
    fence()
