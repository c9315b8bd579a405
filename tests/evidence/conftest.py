"""A task that trains in a second, and a network trained on it."""

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.evidence import cells, runs, settings, tasks, train
from benchmarks.evidence.tasks import Split, Splits

LENGTH = 12
SMALL = settings.Setting(epochs=2, batch=20, lr=1e-2, ssm_lr=4e-3, dropout=0.1)


def small_task():
    """Was the mean of the first half of the sequence the larger one?"""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((260, LENGTH, 1)).astype(np.float32)
    y = (x[:, : LENGTH // 2, 0].mean(axis=1) > x[:, LENGTH // 2 :, 0].mean(axis=1)).astype(np.int64)
    parts = np.split(np.arange(260), [160, 200])
    return Splits(*(Split(x[part], y[part]) for part in parts), classes=2)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The task under the name ``small``; checkpoints and unfinished states go to a folder of the test."""
    monkeypatch.setitem(tasks.TASKS, "small", small_task)
    for kind in ("s5", "s5-bi", "s4d", "lru"):
        monkeypatch.setitem(settings.SETTINGS, ("small", kind), SMALL)
    monkeypatch.setattr(train, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(train, "STATES", tmp_path / "unfinished")
    monkeypatch.setattr(cells, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(runs, "CALIBRATION", 60)
    monkeypatch.setattr(runs, "APART", 30)
    yield tasks.load("small")
    tasks.load.cache_clear()
    runs.bench_of.cache_clear()


@pytest.fixture
def trained(small):
    """Function: train a network of one kind on the small task and return its job."""

    def made(kind="s5", seed=0):
        job = train.Job("small", kind, seed)
        train.train(job, small, say=lambda line: None)
        return job

    return made
