"""Statistics of stored cells. Nothing is averaged over cells that are missing or failed: `Incomplete` says which."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from .cells import FULL, Cell, unpacked
from .methods import METHODS

Key = tuple[str, str, int, str, float]
SEEDS = 3  # that a group needs to take part in averages over groups


class Incomplete(ValueError):
    """Cells that an average needs are missing or failed."""


@dataclass(frozen=True)
class Group:
    """The networks of one kind on one task, one per seed."""

    task: str
    kind: str
    seeds: tuple[int, ...]


class Cells:
    """The stored records, by place.

    Parameters
    ----------
    records : iterable of dict
        As `cells.stored` yields them.
    ratios : tuple of float, optional
        The plan was these ratios only; by default every method at all of its own.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]], ratios: tuple[float, ...] | None = None):
        self.ratios = ratios
        self.records: dict[Key, Mapping[str, Any]] = {}
        for record in records:
            self.records[record["task"], record["kind"], record["seed"], record["method"], record["ratio"]] = record

    @property
    def groups(self) -> list[Group]:
        """The groups of networks that have a record, in a fixed order."""
        seeds: dict[tuple[str, str], set[int]] = {}
        for task, kind, seed, *_ in self.records:
            seeds.setdefault((task, kind), set()).add(seed)
        return [Group(task, kind, tuple(sorted(found))) for (task, kind), found in sorted(seeds.items())]

    @property
    def averaged(self) -> list[Group]:
        """The groups with seeds enough to be averaged."""
        return [group for group in self.groups if len(group.seeds) >= SEEDS]

    def record(self, cell: Cell) -> Mapping[str, Any]:
        """The record of a cell that ran.

        Raises
        ------
        Incomplete
            It is missing, or failed.
        """
        record = self.records.get((cell.task, cell.kind, cell.seed, cell.method, cell.ratio))
        if record is None:
            raise Incomplete(f"{cell} has not run")
        if record["status"] != "ok":
            raise Incomplete(f"{cell} failed: {record['error']}")
        return record

    def of(self, group: Group, method: str, ratio: float) -> list[Mapping[str, Any]]:
        """The records of one method at one ratio, one per seed."""
        return [self.record(Cell(group.task, group.kind, seed, method, ratio)) for seed in group.seeds]

    def has(self, group: Group, method: str, ratio: float) -> bool:
        """Whether they are all there."""
        try:
            self.of(group, method, ratio)
        except Incomplete:
            return False
        return True

    def accuracies(self, group: Group, method: str, ratio: float) -> np.ndarray:
        """Test accuracies in percent, one per seed."""
        return np.array([record["accuracy"] for record in self.of(group, method, ratio)])

    def losses(self, group: Group, method: str, ratio: float) -> np.ndarray:
        """Points of accuracy lost against the full network, one per seed."""
        return self.accuracies(group, FULL, 0.0) - self.accuracies(group, method, ratio)

    def correct(self, group: Group, method: str, ratio: float) -> np.ndarray:
        """Which test sequences were right: bool, shape (seeds, count)."""
        return np.stack([unpacked(r["correct"], r["count"]) for r in self.of(group, method, ratio)])

    def planned(self, kind: str, method: str) -> tuple[float, ...]:
        """The ratios at which a method was to run on a kind of network."""
        return tuple(ratio for ratio in METHODS[method].planned(kind) if self.ratios is None or ratio in self.ratios)

    def complete(self, group: Group, method: str) -> bool:
        """Whether a method ran at all planned ratios on all networks of a group."""
        served = METHODS[method].serves(group.kind)
        return served and all(self.has(group, method, ratio) for ratio in self.planned(group.kind, method))

    def uses_its_states(self, group: Group, points: float = 5.0) -> bool:
        """Whether dropping a random half of the states costs enough: else a task tells methods apart by chance."""
        return self.has(group, "random", 0.5) and float(self.losses(group, "random", 0.5).mean()) >= points


def largest_ratio(cells: Cells, group: Group, method: str, points: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Per seed, the largest ratio up to which every loss is at most `points`, and the loss there.

    As in the papers it is found on the test part, for each network by itself: what a method could have given, not what
    a user could have known.
    """
    ratios = cells.planned(group.kind, method)
    losses = np.stack([cells.losses(group, method, ratio) for ratio in ratios])
    count = np.cumprod(losses <= points + 1e-9, axis=0).sum(axis=0)
    padded = np.vstack([np.zeros(losses.shape[1]), losses])
    return np.array([0.0, *ratios])[count], padded[count, np.arange(losses.shape[1])]


def paired_difference(
    cells: Cells, groups: Iterable[Group], first: str, second: str, ratio: float, *, draws: int = 2_000
) -> tuple[float, float, float]:
    """Mean difference of accuracies over groups, in points, with a 95 % bootstrap interval.

    Drawn anew, with replacement: in each group the seeds and the test sequences, for both methods together.
    """
    rng = np.random.default_rng(0)
    means, samples = [], []
    for group in groups:
        difference = cells.correct(group, first, ratio).astype(float) - cells.correct(group, second, ratio)
        seeds, count = difference.shape
        sequences = rng.multinomial(count, np.full(count, 1 / count), size=draws) / count
        networks = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws) / seeds
        samples.append(np.einsum("ds,sc,dc->d", networks, difference, sequences, optimize=True))
        means.append(difference.mean())
    if not means:
        raise Incomplete(f"no group has both {first} and {second} at {ratio:.0%}")
    low, high = np.quantile(np.mean(samples, axis=0), [0.025, 0.975])
    return 100 * float(np.mean(means)), 100 * float(low), 100 * float(high)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's coefficient; nan where one side is constant."""
    ranks = np.stack([rankdata(a), rankdata(b)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(ranks[0] @ ranks[1] / scale) if scale > 0 else float("nan")


def error_correlations(cells: Cells, quantity: str, methods: Collection[str], ratio: float | None = None) -> np.ndarray:
    """Per network, the rank correlation of an error of the record with the accuracy lost, over methods and ratios.

    Parameters
    ----------
    cells : Cells
    quantity : {"hinf_error", "h2_error", "layer_error", "logit_error", "agreement"}
    methods : collection of str
        Over these.
    ratio : float, optional
        At this ratio only.

    Returns
    -------
    ndarray
        One value per network with at least 5 cells that have the quantity (unstable layers have no norm).
    """
    values = []
    for group in cells.averaged:
        for seed in group.seeds:
            rows = [
                record
                for (task, kind, s, method, r), record in sorted(cells.records.items())
                if (task, kind, s) == (group.task, group.kind, seed)
                and method in methods
                and record["status"] == "ok"
                and record[quantity] is not None
                and ratio in (None, r)
            ]
            if len(rows) >= 5:
                sign = -1.0 if quantity == "agreement" else 1.0
                error = np.array([sign * row[quantity] for row in rows])
                values.append(rank_correlation(error, -np.array([row["accuracy"] for row in rows])))
    return np.array(values)
