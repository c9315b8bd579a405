"""Wide layers on register tiles: B u, the scan and C x of one chunk of time steps after another, within the caches."""

import numba

from ._intrinsics import drive, meet, observe

# The compiled functions share the names of what they pass on:
# tile    (lanes, steps, few) as tuples of None, see _intrinsics; a short rest of a sequence takes tiles of `few` steps
# rows    the chunk, flat: row 0 the states before it, then a row for each step, [re, im] of every panel and the inputs
# B       (S, panels, m, 2, lanes); powers (S, panels, steps, 2, lanes); leaps (S, panels, 2, lanes)
# C       (S, panels of outputs, rows of C, 2 lanes), and D below it where D is not diagonal; scale, flat: D or ones


@numba.njit(cache=True, nogil=True)
def _copy_inputs(u, row, first, system, reverse, rows, stride, column, inputs, start, stop):
    """Copy the inputs of steps start ... stop - 1 of a chunk into its rows; in reverse, the last step first."""
    for i in range(start, stop):
        k = u.shape[1] - 1 - first - i if reverse else first + i
        source = u[row, k, system * inputs : (system + 1) * inputs]
        at = (i + 1) * stride + column
        target = rows[at : at + inputs]
        for j in range(inputs):
            target[j] = source[j]


@numba.njit(cache=True, nogil=True)
def _drive_panel(tile, B, powers, leaps, system, panel, rows, stride, count, carry):
    """States of one panel over a chunk; `carry` holds them before it, and after it if the chunk is full."""
    lanes, steps, few = tile
    _, panels, inputs, _, _ = B.shape
    pair = 2 * len(lanes)
    column, at, index = panels * pair, panel * pair, (system * panels + panel) * pair
    weights = (B, index * inputs), inputs, (powers, index * len(steps)), (leaps, index), (carry, at)
    for j in range(pair):
        rows[at + j] = carry[at + j]
    for t in range(0, count, len(steps)):
        here = (t + 1) * stride
        if count - t > len(few):
            drive(lanes, steps, stride, (rows, here + column), (rows, here + at), *weights)
        else:
            drive(lanes, few, stride, (rows, here + column), (rows, here + at), *weights)


@numba.njit(cache=True, nogil=True)
def _move(source, source_at, source_stride, target, target_at, target_stride, steps, width):
    for i in range(steps):
        for j in range(width):
            target[target_at + i * target_stride + j] = source[source_at + i * source_stride + j]


@numba.njit(cache=True, nogil=True)
def _observe_tile(
    tile, C, scale, system, panel, t, rows, stride, column, count, y, y_at, y_stride, outputs, add, strict, scratch
):
    """Outputs of one panel over one tile of a chunk, through `scratch` where the tile overlaps an end."""
    lanes, steps, few = tile
    pair = 2 * len(lanes)
    _, panels, depth, _ = C.shape
    tall = len(steps) if count - t > len(few) else len(few)
    valid, wide = min(tall, count - t), min(pair, outputs - panel * pair)
    y_at += panel * pair + t * y_stride
    out, out_at, out_stride = y, y_at, y_stride
    if valid < tall or wide < pair:
        out, out_at, out_stride = scratch, 0, pair
        if add:
            _move(y, y_at, y_stride, scratch, 0, pair, valid, wide)
    here = (t + 1) * stride
    if add:
        base, base_at, base_stride = out, out_at, out_stride
    elif depth > column:  # D is in C: the sum starts from 0
        base, base_at, base_stride = scale, 0, 0
    else:
        base, base_at, base_stride = rows, here + column + panel * pair, stride
    index = system * panels + panel
    here -= stride if strict else 0
    weights = (C, index * depth * pair), depth, (scale, index * pair)
    ends = (base, base_at), base_stride, (out, out_at), out_stride
    if tall == len(steps):
        observe(lanes, steps, (rows, here), stride, *weights, *ends)
    else:
        observe(lanes, few, (rows, here), stride, *weights, *ends)
    if valid < tall or wide < pair:
        _move(scratch, 0, pair, y, y_at, y_stride, valid, wide)


@numba.njit(cache=True, nogil=True)
def respond(tile, u, y, states, B, powers, leaps, C, scale, rows, carry, scratch, counter, plan):
    """Run the sequences first ... last - 1, each a row and a system, as one of the members of a team.

    `states` (R, S, n, 2) holds the states before, and then after. The members share `rows` and `carry`: each drives some
    panels of states, and when all have done so observes some tiles. While one observes, another may already fill the
    other of the two chunks in `rows`. Returns how often the team has met.
    """
    start, stop, member, members, met, reverse, strict = plan
    length, systems = u.shape[1], states.shape[1]
    (_, panels, inputs, _, lanes), (_, out_panels, _, pair) = B.shape, C.shape
    outputs, column = y.shape[2] // systems, panels * pair
    chunk, stride, y_stride = rows.shape[1] - 1, rows.shape[2], -y.shape[2] if reverse else y.shape[2]
    flat, factors = y.reshape(-1), scale.reshape(-1)
    mine = (panels * member // members, panels * (member + 1) // members)
    for item in range(start, stop):
        row, system = item // systems, item % systems
        _load_states(states[row, system], carry, mine, lanes)
        for first in range(0, length, chunk):
            count = min(chunk, length - first)
            here = rows[met // 2 % rows.shape[0]].reshape(-1)  # a team meets twice a chunk
            _copy_inputs(
                u,
                row,
                first,
                system,
                reverse,
                here,
                stride,
                column,
                inputs,
                count * member // members,
                count * (member + 1) // members,
            )
            if members > 1:
                met += 1
                meet(counter, met * members)
            for panel in range(mine[0], mine[1]):
                _drive_panel(tile, B, powers, leaps, system, panel, here, stride, count, carry)
            if members > 1:
                met += 1
                meet(counter, met * members)
            y_at = (row * length + (length - 1 - first if reverse else first)) * y.shape[2] + system * outputs
            tiles = (count - 1) // len(tile[1]) + 1
            work = out_panels * tiles
            for number in range(work * member // members, work * (member + 1) // members):
                _observe_tile(
                    tile,
                    C,
                    factors,
                    system,
                    number // tiles,
                    number % tiles * len(tile[1]),
                    here,
                    stride,
                    column,
                    count,
                    flat,
                    y_at,
                    y_stride,
                    outputs,
                    reverse,
                    strict,
                    scratch,
                )
            if first + count == length:
                _store_states(here[count * stride :], states[row, system], mine, lanes)
    return met


@numba.njit(cache=True, nogil=True)
def _load_states(states, carry, mine, lanes):
    """Spread states (n, 2) over panels."""
    for i in range(mine[0] * lanes, mine[1] * lanes):
        at = i // lanes * 2 * lanes + i % lanes
        carry[at] = states[i, 0] if i < states.shape[0] else 0.0
        carry[at + lanes] = states[i, 1] if i < states.shape[0] else 0.0


@numba.njit(cache=True, nogil=True)
def _store_states(row, states, mine, lanes):
    for i in range(mine[0] * lanes, min(mine[1] * lanes, states.shape[0])):
        at = i // lanes * 2 * lanes + i % lanes
        states[i, 0], states[i, 1] = row[at], row[at + lanes]
