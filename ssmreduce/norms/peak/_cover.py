"""The partition of the half circle that a search refines: samples, intervals, their bounds, and a heap of open ones."""

import numpy as np

from ..._support.compiled import compiled, inlined
from ._bounds import interval_bound, place, target
from ._circle import Point, angle_between, direction, turn
from ._types import Law, Sample, Tree

_CROWDED = 3.5  # phase (rad) above which an interval is split at the angle of a pole inside it
# counters of a search: samples kept, intervals, those of them that are open, samples taken
STORED, INTERVALS, OPEN, USED = 0, 1, 2, 3


@inlined
def new_tree(size: int) -> Tree:
    """Space for so many samples: pages that are not touched cost nothing."""
    return Tree(
        np.empty((size, 4)),
        np.empty((size, 3)),
        np.empty((size, 4), dtype=np.int64),
        np.empty(size),
        np.empty(size, dtype=np.int64),
    )


@inlined
def _point(points: np.ndarray, k: int) -> Point:
    return points[k, 0], points[k, 1], points[k, 2], points[k, 3]


@inlined
def store(k: int, point: Point, found: Sample, tree: Tree) -> None:
    """Keep sample k."""
    for j in range(4):
        tree.points[k, j] = point[j]
    tree.values[k, 0], tree.values[k, 1], tree.values[k, 2] = found.phase, found.slope, found.upper


@inlined
def set_interval(intervals: np.ndarray, i: int, a: int, b: int, low: int, high: int) -> None:
    """Interval i lies between the samples a and b and holds the pole angles low ... high - 1."""
    intervals[i, 0], intervals[i, 1], intervals[i, 2], intervals[i, 3] = a, b, low, high


@inlined
def bound(values: np.ndarray, a: int, b: int, law: Law) -> float:
    """Bound of an interval between two samples."""
    width = law.halves * (values[b, 0] - values[a, 0]) + law.slack
    return interval_bound(values[a, 2], values[b, 2], width)


@compiled
def anchor_split(angles: np.ndarray, low: int, high: int, angle: float) -> int:
    """First of the pole angles low ... high - 1 that lies beyond an angle."""
    while low < high:
        middle = (low + high) >> 1
        if angles[middle] < angle:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def choose(top: int, tree: Tree, anchors: np.ndarray, halves: int) -> tuple[Point, int, int]:
    """Where to split an interval, and the ranges of pole angles left and right of it."""
    points, values = tree.points, tree.values
    a, b, low, high = tree.intervals[top]
    width = halves * (values[b, 0] - values[a, 0])
    if high > low and width > _CROWDED:
        middle = (low + high) >> 1
        return direction(anchors[middle]), middle, middle + 1
    first, last = _point(points, a), _point(points, b)
    angle = angle_between(first, last)
    share = target(values[a, 2], values[b, 2], width, tree.keys[top])
    width /= halves
    onward = place(share, angle, width, values[a, 1], values[b, 1])
    back = place(1.0 - share, angle, width, values[b, 1], values[a, 1])
    # from the nearer end, whose distance to a narrow resonance keeps its digits
    return (turn(first, onward) if onward < back else turn(last, -back)), -1, -1


@compiled
def part(i: int, split: int, after: int, tree: Tree, sizes: np.ndarray, law: Law) -> None:
    """Split interval i at the sample stored last; its parts get the pole angles before `split` and from `after` on."""
    a, b, low, high = tree.intervals[i]
    k, j = sizes[STORED], sizes[INTERVALS]
    set_interval(tree.intervals, i, a, k, low, split)
    set_interval(tree.intervals, j, k, b, after, high)
    tree.keys[i] = bound(tree.values, a, k, law)
    tree.keys[j] = bound(tree.values, k, b, law)
    sizes[STORED] += 1
    sizes[INTERVALS] += 1


@compiled
def push(heap: np.ndarray, keys: np.ndarray, size: int, item: int) -> int:
    k = size
    while k > 0:
        parent = (k - 1) >> 1
        if keys[heap[parent]] >= keys[item]:
            break
        heap[k] = heap[parent]
        k = parent
    heap[k] = item
    return size + 1


@compiled
def pop(heap: np.ndarray, keys: np.ndarray, size: int) -> int:
    """Remove the top (the caller has read it)."""
    size -= 1
    item = heap[size]
    k = 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and keys[heap[child + 1]] > keys[heap[child]]:
            child += 1
        if keys[heap[child]] <= keys[item]:
            break
        heap[k] = heap[child]
        k = child
    heap[k] = item
    return size
