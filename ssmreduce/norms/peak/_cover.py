"""The partition of the half circle that a search refines: samples, intervals, their bounds, and a heap of open ones."""

import numpy as np

from ..._support.compiled import compiled
from ._bounds import _place, _target, interval_bound
from ._circle import Point, angle_between, direction, turn

_CROWDED = 3.5  # phase (rad) above which an interval is split at the angle of a pole inside it
# counters of a search: samples kept, intervals, those of them that are open, samples taken
_STORED, _INTERVALS, _OPEN, _USED = 0, 1, 2, 3


@compiled
def _tree(size: int) -> tuple:
    """Points and values of the samples, the intervals between them, their bounds, and a heap of those left open."""
    return (  # pages that are not touched cost nothing
        np.empty((size, 4)),
        np.empty((size, 3)),
        np.empty((size, 4), dtype=np.int64),
        np.empty(size),
        np.empty(size, dtype=np.int64),
    )


@compiled
def _point(points: np.ndarray, k: int) -> Point:
    return points[k, 0], points[k, 1], points[k, 2], points[k, 3]


@compiled
def _store(k: int, point: Point, found: tuple, points: np.ndarray, values: np.ndarray) -> None:
    for j in range(4):
        points[k, j] = point[j]
    values[k, 0], values[k, 1], values[k, 2] = found[0], found[1], found[3]


@compiled
def _set(intervals: np.ndarray, i: int, a: int, b: int, low: int, high: int) -> None:
    """Interval i lies between the samples a and b and holds the pole angles low ... high - 1."""
    intervals[i, 0], intervals[i, 1], intervals[i, 2], intervals[i, 3] = a, b, low, high


@compiled
def _bound(values: np.ndarray, a: int, b: int, slack: float, halves: int) -> float:
    width = halves * (values[b, 0] - values[a, 0]) + slack
    return interval_bound(values[a, 2], values[b, 2], width)


@compiled
def _anchor_split(angles: np.ndarray, low: int, high: int, angle: float) -> int:
    """First of the pole angles low ... high - 1 that lies beyond an angle."""
    while low < high:
        middle = (low + high) >> 1
        if angles[middle] < angle:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _choose(interval: np.ndarray, key: float, tree: tuple, anchors: np.ndarray, halves: int) -> tuple[Point, int, int]:
    """Where to split an interval, and the ranges of pole angles left and right of it."""
    points, values = tree[0], tree[1]
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


@compiled
def _part(i: int, low: int, split: int, after: int, high: int, tree: tuple, sizes: np.ndarray, law: tuple) -> None:
    """Split interval i, of the pole angles low ... high - 1, at the sample stored last."""
    values, intervals, keys = tree[1], tree[2], tree[3]
    slack, halves = law
    k, j = sizes[_STORED], sizes[_INTERVALS]
    a, b = intervals[i, 0], intervals[i, 1]
    _set(intervals, i, a, k, low, split)
    _set(intervals, j, k, b, after, high)
    keys[i] = _bound(values, a, k, slack, halves)
    keys[j] = _bound(values, k, b, slack, halves)
    sizes[_STORED] += 1
    sizes[_INTERVALS] += 1
