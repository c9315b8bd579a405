"""Cells of the comparison: one trained network, one method, one ratio; each stored once, in a file of its own."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .files import write_atomically
from .methods import METHODS
from .train import CHECKPOINTS, HERE, Job

RESULTS = HERE / "results"
FULL = "full"  # the method of the cell of the network as it was trained


@dataclass(frozen=True, order=True)
class Cell:
    """Where a result belongs.

    Attributes
    ----------
    task, kind : str
    seed : int
        Of the training, and of the draw of unlabelled sequences.
    method : str
        A key of `METHODS`, or ``full``.
    ratio : float
        Share of the states to drop.
    """

    task: str
    kind: str
    seed: int
    method: str
    ratio: float

    @property
    def job(self) -> Job:
        """The network."""
        return Job(self.task, self.kind, self.seed)

    def path(self, folder: Path = RESULTS) -> Path:
        """File of the cell."""
        return folder / self.task / f"{self.kind}-{self.seed}" / f"{self.method}-{self.ratio:.2f}.json"


def planned(jobs: Iterable[Job], methods: Iterable[str], ratios: Iterable[float] | None = None) -> list[Cell]:
    """Every cell of the given networks, methods and ratios, those of one network beside each other."""
    methods, ratios = list(methods), None if ratios is None else list(ratios)
    cells = []
    for job in jobs:
        cells.append(Cell(job.task, job.kind, job.seed, FULL, 0.0))
        for name in methods:
            wanted = [r for r in METHODS[name].planned(job.kind) if ratios is None or r in ratios]
            cells += [Cell(job.task, job.kind, job.seed, name, ratio) for ratio in wanted]
    return cells


def trained_jobs(folder: Path = CHECKPOINTS) -> list[Job]:
    """The networks whose checkpoints are there."""
    found = (path for path in sorted(folder.glob("*/*.safetensors")))
    return [Job(path.parent.name, *_kind_and_seed(path.stem)) for path in found]


def _kind_and_seed(stem: str) -> tuple[str, int]:
    kind, _, seed = stem.rpartition("-")
    return kind, int(seed)


def store(cell: Cell, record: dict[str, Any], folder: Path = RESULTS) -> None:
    """Write the record of a cell in one step."""
    data = {"task": cell.task, "kind": cell.kind, "seed": cell.seed, "method": cell.method, "ratio": cell.ratio}
    write_atomically(cell.path(folder), json.dumps({**data, **record}, allow_nan=False) + "\n")


def read(cell: Cell, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The record of a cell, or None where it has not run."""
    path = cell.path(folder)
    return json.loads(path.read_text()) if path.exists() else None


def stored(folder: Path = RESULTS) -> Iterator[dict[str, Any]]:
    """All records that are there."""
    for path in sorted(folder.glob("*/*/*.json")):
        yield json.loads(path.read_text())


def packed(correct: np.ndarray) -> str:
    """Which sequences were right, as hexadecimal digits."""
    return np.packbits(correct).tobytes().hex()


def unpacked(text: str, count: int) -> np.ndarray:
    """Inverse of `packed`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))[:count].astype(bool)
