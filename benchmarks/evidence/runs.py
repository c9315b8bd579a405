"""Runs the cells: reduce without labels, then score on the test part; in parallel by joblib, on one machine or many."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed

import ssmreduce as sr
from ssmreduce.systems import error_system

from .cells import FULL, RESULTS, Cell, packed, read, store
from .methods import METHODS, Source
from .models import load_network
from .tasks import Split, load

CALIBRATION, APART, TEST = 300, 200, 1_000  # sequences, at most
FEW = 40  # sequences apart on which the errors of the layers are taken


@dataclass(frozen=True, eq=False)
class Bench:
    """A trained network, the sequences that it is reduced with, and what all its cells compare with.

    Attributes
    ----------
    source : Source
    apart : ndarray
        Unlabelled training sequences that the methods do not see.
    """

    source: Source
    apart: np.ndarray

    @cached_property
    def logits(self) -> np.ndarray:
        """Logits of the full network on the sequences apart."""
        return self.source.trained.logits(self.source.model, self.apart)

    @cached_property
    def layers(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Inputs and outputs of the full network's layers on some of the sequences apart."""
        model = self.source.model
        inputs = self.source.trained.layer_inputs(model, self.apart[:FEW])
        return {name: (u, sr.simulate(model[name], u)) for name, u in inputs.items()}

    @cached_property
    def norms(self) -> dict[str, tuple[float, float]]:
        """Peak gain and H2 norm of the full network's layers."""
        return {name: _norms(ssm) for name, ssm in self.source.model.items()}


def run(cells: list[Cell], *, folder: Path = RESULTS, retry: bool = False, say: Callable[[str], None] = print) -> int:
    """Run the cells that have no record yet and store each as it comes; return how many failed.

    Parameters
    ----------
    cells : list of Cell
    folder : Path
    retry : bool
        Also run the cells whose record is a failure.
    say : callable
        Takes lines of progress.

    Notes
    -----
    Wrap the call in ``joblib.parallel_config`` to choose the number of processes or a cluster: workers need the
    repository, its environment and the task's data; records travel back and are written here.
    """
    waiting = [cell for cell in cells if _open(read(cell, folder), retry)]
    begun, failed = time.perf_counter(), 0
    results = Parallel(return_as="generator_unordered")(delayed(_attempt)(cell) for cell in waiting)
    for number, (cell, record) in enumerate(results, start=1):
        store(cell, record, folder)
        failed += record["status"] != "ok"
        left = (time.perf_counter() - begun) / number * (len(waiting) - number)
        outcome = f"{record['accuracy']:.2f} %" if record["status"] == "ok" else record["error"]
        say(
            f"[{number}/{len(waiting)}, {left / 60:.0f} min left] {cell.task} {cell.kind}-{cell.seed} "
            f"{cell.method} {cell.ratio:.0%}: {outcome}"
        )
    return failed


def _open(record: dict | None, retry: bool) -> bool:
    return record is None or (retry and record["status"] != "ok")


def _attempt(cell: Cell) -> tuple[Cell, dict[str, Any]]:
    """The record of a cell; an exception of a method becomes one."""
    import torch

    torch.set_num_threads(1)
    bench = bench_of(cell.task, cell.kind, cell.seed)
    try:
        return cell, evaluated(cell, bench, load(cell.task).test.first(TEST))
    except Exception as error:  # whatever a method raises is its result
        return cell, {"status": "failed", "error": f"{type(error).__name__}: {error}"}


@lru_cache(maxsize=2)
def bench_of(task: str, kind: str, seed: int) -> Bench:
    """The network of a shipped checkpoint with its unlabelled sequences, which the seed draws."""
    trained = load_network(Cell(task, kind, seed, FULL, 0.0).job.path)
    pool = load(task).unlabelled(CALIBRATION + APART, seed)
    cut = min(CALIBRATION, len(pool) - APART)
    return Bench(Source(trained, pool[:cut], seed), pool[cut:])


def evaluated(cell: Cell, bench: Bench, test: Split) -> dict[str, Any]:
    """Reduce and score.

    Parameters
    ----------
    cell : Cell
    bench : Bench
        All that the reduction sees.
    test : Split
        Only scores what has been reduced.
    """
    source = bench.source
    if cell.method == FULL:
        model, seconds = source.model, 0.0
    else:
        model, seconds = source.timed(lambda source: METHODS[cell.method].reduce(source, cell.ratio))
    correct = source.trained.correct(model, test.x, test.y)
    return {
        "status": "ok",
        "accuracy": 100.0 * float(correct.mean()),
        "correct": packed(correct),
        "count": len(test),
        "states": sum(model.orders.values()),
        "orders": list(model.orders.values()),
        "seconds": round(seconds, 3),
        "systems": fingerprint(model),
        **_errors_apart(bench, model),
        **_errors_of_systems(bench, model),
    }


def fingerprint(model: sr.SSMModel) -> str:
    """Checksum of the systems of a model, bit for bit."""
    digest = hashlib.sha256()
    for ssm in model.values():
        for array in (ssm.Lambda, ssm.B, ssm.C, ssm.C_reverse, ssm.D):
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _errors_apart(bench: Bench, model: sr.SSMModel) -> dict[str, float | None]:
    """How the network's logits change on sequences apart: agreement in percent, relative squared error.

    And the relative squared error of the layers' outputs on the inputs of the full network: their mean.
    """
    full, now = bench.logits, bench.source.trained.logits(model, bench.apart)
    centred = full - full.mean(axis=1, keepdims=True)
    error = now - now.mean(axis=1, keepdims=True) - centred
    layers = [np.sum((sr.simulate(model[name], u) - y) ** 2) / np.sum(y**2) for name, (u, y) in bench.layers.items()]
    return {
        "agreement": 100.0 * float((now.argmax(axis=1) == full.argmax(axis=1)).mean()),
        "logit_error": _finite(np.sum(error**2) / np.sum(centred**2)),
        "layer_error": _finite(np.mean(layers)),
    }


def _errors_of_systems(bench: Bench, model: sr.SSMModel) -> dict[str, float | None]:
    """Peak gain and H2 norm of the layers' error systems, relative to the layers' own: means over layers.

    None where a reduced layer is unstable.
    """
    errors = []
    for name, ssm in bench.source.model.items():
        try:
            errors.append(np.divide(_norms(error_system(ssm, model[name])), bench.norms[name]))
        except sr.errors.UnstableSystemError:
            errors.append(np.array([np.inf, np.inf]))
    hinf, h2 = np.mean(errors, axis=0)
    return {"hinf_error": _finite(hinf), "h2_error": _finite(h2)}


def _norms(ssm: sr.DiagonalSSM) -> tuple[float, float]:
    """Peak gain and H2 norm of a layer, all systems of a batch together."""
    peak = np.max(np.asarray(sr.peak_gain(ssm, rtol=1e-2).gain))
    return float(peak), float(np.sqrt(np.sum(sr.h2_norm(ssm) ** 2)))


def _finite(value: float) -> float | None:
    """JSON has no infinity: None."""
    return float(value) if np.isfinite(value) else None
