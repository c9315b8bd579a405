"""Wide layers on register tiles: B u, the scan and C x of one chunk of time steps after another, within the caches.

The compiled functions share the names of what they pass on:

tile    lanes, steps, few: tuples of None, see `_wide_ir`; a short rest of a sequence takes a tile of `few` steps
rows    a chunk, flat: row 0 holds the states before it, each other row [re, im] of every panel, and space for inputs
source  address of the inputs of the chunk's first step, and their stride: in u, or copied behind the states of `rows`
B       (S, panels, m, 2, lanes); powers (S, panels, steps, 2, lanes); leaps (S, panels, 2, lanes)
C       (S, panels of outputs, k, 2 lanes), and D below it where D is not diagonal
scale   factors of what the sums of each panel of outputs are added to, 2 lanes each, and at the end 2 lanes of ones
"""

from ..._support.compiled import compiled
from ._wide_ir import address, drive, fence, meet, observe

_DEPTH = 256  # numbers that are summed in a row; longer sums lose digits of single precision


@compiled
def _copy_inputs(u, where, reverse, rows, layout, share):
    """Copy the inputs of a share (start, stop) of a chunk's steps into its rows; in reverse, the last step first."""
    (row, first, system), (stride, column, inputs) = where, layout
    for i in range(share[0], share[1]):
        k = u.shape[1] - 1 - first - i if reverse else first + i
        at = (i + 1) * stride + column
        source = u[row, k, system * inputs : (system + 1) * inputs]
        target = rows[at : at + inputs]
        for j in range(inputs):
            target[j] = source[j]


@compiled
def _drive_panel(tile, weights, index, source, rows, layout, at, count, carry, ahead):
    """States of one panel, at a column of the rows, over a chunk; `carry` holds them before it and after a full one.

    `ahead` is a place from which on inputs are needed next, and how far to go there with each input: of the part that a
    tile fetches, each panel fetches its share.
    """
    (lanes, steps, few), (B, powers, leaps), (stride, _, inputs) = tile, weights, layout
    pair = 2 * len(lanes)
    places = (B, index * inputs * pair), inputs, (powers, index * len(steps) * pair), (leaps, index * pair), (carry, at)
    for j in range(pair):
        rows[at + j] = carry[at + j]
    for t in range(0, count, len(steps)):
        read = source[0] + t * source[1] * rows.itemsize, source[1]
        states, fetched = (address(rows, (t + 1) * stride + at), stride), ((ahead[0], ahead[1] + t * inputs), ahead[2])
        if count - t > len(few):
            drive(lanes, steps, read, states, *places, *fetched)
        else:
            drive(lanes, few, read, states, *places, *fetched)


@compiled
def _observe_panel(tile, C, scale, index, source, rows, layout, part, count, y, target, way, scratch):
    """Outputs of one panel over the tiles part[0] ... part[1] - 1 of a chunk.

    `target` is the place of the chunk in the output, flat, its stride and the width that is left from there; a tile
    that overlaps an end goes through `scratch`. One call takes all tiles: it counts references to its arrays, and such
    locked additions wait for every store before them.
    """
    (lanes, steps, few), (stride, column, _), (begin, y_stride, width), (reverse, strict, stream) = (
        tile,
        layout,
        target,
        way,
    )
    pair, depth = 2 * len(lanes), C.shape[2]
    wide, ones, sums = min(pair, width), scale.size - pair, (address(scratch, 0), pair)
    for t in range(part[0] * len(steps), min(part[1] * len(steps), count), len(steps)):
        tall = len(steps) if count - t > len(few) else len(few)
        valid, at, here = min(tall, count - t), begin + t * y_stride, (t + 1 - strict) * stride
        whole = valid == tall and wide == pair
        final = (address(y, at), y_stride) if whole else sums
        factors, base = index * pair, (source[0] + (t * source[1] + index % C.shape[1] * pair) * y.itemsize, source[1])
        if reverse:
            factors, base = ones, final
            if not whole:
                _move((y, at, y_stride), (scratch, 0, pair), valid, wide)
        elif depth > column:  # D is in C: `base` is any number, times 0
            base = address(scale, 0), 0
        for k in range(0, depth, _DEPTH):
            places = (rows, here + k), stride, (C, (index * depth + k) * pair), min(_DEPTH, depth - k)
            last = k + _DEPTH >= depth
            ends = (scale, factors), base, final if last else sums, stream and whole and last
            if tall == len(steps):
                observe(lanes, steps, *places, *ends)
            else:
                observe(lanes, few, *places, *ends)
            factors, base = ones, sums
        if not whole:
            _move((scratch, 0, pair), (y, at, y_stride), valid, wide)


@compiled
def _move(source, target, steps, width):
    for i in range(steps):
        for j in range(width):
            target[0][target[1] + i * target[2] + j] = source[0][source[1] + i * source[2] + j]


@compiled
def _load_states(states, carry, panels, lanes):
    """Spread states (n, 2) over some panels."""
    for i in range(panels[0] * lanes, panels[1] * lanes):
        at = i // lanes * 2 * lanes + i % lanes
        carry[at] = states[i, 0] if i < states.shape[0] else 0.0
        carry[at + lanes] = states[i, 1] if i < states.shape[0] else 0.0


@compiled
def _store_states(row, states, panels, lanes):
    for i in range(panels[0] * lanes, min(panels[1] * lanes, states.shape[0])):
        at = i // lanes * 2 * lanes + i % lanes
        states[i, 0], states[i, 1] = row[at], row[at + lanes]


@compiled
def _part(count, member, members):
    return count * member // members, count * (member + 1) // members


@compiled
def respond(tile, u, y, states, B, powers, leaps, C, scale, rows, carry, scratch, counter, plan):
    """Run the items start ... stop - 1, each a sequence through a system, as one member of a team.

    `states` (R, S, n, 2) holds the states before, and then after. The members share `rows` and `carry`: each drives
    some panels of states, and when all have done so observes some tiles of steps. While one observes, another may
    already fill the other of the two chunks in `rows`. Inputs are read where they lie if `direct`, but for a last
    chunk whose rest fills no tile. Returns how often the team has met.
    """
    start, stop, member, members, met, reverse, strict, stream, direct = plan
    length, systems, lanes, pair = u.shape[1], states.shape[1], len(tile[0]), 2 * len(tile[0])
    panels, out_panels, inputs, outputs = B.shape[1], C.shape[1], B.shape[2], y.shape[2] // systems
    chunk, layout = rows.shape[1] - 1, (rows.shape[2], panels * pair, inputs)
    flat, way = y.reshape(-1), (reverse, strict, stream)
    mine, pace = _part(panels, member, members), -(-len(tile[1]) // panels)
    inputs_flat, u_step = u.reshape(-1), u.shape[2]
    for item in range(start, stop):
        row, system = item // systems, item % systems
        _load_states(states[row, system], carry, mine, lanes)
        for first in range(0, length, chunk):
            count = min(chunk, length - first)
            here, rest = rows[first // chunk % rows.shape[0]].reshape(-1), count % len(tile[1])
            sample = row * length + (length - 1 - first if reverse else first)
            if direct and (rest == 0 or rest == len(tile[2])):
                source = address(inputs_flat, sample * u_step + system * inputs), -u_step if reverse else u_step
            else:
                _copy_inputs(u, (row, first, system), reverse, here, layout, _part(count, member, members))
                met = meet(counter, met, members)
                source = address(here, layout[0] + layout[1]), layout[0]
            after = row * length + (length - first - 2 * chunk if reverse else first + count)
            for panel in range(mine[0], mine[1]):
                index = system * panels + panel
                ahead = inputs_flat, max(0, after) * u_step + panel * inputs * pace, pace
                _drive_panel(tile, (B, powers, leaps), index, source, here, layout, panel * pair, count, carry, ahead)
            met = meet(counter, met, members)
            step = -y.shape[2] if reverse else y.shape[2]
            y_at = sample * y.shape[2] + system * outputs
            part = _part((count - 1) // len(tile[1]) + 1, member, members)
            for panel in range(out_panels):
                index, target = system * out_panels + panel, (y_at + panel * pair, step, outputs - panel * pair)
                _observe_panel(tile, C, scale, index, source, here, layout, part, count, flat, target, way, scratch)
        _store_states(here[count * layout[0] :], states[row, system], mine, lanes)
    fence()
    return meet(counter, met, members)
