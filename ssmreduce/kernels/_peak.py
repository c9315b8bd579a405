"""Best-first search over the arcs of the unit circle that the phase exclusion of `_exclusion` leaves open."""

import math

import numba
import numpy as np

from ._circle import Point, angle_between, direction, proven_gain, turn
from ._exclusion import (
    _UNBOUNDED,
    _UNIT,
    _largest_singular_value,
    _place,
    _pop,
    _push,
    _respond,
    _target,
    _transfer,
    interval_bound,
)

_LEVELS = 4
_WIDEST = 0.3  # step (rad of phase) of the first parabola through a peak; the last one is a thousandth of it
_CROWDED = 3.5  # phase (rad) above which an interval is split at the angle of a pole inside it


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def _anchor_split(angles: np.ndarray, low: int, high: int, angle: float) -> int:
    """First of the pole angles low ... high - 1 that lies beyond an angle."""
    while low < high:
        middle = (low + high) >> 1
        if angles[middle] < angle:
            low = middle + 1
        else:
            high = middle
    return low


@numba.njit(cache=True, nogil=True)
def _store(k: int, point: Point, found: tuple, points: np.ndarray, values: np.ndarray) -> None:
    for j in range(4):
        points[k, j] = point[j]
    values[k, 0], values[k, 1], values[k, 2] = found[0], found[1], found[3]


@numba.njit(cache=True, nogil=True)
def _point(points: np.ndarray, k: int) -> Point:
    return points[k, 0], points[k, 1], points[k, 2], points[k, 3]


@numba.njit(cache=True, nogil=True)
def _bound(values: np.ndarray, a: int, b: int, slack: float, halves: int) -> float:
    width = halves * (values[b, 0] - values[a, 0]) + slack
    return interval_bound(values[a, 2], values[b, 2], width)


@numba.njit(cache=True, nogil=True)
def _set(intervals: np.ndarray, i: int, a: int, b: int, low: int, high: int) -> None:
    """Interval i lies between the samples a and b and holds the pole angles low ... high - 1."""
    intervals[i, 0], intervals[i, 1], intervals[i, 2], intervals[i, 3] = a, b, low, high


@numba.njit(cache=True, nogil=True)
def _choose(
    interval: np.ndarray, key: float, points: np.ndarray, values: np.ndarray, anchors: np.ndarray, halves: int
) -> tuple[Point, int, int]:
    """Where to split an interval, and the ranges of pole angles left and right of it."""
    a, b, low, high = interval
    width = halves * (values[b, 0] - values[a, 0])
    if high > low and width > _CROWDED:
        middle = (low + high) >> 1
        return direction(anchors[middle]), middle, middle + 1
    first, last = _point(points, a), _point(points, b)
    angle = angle_between(first, last)
    share = _target(values[a, 2], values[b, 2], width, key)
    width /= halves
    onward = _place(share, angle, width, values[a, 1], values[b, 1])
    back = _place(1.0 - share, angle, width, values[b, 1], values[a, 1])
    # from the nearer end, whose distance to a narrow resonance keeps its digits
    return (turn(first, onward) if onward < back else turn(last, -back)), -1, -1


@numba.njit(cache=True, nogil=True)
def _insert(
    k: int,
    point: Point,
    found: tuple,
    angles: np.ndarray,
    points: np.ndarray,
    values: np.ndarray,
    intervals: np.ndarray,
    keys: np.ndarray,
    count: int,
    slack: float,
    halves: int,
) -> bool:
    """Split whichever interval holds a polished peak there."""
    for i in range(count):
        a, b, low, high = intervals[i]
        if values[a, 0] < found[0] < values[b, 0]:
            _store(k, point, found, points, values)
            middle = _anchor_split(angles, low, high, math.atan2(point[1], point[0]))
            _set(intervals, i, a, k, low, middle)
            _set(intervals, count, k, b, middle, high)
            keys[i] = _bound(values, a, k, slack, halves)
            keys[count] = _bound(values, k, b, slack, halves)
            return True
    return False


@numba.njit(cache=True, nogil=True)
def peak_gain(
    system: tuple, outputs: tuple, anchors: np.ndarray, angles: np.ndarray, halves: int, rtol: float, budget: int
) -> tuple[float, float, float, int]:
    """Proven lower bound of the peak gain, where it is reached (rad), proven upper bound, and samples taken.

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
    """
    n, m = system[4].shape
    p = system[7].shape[0]
    small = min(p, m)
    work = (
        np.empty((2 * n, m)),
        np.empty((2 * n, m)),
        np.empty((p, m)),
        np.empty((p, m)),
        np.empty((p, m), dtype=np.complex128),
        np.empty((p, m), dtype=np.complex128),
        np.empty((small, small), dtype=np.complex128),
        np.full(small, 1.0 / math.sqrt(max(1, small)) + 0.0j),
    )
    distinct = np.sum(system[2])
    slack = halves * 2.0 * 48.0 * (distinct + 1) * _UNIT
    size = budget + 128  # pages that are not touched cost nothing
    points, values = np.empty((size, 4)), np.empty((size, 3))
    intervals, keys, heap = np.empty((size, 4), dtype=np.int64), np.empty(size), np.empty(size, dtype=np.int64)

    best, best_slope, gain, highest, stuck = (1.0, 0.0, 0.0, 0.0), 1.0, -1.0, 0.0, 0.0
    for k in range(2):
        point = (1.0 - 2.0 * k, 0.0, 0.0, 0.0)  # z = 1 and z = -1
        found = _sample(point, system, work, 0.0)
        _store(k, point, found, points, values)
        highest = max(highest, found[3])
        if found[2] > gain:
            best, best_slope, gain = point, found[1], found[2]
    _set(intervals, 0, 0, 1, 0, anchors.shape[0])
    keys[0] = _bound(values, 0, 1, slack, halves)
    samples, count, used = 2, 1, 2
    open_count = _push(heap, keys, 0, 0)
    fresh = distinct > 0
    levels = _LEVELS if rtol < 1e-7 else _LEVELS // 2  # a peak that is not the last one need not be known exactly

    while open_count > 0 and used < budget:
        top = heap[0]
        if fresh and keys[top] < _UNBOUNDED:
            fresh = False
            exactly = 0.0 if levels == _LEVELS else -1.0
            point, spent = _polish(best, _WIDEST / best_slope, levels, exactly, system, work)
            found = _sample(point, system, work, 0.0)
            used += spent + 1
            if found[2] < gain:  # rounding
                continue
            best, best_slope, gain = point, found[1], found[2]
            highest = max(highest, found[3])
            if _insert(samples, point, found, angles, points, values, intervals, keys, count, slack, halves):
                samples += 1
                count += 1
                open_count = 0
                for i in range(count):
                    open_count = _push(heap, keys, open_count, i)
            continue
        if keys[top] <= max(gain * (1.0 + rtol), highest * (1.0 + 0.25 * rtol)):
            break
        a, b, low, high = intervals[top]
        point, middle, after = _choose(intervals[top], keys[top], points, values, anchors, halves)
        found = _sample(point, system, work, gain)
        used += 1
        open_count = _pop(heap, keys, open_count)
        if not values[a, 0] < found[0] < values[b, 0]:
            if middle >= 0:  # a pole angle at an end of the interval: forget it
                left_of_it = found[0] <= values[a, 0]
                _set(intervals, top, a, b, after if left_of_it else low, high if left_of_it else middle)
                open_count = _push(heap, keys, open_count, top)
            else:  # an interval that double precision cannot split: its bound stands
                stuck = max(stuck, keys[top])
            continue
        if middle < 0:
            middle = after = _anchor_split(angles, low, high, math.atan2(point[1], point[0]))
        _store(samples, point, found, points, values)
        if found[2] >= 0.0:
            highest = max(highest, found[3])
        if found[2] > gain * (1.0 + 1e-14):
            best, best_slope, gain, fresh = point, found[1], found[2], True
        _set(intervals, top, a, samples, low, middle)
        _set(intervals, count, samples, b, after, high)
        keys[top] = _bound(values, a, samples, slack, halves)
        keys[count] = _bound(values, samples, b, slack, halves)
        open_count = _push(heap, keys, open_count, top)
        open_count = _push(heap, keys, open_count, count)
        samples += 1
        count += 1

    if distinct > 0 and (fresh or levels < _LEVELS):
        step = _WIDEST if fresh else _WIDEST * 0.1**levels
        best, spent = _polish(best, step / best_slope, _LEVELS if fresh else _LEVELS - levels, 0.0, system, work)
        used += spent
    upper = max(highest, stuck)
    if open_count > 0:
        upper = max(upper, keys[heap[0]])
    _sample(best, system, work, 0.0)
    if p == 1 and m == 1:
        u, v = np.ones(1, dtype=np.complex128), np.ones(1, dtype=np.complex128)
    else:
        left, _, right = np.linalg.svd(work[4])
        u, v = left[:, 0].copy(), np.conj(right[0])
    proven = proven_gain(best, system[0], system[4], outputs[0], outputs[1], system[7], u, v)
    return proven, math.atan2(best[1], best[0]), max(upper, proven), used


@numba.njit(cache=True, nogil=True)
def peak_gains(
    arrays: tuple,
    anchors: np.ndarray,
    angles: np.ndarray,
    numbers: np.ndarray,
    halves: int,
    rtol: float,
    budget: int,
    start: int,
    stop: int,
    found: np.ndarray,
) -> None:
    """`peak_gain` of the systems start ... stop - 1 of a batch; rows of `found` are gain, omega, upper, samples."""
    poles, gaps, counts, weights, B, E, F, D, scale, C, C_reverse = arrays
    for s in range(start, stop):
        system = (poles[s], gaps[s], counts[s], weights[s], B[s], E[s], F[s], D[s], scale[s])
        k = numbers[s]
        gain, omega, upper, used = peak_gain(
            system, (C[s], C_reverse[s]), anchors[s, :k], angles[s, :k], halves, rtol, budget
        )
        found[s, 0], found[s, 1], found[s, 2], found[s, 3] = gain, omega, upper, used
