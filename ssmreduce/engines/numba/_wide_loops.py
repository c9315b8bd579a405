"""Wide layers on register tiles: B u, the scan and C x of one chunk of time steps after another, within the caches.

All arrays are flat; `Sizes` has their shapes. A chunk is `rows`: row 0 holds the states before it, each other row
[re, im] of every panel of a step, and space for the inputs of that step. Weights and outputs are packed as

B       (systems, panels, inputs, 2, lanes)
powers  (systems, panels, steps, 2, lanes); leaps (systems, panels, 2, lanes)
C       (systems, panels of outputs, depth, 2 lanes), with D below it where D is not diagonal
scale   factors of what the sums of each panel of outputs are added to, 2 lanes each, and at the end 2 lanes of ones
"""

from typing import Any, NamedTuple

from ..._support.compiled import compiled, inlined
from ._team_ir import fence, meet
from ._vector_ir import VECTOR_CODE, address
from ._wide_ir import drive, observe

_DEPTH = 256  # numbers that are summed in a row; longer sums lose digits of single precision


class Tile(NamedTuple):
    """Tuples of None, see `_wide_ir`: numbers of a vector, steps of a tile, and of that for a short rest."""

    lanes: tuple
    steps: tuple
    few: tuple


class Sizes(NamedTuple):
    """Shapes of a layer and of its chunks."""

    length: int
    systems: int
    order: int
    inputs: int
    outputs: int
    panels: int
    out_panels: int
    depth: int
    chunk: int  # steps
    chunks: int  # that `rows` holds, one after the other
    stride: int  # of a row
    column: int  # of a row at which inputs lie


class Plan(NamedTuple):
    """What a member of a team does: the items start ... stop - 1, each a sequence through a system."""

    start: int
    stop: int
    member: int
    members: int
    met: int  # how often the team has met before
    reverse: int
    strict: int
    stream: int
    direct: bool  # inputs are read where they lie


class Arrays(NamedTuple):
    """What is read and written; `states` (R, systems, order, 2) holds the states before, and then after."""

    u: Any
    y: Any
    states: Any
    drive: tuple  # B, powers, leaps
    observe: tuple  # C, scale
    rows: Any
    carry: Any
    scratch: Any
    counter: Any


class Chunk(NamedTuple):
    """A run of steps of one sequence through one system; in reverse, the last step comes first."""

    system: int
    steps: int
    begin: int  # of its rows
    sample: int  # the number of its first step, counted through all sequences
    following: int  # that of the first step of the next chunk in memory


class Source(NamedTuple):
    """Inputs of a chunk's first step, an address, and the stride to the next step's: in u, or copied into the rows."""

    address: int
    stride: int


@inlined
def _part(count, plan):
    """Share of a member."""
    return count * plan.member // plan.members, count * (plan.member + 1) // plan.members


@inlined
def _copy_inputs(u, rows, sizes, chunk, plan):
    """Copy the inputs of a member's share of the steps behind their states."""
    first, last = _part(chunk.steps, plan)
    width = sizes.systems * sizes.inputs
    for i in range(first, last):
        source = (chunk.sample + (-i if plan.reverse else i)) * width + chunk.system * sizes.inputs
        target = chunk.begin + (i + 1) * sizes.stride + sizes.column
        for j in range(sizes.inputs):
            rows[target + j] = u[source + j]


@inlined
def _drive_panel(tile, weights, panel, source, rows, sizes, chunk, carry, ahead):
    """States of one panel over a chunk; `carry` holds them before it and after a full one.

    `ahead` is a place from which on inputs are needed next, and how far to go there with each input: of the part that a
    tile fetches, each panel fetches its share.
    """
    (B, powers, leaps), pair, steps = weights, 2 * len(tile.lanes), len(tile.steps)
    at, index = panel * pair, chunk.system * sizes.panels + panel
    weight, power = (B, index * sizes.inputs * pair), (powers, index * steps * pair)
    places = weight, sizes.inputs, power, (leaps, index * pair), (carry, at)
    for j in range(pair):
        rows[chunk.begin + at + j] = carry[at + j]
    for t in range(0, chunk.steps, steps):
        read = source.address + t * source.stride * rows.itemsize, source.stride
        states = address(rows, chunk.begin + (t + 1) * sizes.stride + at), sizes.stride
        fetched = (ahead[0], ahead[1] + t * sizes.inputs), ahead[2]
        if chunk.steps - t > len(tile.few):
            drive(tile.lanes, tile.steps, read, states, *places, *fetched)
        else:
            drive(tile.lanes, tile.few, read, states, *places, *fetched)


@inlined
def _observe_panel(tile, weights, panel, source, rows, sizes, chunk, y, scratch, plan):
    """Outputs of one panel over a member's share of the tiles of a chunk; a tile that overlaps an end takes `scratch`.

    One call takes all tiles: it counts references to its arrays, and such locked additions wait for every store before
    them.
    """
    (C, scale), pair, steps, few = weights, 2 * len(tile.lanes), len(tile.steps), len(tile.few)
    index, width = chunk.system * sizes.out_panels + panel, sizes.systems * sizes.outputs
    begin = chunk.sample * width + chunk.system * sizes.outputs + panel * pair
    step, wide = -width if plan.reverse else width, min(pair, sizes.outputs - panel * pair)
    ones, sums = scale.size - pair, (address(scratch, 0), pair)
    first, last = _part((chunk.steps - 1) // steps + 1, plan)
    for t in range(first * steps, min(last * steps, chunk.steps), steps):
        tall = steps if chunk.steps - t > few else few
        valid, at = min(tall, chunk.steps - t), begin + t * step
        here, whole = chunk.begin + (t + 1 - plan.strict) * sizes.stride, valid == tall and wide == pair
        final = (address(y, at), step) if whole else sums
        factors, base = index * pair, (source.address + (t * source.stride + panel * pair) * y.itemsize, source.stride)
        if plan.reverse:
            factors, base = ones, final
            if not whole:
                _move(y, at, step, scratch, 0, pair, valid, wide)
        elif sizes.depth > sizes.column:  # D is in C: `base` is any number, times 0
            base = address(scale, 0), 0
        for k in range(0, sizes.depth, _DEPTH):
            weight, count = (C, (index * sizes.depth + k) * pair), min(_DEPTH, sizes.depth - k)
            done = k + _DEPTH >= sizes.depth
            places = (rows, here + k), sizes.stride, weight, count, (scale, factors), base
            ends = final if done else sums, plan.stream and whole and done
            if tall == steps:
                observe(tile.lanes, tile.steps, *places, *ends)
            else:
                observe(tile.lanes, tile.few, *places, *ends)
            factors, base = ones, sums
        if not whole:
            _move(scratch, 0, pair, y, at, step, valid, wide)


@inlined
def _move(source, begin, stride, target, at, step, count, width):
    for i in range(count):
        for j in range(width):
            target[at + i * step + j] = source[begin + i * stride + j]


@inlined
def _exchange(states, begin, order, vectors, at, panels, lanes, enter):
    """States, re and im side by side, of some panels into vectors if `enter`, else back."""
    for i in range(panels[0] * lanes, panels[1] * lanes):
        place = at + i // lanes * 2 * lanes + i % lanes
        for part in range(2):
            if not enter and i < order:
                states[begin + 2 * i + part] = vectors[place + part * lanes]
            elif enter:
                vectors[place + part * lanes] = states[begin + 2 * i + part] if i < order else 0.0


@inlined
def _source(tile, arrays, sizes, chunk, plan):
    """Where the inputs of a chunk are read, copied if they must be, and how often the team has met then."""
    rest, width = chunk.steps % len(tile.steps), sizes.systems * sizes.inputs
    if plan.direct and (rest == 0 or rest == len(tile.few)):
        place = address(arrays.u, chunk.sample * width + chunk.system * sizes.inputs)
        return Source(place, -width if plan.reverse else width), 0
    _copy_inputs(arrays.u, arrays.rows, sizes, chunk, plan)
    return Source(address(arrays.rows, chunk.begin + sizes.stride + sizes.column), sizes.stride), 1


@compiled(key=VECTOR_CODE)
def respond(tile, arrays, sizes, plan):
    """Run the items of a plan, given as the tuples that their names stand for.

    The members of a team share `rows` and `carry`: each drives some panels of states, and when all have done so
    observes some tiles of steps. While one observes, another may already fill the next of the chunks in `rows`.
    Returns how often the team has met.
    """
    tile, arrays, sizes, plan = Tile(*tile), Arrays(*arrays), Sizes(*sizes), Plan(*plan)
    met, lanes, mine = plan.met, len(tile.lanes), _part(sizes.panels, plan)
    u, rows, carry, counter = arrays.u, arrays.rows, arrays.carry, arrays.counter
    pace = -(-len(tile.steps) // sizes.panels)
    for item in range(plan.start, plan.stop):
        row, begin, last = item // sizes.systems * sizes.length, 2 * item * sizes.order, 0
        _exchange(arrays.states, begin, sizes.order, carry, 0, mine, lanes, True)
        for first in range(0, sizes.length, sizes.chunk):
            count, number = min(sizes.chunk, sizes.length - first), first // sizes.chunk % sizes.chunks
            sample = row + (sizes.length - 1 - first if plan.reverse else first)
            following = row + (sizes.length - first - 2 * sizes.chunk if plan.reverse else first + count)
            place = number * (sizes.chunk + 1) * sizes.stride
            chunk = Chunk(item % sizes.systems, count, place, sample, following)
            source, copied = _source(tile, arrays, sizes, chunk, plan)
            if copied:
                met = meet(counter, met, plan.members)
            for panel in range(mine[0], mine[1]):
                ahead = max(0, following) * sizes.systems * sizes.inputs + panel * sizes.inputs * pace
                _drive_panel(tile, arrays.drive, panel, source, rows, sizes, chunk, carry, (u, ahead, pace))
            met = meet(counter, met, plan.members)
            for panel in range(sizes.out_panels):
                _observe_panel(tile, arrays.observe, panel, source, rows, sizes, chunk, arrays.y, arrays.scratch, plan)
            last = place + count * sizes.stride
        _exchange(arrays.states, begin, sizes.order, rows, last, mine, lanes, False)
    fence()
    return meet(counter, met, plan.members)
