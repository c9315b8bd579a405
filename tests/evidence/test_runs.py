"""Cells: stored once, failures kept, no label in any choice, the shipped ones recomputed."""

import os
import signal

import joblib
import numpy as np
import pytest

from benchmarks.evidence import cells, methods, runs, tasks, train
from benchmarks.evidence.cells import Cell
from benchmarks.evidence.tasks import Split

QUICK = [name for name in methods.METHODS if name not in ("compress", "h2")]


def quiet(line):
    pass


def ran(cells_, folder, **options):
    with joblib.parallel_config(n_jobs=1):
        return runs.run(cells_, folder=folder, say=quiet, **options)


@pytest.fixture
def plan(trained):
    return cells.planned([trained()], ["last", "balanced"], [0.5, 0.9])


def test_plan_holds_the_full_network_and_the_methods_that_serve_it():
    jobs = [train.Job("small", kind, 0) for kind in ("s5", "s4d")]
    plan = cells.planned(jobs, ["last", "greedy"], [0.5])
    assert [(cell.kind, cell.method) for cell in plan] == [
        ("s5", "full"),
        ("s5", "last"),
        ("s5", "greedy"),
        ("s4d", "full"),
        ("s4d", "last"),
    ]


def test_cells_run_once(plan, tmp_path):
    folder = tmp_path / "results"
    assert ran(plan, folder) == 0
    assert len(list(cells.stored(folder))) == len(plan) == 5
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    plan[1].path(folder).unlink()
    ran(plan, folder)
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json")}
    assert [path for path in before if before[path] != after[path]] == [plan[1].path(folder)]


def test_record_holds_which_sequences_were_right(plan, tmp_path, small):
    ran(plan, tmp_path / "results")
    record = cells.read(plan[1], tmp_path / "results")
    correct = cells.unpacked(record["correct"], record["count"])
    assert record["accuracy"] == pytest.approx(100 * correct.mean())
    assert record["states"] == sum(record["orders"]) == 64
    assert record["hinf_error"] > 0
    assert 0 <= record["agreement"] <= 100


def test_failure_is_kept_and_run_again_only_when_asked(plan, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    broken = methods.Method("broken", lambda source, ratio: 1 / 0)
    honest = methods.METHODS["last"]
    monkeypatch.setitem(methods.METHODS, "last", broken)
    assert ran(plan, folder) == 2
    record = cells.read(plan[1], folder)
    assert record["status"] == "failed"
    assert "division by zero" in record["error"]
    assert "accuracy" not in record
    monkeypatch.setitem(methods.METHODS, "last", honest)
    ran(plan, folder)
    assert cells.read(plan[1], folder)["status"] == "failed"
    assert ran(plan, folder, retry=True) == 0
    assert cells.read(plan[1], folder)["status"] == "ok"


@pytest.mark.parametrize(
    "kind", ["s5", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("s5-bi", "s4d", "lru"))]
)
def test_no_method_sees_the_test_part(trained, small, kind):
    """Poisoned test labels change the accuracy and nothing else."""
    job = trained(kind)
    poisoned = Split(small.test.x, 1 - small.test.y)
    for name in QUICK:
        if not methods.METHODS[name].serves(kind):
            continue
        cell = Cell("small", kind, 0, name, 0.8)
        honest, wrong = (
            runs.evaluated(cell, runs.bench_of.__wrapped__(job.task, kind, 0), test) for test in (small.test, poisoned)
        )
        assert wrong.pop("accuracy") == pytest.approx(100 - honest.pop("accuracy"))
        for record in (honest, wrong):
            record.pop("correct"), record.pop("seconds")
        assert honest == wrong


def test_sequences_apart_are_not_those_of_the_methods(trained, small):
    job = trained()
    bench = runs.bench_of(job.task, job.kind, job.seed)
    known = {x.tobytes() for x in bench.source.x}
    assert len(known) == 60
    assert not any(x.tobytes() in known for x in bench.apart)
    train_ = {x.tobytes() for x in small.train.x}
    assert all(x.tobytes() in train_ for x in (*bench.source.x, *bench.apart))


def test_a_calibration_that_is_shared_counts_for_each_method(trained):
    job = trained()
    source = runs.bench_of(job.task, job.kind, job.seed).source
    source.timed(lambda s: s.calibration)
    _, shared = source.timed(lambda s: s.calibration)
    _, none = source.timed(lambda s: s.model)
    assert shared > 10 * none


def test_right_and_wrong_are_packed():
    correct = np.random.default_rng(0).random(37) < 0.5
    np.testing.assert_array_equal(cells.unpacked(cells.packed(correct), 37), correct)


def test_files_are_whole_or_not_there(tmp_path):
    cell = Cell("small", "s5", 0, "last", 0.5)
    with pytest.raises(ValueError, match="Out of range"):
        cells.store(cell, {"accuracy": float("nan")}, tmp_path)
    assert not list(tmp_path.rglob("*.*"))


SHIPPED = (
    ("digits", "s5", 0, "last", 0.5),
    ("digits", "s5", 1, "eliminate", 0.9),
    ("digits", "s4d", 0, "balanced", 0.5),
)


@pytest.mark.parametrize("key", SHIPPED)
def test_shipped_cells_are_recomputed_exactly(key):
    cell = Cell(*key)
    stored = cells.read(cell)
    record = runs.evaluated(
        cell, runs.bench_of(cell.task, cell.kind, cell.seed), tasks.load(cell.task).test.first(1000)
    )
    for name in ("accuracy", "correct", "count", "states", "orders"):
        assert record[name] == stored[name]


def test_shipped_checkpoints_say_what_the_stored_cells_say():
    """The full network's cell is the accuracy that training reported, where the whole test part was scored."""
    jobs = [job for job in cells.trained_jobs() if job.task == "digits"]
    assert jobs
    for job in jobs:
        info = runs.bench_of(job.task, job.kind, job.seed).source.trained.info
        record = cells.read(Cell(job.task, job.kind, job.seed, "full", 0.0))
        assert record["accuracy"] == pytest.approx(info["test_accuracy"])


@pytest.mark.slow
def test_dask_cluster_survives_the_death_of_a_worker(tmp_path):
    """Two worker processes, one killed after the first results: every cell is there and equal to one process's."""
    distributed = pytest.importorskip("distributed")
    plan = cells.planned([train.Job("digits", "s5", 0)], ["last", "aire", "eliminate"], [0.5, 0.7, 0.8, 0.9])
    folder = tmp_path / "results"
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        joblib.parallel_config(backend="dask", client=client, wait_for_workers_timeout=60),
    ):
        killed = []

        def kill(line):
            if not killed:
                killed.append(next(iter(cluster.workers.values())).pid)
                os.kill(killed[0], signal.SIGKILL)

        runs.run(plan, folder=folder, say=kill)
    assert killed
    for cell in plan:
        found, expected = cells.read(cell, folder), cells.read(cell)
        for name in ("accuracy", "correct", "systems"):
            assert found[name] == expected[name]
