"""What every task returns: labelled sequences in three fixed parts."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled sequences.

    Attributes
    ----------
    x : ndarray, shape (count, L, channels) float32, or (count, L) int64
        Real channels, or tokens.
    y : ndarray, shape (count,), int64
    """

    x: np.ndarray
    y: np.ndarray

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"{len(self.x)} sequences have {len(self.y)} labels")

    def __len__(self) -> int:
        return len(self.y)

    def first(self, count: int) -> "Split":
        """The first sequences."""
        return Split(self.x[:count], self.y[:count])


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a task: what trains, what settings are chosen on, and what is only ever scored.

    Attributes
    ----------
    classes : int
    tokens : int
        Size of the vocabulary; 0 for real channels.
    """

    train: Split
    val: Split
    test: Split
    classes: int
    tokens: int = 0

    @property
    def length(self) -> int:
        """Steps of a sequence."""
        return self.train.x.shape[1]

    @property
    def channels(self) -> int:
        """Channels of a sequence; 1 for tokens."""
        return 1 if self.tokens else self.train.x.shape[2]

    def unlabelled(self, count: int, seed: int) -> np.ndarray:
        """Training sequences without labels, for calibration: a draw that depends on the seed only."""
        return self.train.x[np.random.default_rng(seed).permutation(len(self.train))[:count]]


def divided(
    x: np.ndarray, y: np.ndarray, sizes: tuple[int, int, int], *, seed: int, unique: bool = True
) -> tuple[Split, Split, Split]:
    """Training, validation and test part of one pool, shuffled, of the given sizes.

    With `unique`, later copies of a sequence are dropped, so that equal sequences never stand in two parts.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    if unique:
        first: dict[bytes, int] = {}
        for i in order:
            first.setdefault(x[i].tobytes(), i)
        order = np.array(list(first.values()))
    if sum(sizes) > len(order):
        raise ValueError(f"{len(order)} sequences cannot be divided into {sizes}")
    test, val, train = np.split(order[: sum(sizes)], [sizes[2], sizes[2] + sizes[1]])

    def taken(part: np.ndarray) -> Split:
        return Split(np.ascontiguousarray(x[part]), y[part].astype(np.int64))

    return taken(train), taken(val), taken(test)
