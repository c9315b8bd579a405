"""Best-first search over the arcs of the unit circle that phase exclusion leaves open."""

import math
from typing import Any, NamedTuple

import numpy as np

from ..._support.compiled import compiled, inlined
from ._bounds import UNBOUNDED
from ._circle import Point, proven_gain, turn
from ._cover import (
    INTERVALS,
    OPEN,
    STORED,
    USED,
    anchor_split,
    bound,
    choose,
    new_tree,
    part,
    pop,
    push,
    set_interval,
    store,
)
from ._sample import UNIT, sample, workspace
from ._types import Anchors, Law, Sample, System, Tree, Work

_LEVELS = 4
_WIDEST = 0.3  # step (rad of phase) of the first parabola through a peak; the last one is a thousandth of it
_SLOPE, _GAIN, _HIGHEST, _STUCK = (
    4,
    5,
    6,
    7,
)  # of `state`, after its best point: slope and gain there, bounds that stand


class Search(NamedTuple):
    """A search under way: `sizes` are its counters (see `_cover`), `state` its best point and what stands of it."""

    system: System
    work: Work
    tree: Tree
    anchors: Anchors
    law: Law
    sizes: Any
    state: Any


class Aim(NamedTuple):
    """When to stop: tolerance, samples, and a level, beside which nothing matters where it is positive."""

    rtol: float
    budget: int
    level: float


@compiled
def _polish(point: Point, step: float, levels: int, exactly: float, system: System, work: Work) -> tuple[Point, int]:
    """Climb to the local peak near a sample by parabolas, each of the `levels` ten times narrower than the last.

    `exactly` is 0, or -1 where lower bounds of the gains of wide matrices will do.
    """
    shrinks, used = 0, 1
    best = sample(point, system, work, exactly).gain
    for _ in range(24):
        right = sample(turn(point, step), system, work, exactly).gain
        left = sample(turn(point, -step), system, work, exactly).gain
        bend = right * right - 2.0 * best * best + left * left
        if bend < 0.0:
            shift = 0.5 * step * (left * left - right * right) / bend
            shift = min(2.0 * step, max(-2.0 * step, shift))
        else:
            shift = step if right > left else -step
        there = turn(point, shift)
        value = sample(there, system, work, exactly).gain
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


@inlined
def _note(state: np.ndarray, point: Point, found: Sample) -> None:
    """Take a sample for the best one."""
    for j in range(4):
        state[j] = point[j]
    state[_SLOPE], state[_GAIN] = found.slope, found.gain


@inlined
def _best(state: np.ndarray) -> Point:
    return state[0], state[1], state[2], state[3]


@inlined
def _start(search: Search) -> None:
    """Sample z = 1 and z = -1, and open the half circle between them."""
    tree, sizes, state = search.tree, search.sizes, search.state
    state[_SLOPE], state[_GAIN] = 1.0, -1.0
    for k in range(2):
        point = (1.0 - 2.0 * k, 0.0, 0.0, 0.0)
        found = sample(point, search.system, search.work, 0.0)
        store(k, point, found, tree)
        state[_HIGHEST] = max(state[_HIGHEST], found.upper)
        if found.gain > state[_GAIN]:
            _note(state, point, found)
    set_interval(tree.intervals, 0, 0, 1, 0, search.anchors.poles.shape[0])
    tree.keys[0] = bound(tree.values, 0, 1, search.law)
    sizes[STORED], sizes[INTERVALS], sizes[USED] = 2, 1, 2
    sizes[OPEN] = push(tree.heap, tree.keys, 0, 0)


@inlined
def _climb(search: Search, levels: int) -> None:
    """Polish the best sample and split whichever interval holds the peak."""
    tree, sizes, state = search.tree, search.sizes, search.state
    exactly = 0.0 if levels == _LEVELS else -1.0
    point, spent = _polish(_best(state), _WIDEST / state[_SLOPE], levels, exactly, search.system, search.work)
    found = sample(point, search.system, search.work, 0.0)
    sizes[USED] += spent + 1
    if found.gain >= state[_GAIN]:  # else it is rounding
        _note(state, point, found)
        state[_HIGHEST] = max(state[_HIGHEST], found.upper)
        for i in range(sizes[INTERVALS]):
            a, b, low, high = tree.intervals[i]
            if tree.values[a, 0] < found.phase < tree.values[b, 0]:
                store(sizes[STORED], point, found, tree)
                middle = anchor_split(search.anchors.angles, low, high, math.atan2(point[1], point[0]))
                part(i, middle, middle, tree, sizes, search.law)
                sizes[OPEN] = 0
                for j in range(sizes[INTERVALS]):
                    sizes[OPEN] = push(tree.heap, tree.keys, sizes[OPEN], j)
                break


@inlined
def _forget(top: int, found: Sample, middle: int, after: int, tree: Tree, sizes: np.ndarray, state: np.ndarray) -> None:
    """What becomes of an interval whose sample fell on one of its ends."""
    a, b, low, high = tree.intervals[top]
    if middle >= 0:  # a pole angle at an end of the interval: forget it
        left_of_it = found.phase <= tree.values[a, 0]
        set_interval(tree.intervals, top, a, b, after if left_of_it else low, high if left_of_it else middle)
        sizes[OPEN] = push(tree.heap, tree.keys, sizes[OPEN], top)
    else:  # an interval that double precision cannot split: its bound stands
        state[_STUCK] = max(state[_STUCK], tree.keys[top])


@inlined
def _split(search: Search, least: float) -> bool:
    """Split the interval with the largest bound by a sample; whether that is the best one so far.

    Gains well below `least` are only bounded.
    """
    tree, sizes, state, anchors = search.tree, search.sizes, search.state, search.anchors
    top, better = tree.heap[0], False
    a, b, low, high = tree.intervals[top]
    point, middle, after = choose(top, tree, anchors.poles, search.law.halves)
    found = sample(point, search.system, search.work, least)
    sizes[USED] += 1
    sizes[OPEN] = pop(tree.heap, tree.keys, sizes[OPEN])
    if tree.values[a, 0] < found.phase < tree.values[b, 0]:
        if middle < 0:
            middle = after = anchor_split(anchors.angles, low, high, math.atan2(point[1], point[0]))
        store(sizes[STORED], point, found, tree)
        part(top, middle, after, tree, sizes, search.law)
        sizes[OPEN] = push(tree.heap, tree.keys, sizes[OPEN], top)
        sizes[OPEN] = push(tree.heap, tree.keys, sizes[OPEN], sizes[INTERVALS] - 1)
        if found.gain >= 0.0:
            state[_HIGHEST] = max(state[_HIGHEST], found.upper)
        if found.gain > state[_GAIN] * (1.0 + 1e-14):
            _note(state, point, found)
            better = True
    else:
        _forget(top, found, middle, after, tree, sizes, state)
    return better


@inlined
def _is_done(key: float, state: np.ndarray, aim: Aim) -> bool:
    """Whether the largest bound of an open interval leaves nothing to search for."""
    gain = state[_GAIN]
    if aim.level > 0.0:
        done = key <= aim.level or gain > aim.level
    else:
        done = key <= max(gain * (1.0 + aim.rtol), state[_HIGHEST] * (1.0 + 0.25 * aim.rtol))
    return done


@inlined
def _proven(point: Point, system: System, work: Work) -> float:
    """Proven lower bound of the gain at a point."""
    sample(point, system, work, 0.0)
    p, m = system.D.shape
    proven = 0.0
    if p == 1 and m == 1:
        u, v = np.full(1, 1.0 + 0.0j), np.full(1, 1.0 + 0.0j)
        proven = proven_gain(point, system, u, v)
    elif min(p, m) > 0:
        left, _, right = np.linalg.svd(work.G)
        u, v = left[:, 0].copy(), np.conj(right[0])
        proven = proven_gain(point, system, u, v)
    return proven


@inlined
def _polished(search: Search, fresh: bool, levels: int) -> Point:
    """The best point, polished to the last level where it is not yet so."""
    best, poles = _best(search.state), search.law.poles
    if poles > 0 and (fresh or levels < _LEVELS):
        step = _WIDEST if fresh else _WIDEST * 0.1**levels
        rest = _LEVELS if fresh else _LEVELS - levels
        best, spent = _polish(best, step / search.state[_SLOPE], rest, 0.0, search.system, search.work)
        search.sizes[USED] += spent
    return best


@inlined
def _run(search: Search, aim: Aim) -> Point:
    """Search until the bracket is as narrow as is aimed for; the point of the largest gain."""
    tree, sizes, state = search.tree, search.sizes, search.state
    _start(search)
    fresh = search.law.poles > 0
    levels = _LEVELS if aim.rtol < 1e-7 else _LEVELS // 2  # a peak that is not the last one need not be known exactly
    while sizes[OPEN] > 0 and sizes[USED] < aim.budget:
        key = tree.keys[tree.heap[0]]
        if fresh and key < UNBOUNDED:
            fresh = False
            _climb(search, levels)
        elif _is_done(key, state, aim):
            break
        elif _split(search, max(state[_GAIN], aim.level)):
            fresh = True
    return _polished(search, fresh, levels)


@compiled
def peak_gain(system: System, anchors: Anchors, halves: int, aim: Aim) -> tuple[float, float, int, Point]:
    """Proven lower and upper bound of the peak gain, samples taken, and the point where the lower one is reached.

    `halves` is 2 for a bidirectional system, whose poles count twice, else 1.
    """
    n, m = system.B.shape
    poles = 0
    for i in range(n):
        poles += system.counts[i]
    law = Law(halves * 2.0 * 48.0 * (poles + 1) * UNIT, halves, poles)
    tree, sizes, state = new_tree(aim.budget + 128), np.zeros(4, dtype=np.int64), np.zeros(8)
    search = Search(system, workspace(n, m, system.D.shape[0]), tree, anchors, law, sizes, state)
    best = _run(search, aim)
    upper = max(state[_HIGHEST], state[_STUCK])
    if sizes[OPEN] > 0:
        upper = max(upper, tree.keys[tree.heap[0]])
    proven = _proven(best, system, search.work)
    return proven, max(upper, proven), sizes[USED], best


@compiled
def peak_gains(
    arrays: tuple, anchors: tuple, halves: int, aim: tuple, start: int, stop: int, found: np.ndarray
) -> None:
    """`peak_gain` of the systems start ... stop - 1 of a batch; rows of `found` are gain, upper, samples, point (4).

    `arrays` and `aim` are the tuples that `System` and `Aim` stand for; `anchors` are those of `phases`.
    """
    every, (poles, angles, numbers) = System(*arrays), anchors
    for s in range(start, stop):
        system = System(
            every.poles[s],
            every.gaps[s],
            every.counts[s],
            every.weights[s],
            every.B[s],
            every.E[s],
            every.F[s],
            every.D[s],
            every.scale[s],
            every.C[s],
            every.C_reverse[s],
        )
        own = Anchors(poles[s, : numbers[s]], angles[s, : numbers[s]])
        gain, upper, used, point = peak_gain(system, own, halves, Aim(*aim))
        found[s, 0], found[s, 1], found[s, 2] = gain, upper, used
        for j in range(4):
            found[s, 3 + j] = point[j]
