"""Best-first search over the arcs of the unit circle that the phase exclusion of `_bounds` leaves open."""

import math

import numpy as np

from ..._support.compiled import compiled
from ._bounds import _UNBOUNDED, _UNIT, _largest_singular_value, _pop, _push, _respond, _transfer
from ._circle import Point, proven_gain, turn
from ._cover import _INTERVALS, _OPEN, _STORED, _USED, _anchor_split, _bound, _choose, _part, _set, _store, _tree

_LEVELS = 4
_WIDEST = 0.3  # step (rad of phase) of the first parabola through a peak; the last one is a thousandth of it
_SLOPE, _GAIN, _HIGHEST, _STUCK = 4, 5, 6, 7  # after its best point: slope and gain there, bounds that stand


@compiled
def _sample(point: Point, system: tuple, work: tuple, best: float) -> tuple[float, float, float, float]:
    """Phase, slope, gain (-1 where only bounded) and an upper bound of the gain that includes rounding."""
    poles, gaps, counts, weights, B, E, F, D, scale = system
    phase, slope, total = _respond(point, poles, gaps, counts, weights, B, work[0], work[1])
    _transfer(E, F, D, work)
    gain, exact = _largest_singular_value(work[4], work[5], work[6], work[7], best)
    p, m = D.shape
    relative = 8.0 if p == 1 and m == 1 else 8.0 * (p + m) + p * m
    error = ((4.0 * poles.shape[0] + 40.0) * total + 4.0 * scale) * _UNIT
    return phase, slope, gain if exact else -1.0, gain * (1.0 + relative * _UNIT) + error


@compiled
def _polish(point: Point, step: float, levels: int, exactly: float, system: tuple, work: tuple) -> tuple[Point, int]:
    """Climb to the local peak near a sample by parabolas, each of the `levels` ten times narrower than the last.

    `exactly` is 0, or -1 where lower bounds of the gains of wide matrices will do.
    """
    shrinks, used = 0, 1
    best = _sample(point, system, work, exactly)[2]
    for _ in range(24):
        right = _sample(turn(point, step), system, work, exactly)[2]
        left = _sample(turn(point, -step), system, work, exactly)[2]
        bend = right * right - 2.0 * best * best + left * left
        if bend < 0.0:
            shift = 0.5 * step * (left * left - right * right) / bend
            shift = min(2.0 * step, max(-2.0 * step, shift))
        else:
            shift = step if right > left else -step
        there = turn(point, shift)
        value = _sample(there, system, work, exactly)[2]
        used += 3
        if right > value and right > left:
            there, value, shift = turn(point, step), right, step
        elif left > value:
            there, value, shift = turn(point, -step), left, -step
        if value > best:
            point, best = there, value
        if abs(shift) < step:
            step *= 0.1
            shrinks += 1
            if shrinks == levels:
                break
    if point[1] < 0.0:
        point = (point[0], -point[1], point[2], -point[3])
    return point, used


@compiled
def _workspace(n: int, m: int, p: int) -> tuple:
    small = min(p, m)
    return (
        np.empty((2 * n, m)),
        np.empty((2 * n, m)),
        np.empty((p, m)),
        np.empty((p, m)),
        np.empty((p, m), dtype=np.complex128),
        np.empty((p, m), dtype=np.complex128),
        np.empty((small, small), dtype=np.complex128),
        np.full(small, 1.0 / math.sqrt(max(1, small)) + 0.0j),
    )


@compiled
def _note(state: np.ndarray, point: Point, found: tuple) -> None:
    """Take a sample for the best one."""
    for j in range(4):
        state[j] = point[j]
    state[_SLOPE], state[_GAIN] = found[1], found[2]


@compiled
def _best(state: np.ndarray) -> Point:
    return state[0], state[1], state[2], state[3]


@compiled
def _start(
    system: tuple, work: tuple, tree: tuple, sizes: np.ndarray, state: np.ndarray, crowd: int, law: tuple
) -> None:
    """Sample z = 1 and z = -1, and open the half circle between them."""
    state[_SLOPE], state[_GAIN] = 1.0, -1.0
    for k in range(2):
        point = (1.0 - 2.0 * k, 0.0, 0.0, 0.0)
        found = _sample(point, system, work, 0.0)
        _store(k, point, found, tree[0], tree[1])
        state[_HIGHEST] = max(state[_HIGHEST], found[3])
        if found[2] > state[_GAIN]:
            _note(state, point, found)
    _set(tree[2], 0, 0, 1, 0, crowd)
    tree[3][0] = _bound(tree[1], 0, 1, *law)
    sizes[_STORED], sizes[_INTERVALS], sizes[_USED] = 2, 1, 2
    sizes[_OPEN] = _push(tree[4], tree[3], 0, 0)


@compiled
def _climb(
    system: tuple,
    work: tuple,
    tree: tuple,
    sizes: np.ndarray,
    state: np.ndarray,
    angles: np.ndarray,
    levels: int,
    law: tuple,
) -> None:
    """Polish the best sample and split whichever interval holds the peak."""
    values, intervals = tree[1], tree[2]
    exactly = 0.0 if levels == _LEVELS else -1.0
    point, spent = _polish(_best(state), _WIDEST / state[_SLOPE], levels, exactly, system, work)
    found = _sample(point, system, work, 0.0)
    sizes[_USED] += spent + 1
    if found[2] < state[_GAIN]:  # rounding
        return
    _note(state, point, found)
    state[_HIGHEST] = max(state[_HIGHEST], found[3])
    for i in range(sizes[_INTERVALS]):
        a, b, low, high = intervals[i]
        if values[a, 0] < found[0] < values[b, 0]:
            _store(sizes[_STORED], point, found, tree[0], values)
            middle = _anchor_split(angles, low, high, math.atan2(point[1], point[0]))
            _part(i, low, middle, middle, high, tree, sizes, law)
            sizes[_OPEN] = 0
            for j in range(sizes[_INTERVALS]):
                sizes[_OPEN] = _push(tree[4], tree[3], sizes[_OPEN], j)
            return


@compiled
def _split(
    system: tuple,
    work: tuple,
    tree: tuple,
    sizes: np.ndarray,
    state: np.ndarray,
    anchors: np.ndarray,
    angles: np.ndarray,
    least: float,
    law: tuple,
) -> bool:
    """Split the interval with the largest bound by a sample; whether that is the best one so far.

    Gains well below `least` are only bounded.
    """
    points, values, intervals, keys, heap = tree
    top = heap[0]
    a, b, low, high = intervals[top]
    point, middle, after = _choose(intervals[top], keys[top], tree, anchors, law[1])
    found = _sample(point, system, work, least)
    sizes[_USED] += 1
    sizes[_OPEN] = _pop(heap, keys, sizes[_OPEN])
    if not values[a, 0] < found[0] < values[b, 0]:
        if middle >= 0:  # a pole angle at an end of the interval: forget it
            left_of_it = found[0] <= values[a, 0]
            _set(intervals, top, a, b, after if left_of_it else low, high if left_of_it else middle)
            sizes[_OPEN] = _push(heap, keys, sizes[_OPEN], top)
        else:  # an interval that double precision cannot split: its bound stands
            state[_STUCK] = max(state[_STUCK], keys[top])
        return False
    if middle < 0:
        middle = after = _anchor_split(angles, low, high, math.atan2(point[1], point[0]))
    _store(sizes[_STORED], point, found, points, values)
    _part(top, low, middle, after, high, tree, sizes, law)
    sizes[_OPEN] = _push(heap, keys, sizes[_OPEN], top)
    sizes[_OPEN] = _push(heap, keys, sizes[_OPEN], sizes[_INTERVALS] - 1)
    if found[2] >= 0.0:
        state[_HIGHEST] = max(state[_HIGHEST], found[3])
    if found[2] > state[_GAIN] * (1.0 + 1e-14):
        _note(state, point, found)
        return True
    return False


@compiled
def _prove(point: Point, system: tuple, outputs: tuple, work: tuple) -> float:
    """Proven lower bound of the gain at a point."""
    _sample(point, system, work, 0.0)
    p, m = system[7].shape
    if min(p, m) == 0:
        return 0.0
    if p == 1 and m == 1:
        u, v = np.ones(1, dtype=np.complex128), np.ones(1, dtype=np.complex128)
    else:
        left, _, right = np.linalg.svd(work[4])
        u, v = left[:, 0].copy(), np.conj(right[0])
    return proven_gain(point, system[0], system[4], outputs[0], outputs[1], system[7], u, v)


@compiled
def peak_gain(
    system: tuple,
    outputs: tuple,
    anchors: np.ndarray,
    angles: np.ndarray,
    halves: int,
    rtol: float,
    budget: int,
    level: float,
) -> tuple[float, float, int, Point]:
    """Proven lower and upper bound of the peak gain, samples taken, and the point where the lower one is reached.

    Parameters
    ----------
    system : tuple
        poles (n,), 1 - abs(poles)**2 (n,), number of distinct poles that each state adds (0, 1, or 2 with its
        conjugate), bounds of the norms of the terms (n,), B (n, m), E and F (p, 2 n) of `_transfer`, D (p, m) and its
        Frobenius norm.
    outputs : tuple
        C and C_reverse, transposed, with the factor kappa / 2.
    anchors, angles : ndarray, shape (k,)
        Poles of the upper half plane in the order of their angles.
    halves : int
        2 for a bidirectional system, whose poles count twice, else 1.
    level : float
        Where positive, the search ends as soon as the upper bound is below it or the lower one above.
    """
    n, m = system[4].shape
    work, tree = _workspace(n, m, system[7].shape[0]), _tree(budget + 128)
    keys, heap = tree[3], tree[4]
    sizes, state = np.zeros(4, dtype=np.int64), np.zeros(8)
    distinct = np.sum(system[2])
    law = (halves * 2.0 * 48.0 * (distinct + 1) * _UNIT, halves)  # slack of the phase
    _start(system, work, tree, sizes, state, anchors.shape[0], law)
    fresh = distinct > 0
    levels = _LEVELS if rtol < 1e-7 else _LEVELS // 2  # a peak that is not the last one need not be known exactly
    while sizes[_OPEN] > 0 and sizes[_USED] < budget:
        key, gain = keys[heap[0]], state[_GAIN]
        if fresh and key < _UNBOUNDED:
            fresh = False
            _climb(system, work, tree, sizes, state, angles, levels, law)
            continue
        if level > 0.0 and (key <= level or gain > level):
            break
        if level <= 0.0 and key <= max(gain * (1.0 + rtol), state[_HIGHEST] * (1.0 + 0.25 * rtol)):
            break
        if _split(system, work, tree, sizes, state, anchors, angles, max(gain, level), law):
            fresh = True
    best = _best(state)
    if distinct > 0 and (fresh or levels < _LEVELS):
        step = _WIDEST if fresh else _WIDEST * 0.1**levels
        best, spent = _polish(best, step / state[_SLOPE], _LEVELS if fresh else _LEVELS - levels, 0.0, system, work)
        sizes[_USED] += spent
    upper = max(state[_HIGHEST], state[_STUCK])
    if sizes[_OPEN] > 0:
        upper = max(upper, keys[heap[0]])
    proven = _prove(best, system, outputs, work)
    return proven, max(upper, proven), sizes[_USED], best


@compiled
def peak_gains(
    arrays: tuple,
    anchors: np.ndarray,
    angles: np.ndarray,
    numbers: np.ndarray,
    halves: int,
    rtol: float,
    budget: int,
    level: float,
    start: int,
    stop: int,
    found: np.ndarray,
) -> None:
    """`peak_gain` of the systems start ... stop - 1 of a batch; rows of `found` are gain, upper, samples, point (4)."""
    poles, gaps, counts, weights, B, E, F, D, scale, C, C_reverse = arrays
    for s in range(start, stop):
        system = (poles[s], gaps[s], counts[s], weights[s], B[s], E[s], F[s], D[s], scale[s])
        k = numbers[s]
        gain, upper, used, point = peak_gain(
            system, (C[s], C_reverse[s]), anchors[s, :k], angles[s, :k], halves, rtol, budget, level
        )
        found[s, 0], found[s, 1], found[s, 2] = gain, upper, used
        for j in range(4):
            found[s, 3 + j] = point[j]
