"""Pathfinder: are the two dots at the ends of one dashed path? A generator without the shortcut of their distance.

A picture holds two dashed, gently bending paths of equal length and short dashed distractors; two dots mark path ends.
Positive: both ends of one path. Negative: one end of each. The distance of the dots alone would tell the classes apart
well above chance, so every bin of distances holds as many positive as negative pictures.
"""

import numpy as np

from ._splits import Splits, divided

DASH, GAP = 2.0, 1.0  # pixels
GREY = 0.5  # of the dashes; dots are 1


def pathfinder(side: int = 16, sizes: tuple[int, int, int] = (15_500, 500, 1_000)) -> Splits:
    """Pictures of side x side pixels, read row by row."""
    rng = np.random.default_rng(side)
    curves = Curves(rng, side)
    half = -(-sum(sizes) // 2)
    waiting: dict[int, tuple[list, list]] = {}
    x, y = [], []
    while len(y) < 2 * half:
        paths = layout(curves)
        label = int(rng.random() < 0.5)
        dots = ends(paths, label, rng)
        queue = waiting.setdefault(distance_bin(dots), ([], []))
        queue[label].append(draw(paths, dots, side))
        if queue[0] and queue[1]:  # a pair of equal distance, one of each class
            x += [queue[0].pop(), queue[1].pop()]
            y += [0, 1]
    sequences = np.array(x, dtype=np.float32).reshape(len(x), side * side, 1)
    return Splits(*divided(sequences, np.array(y), sizes, seed=0), classes=2)


def distance_bin(dots: np.ndarray) -> int:
    """Distance of two dots in half pixels."""
    return int(2 * np.linalg.norm(dots[0] - dots[1]))


def ends(paths: list[np.ndarray], label: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of the two dots, shape (2, 2)."""
    first, second = paths[0], paths[1]
    if rng.random() < 0.5:
        first, second = second, first
    if label:
        return np.stack([first[0], first[-1]])
    return np.stack([first[rng.choice([0, -1])], second[rng.choice([0, -1])]])


class Curves:
    """An endless supply of random curves inside the picture, drawn many at a time: points half a pixel apart."""

    def __init__(self, rng: np.random.Generator, side: int):
        self.rng, self.side = rng, side
        self.waiting: dict[int, list[np.ndarray]] = {}

    def take(self, steps: int) -> np.ndarray:
        """The next curve of so many points, shape (steps, 2)."""
        waiting = self.waiting.setdefault(steps, [])
        while not waiting:
            waiting += self._drawn(steps, 2_000)
        return waiting.pop()

    def _drawn(self, steps: int, count: int) -> list[np.ndarray]:
        rng, side = self.rng, self.side
        drift = np.cumsum(rng.normal(0.0, 0.02, (count, steps)), axis=1)
        bend = np.clip(drift + rng.normal(0.0, 0.06, (count, 1)), -0.12, 0.12)
        heading = rng.uniform(0, 2 * np.pi, (count, 1)) + np.cumsum(bend, axis=1)
        moves = 0.5 * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
        points = rng.uniform(0.5, side - 1.5, size=(count, 1, 2)) + np.cumsum(moves, axis=1)
        inside = ((points > 0.0) & (points < side - 1.0)).all(axis=(1, 2))
        return list(points[inside])


def layout(curves: Curves) -> list[np.ndarray]:
    """Two long paths, then up to four distractors, none closer than 2 pixels to another."""
    side = curves.side
    long = int(1.8 * side)
    while True:
        paths = [curves.take(long)]
        for _ in range(40):
            steps = long if len(paths) < 2 else int(side * curves.rng.choice([0.3, 0.45, 0.6]))
            candidate = curves.take(steps)
            if all(_gap(candidate, other) >= 2.0 for other in paths):
                paths.append(candidate)
            if len(paths) == 6:
                break
        if len(paths) >= 4:
            return paths


def _gap(a: np.ndarray, b: np.ndarray) -> float:
    difference = a[:, None] - b[None]
    return float(np.sqrt(np.einsum("ijk,ijk->ij", difference, difference).min()))


def draw(paths: list[np.ndarray], dots: np.ndarray, side: int) -> np.ndarray:
    """Grey values, shape (side, side): dashes 0.5, dots 1."""
    picture = np.zeros((side, side), dtype=np.float32)
    for path in paths:
        along = 0.5 * np.arange(len(path))
        shown = np.rint(path[along % (DASH + GAP) < DASH]).astype(int)
        picture[shown[:, 0], shown[:, 1]] = GREY
    spots = np.rint(dots).astype(int)
    picture[spots[:, 0], spots[:, 1]] = 1.0
    return picture
