"""Training can be killed anywhere, is the same every time, and sees training labels only."""

import numpy as np
import pytest
import torch

from benchmarks.evidence import models, train
from benchmarks.evidence.tasks import Split, Splits

from .conftest import SMALL


def assert_same_tensors(a, b):
    for key, value in a.state_dict().items():
        torch.testing.assert_close(b.state_dict()[key], value, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["s5", "s4d"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(small, trained, kind):
    whole = models.load_network(trained(kind).path)
    killed = train.Job("small", kind, 0)
    killed.path.unlink()

    def kill(line):
        if "step 5 of" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(killed, small, every=0.0, say=kill)
    assert not killed.path.exists()
    said = []
    train.train(killed, small, say=said.append)
    assert "going on at step 5 of 16" in said[0]
    again = models.load_network(killed.path)
    assert_same_tensors(whole.network, again.network)
    assert not list(train.STATES.rglob("*.*"))


def test_progress_tells_the_time_left(small):
    said = []
    train.train(train.Job("small", "s5", 0), small, every=0.0, say=said.append)
    assert sum("min left" in line for line in said) == 16


def test_seeds_differ(trained):
    first, second = (models.load_network(trained(seed=seed).path).network for seed in (0, 1))
    assert not torch.equal(first.decoder.weight, second.decoder.weight)


def test_only_training_labels_matter(small, trained):
    honest = models.load_network(trained().path)
    poisoned = Splits(
        small.train, Split(small.val.x, 1 - small.val.y), Split(small.test.x, 1 - small.test.y), classes=2
    )
    info = train.train(train.Job("small", "s5", 0), poisoned, say=lambda line: None)
    assert info["test_accuracy"] == pytest.approx(100 - honest.info["test_accuracy"])
    assert_same_tensors(honest.network, models.load_network(train.Job("small", "s5", 0).path).network)


def test_training_learns(small):
    trainer = train.Trainer(models.Network("s5", 1, 2, seed=0), SMALL, small.train, 0)
    losses = [trainer.advance() for _ in range(trainer.total)]
    assert np.mean(losses[-4:]) < np.mean(losses[:4]) - 0.1


def test_finished_jobs_are_not_trained_again(small, trained):
    job = trained()
    before = job.path.stat().st_mtime_ns
    train.train_all([job], say=lambda line: None)
    assert job.path.stat().st_mtime_ns == before


def test_rate_rises_and_falls():
    shares = [train._schedule(step, 100, 0.1) for step in range(100)]
    assert np.argmax(shares) in (9, 10)
    assert shares[0] == pytest.approx(0.1)
    assert (np.diff(shares[10:]) < 0).all()
    assert 0 < shares[-1] < 0.01
    assert train._schedule(0, 1, 0.05) == 1.0


def test_dynamics_do_not_decay(small):
    trainer = train.Trainer(models.Network("s5", 1, 2, seed=0), SMALL, small.train, 0)
    dynamics, others = trainer.optimizer.param_groups
    assert dynamics["weight_decay"] == 0.0
    assert len(dynamics["params"]) == 16
    assert others["weight_decay"] == SMALL.weight_decay
    assert len(dynamics["params"]) + len(others["params"]) == len(list(trainer.network.parameters()))
