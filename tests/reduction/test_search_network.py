"""The smallest network that agrees with the original on sequences kept apart."""

import pytest
from support.recorded import LRU, recorded, sequences

import ssmreduce as sr

torch = pytest.importorskip("torch")
import torch_networks  # noqa: E402


def states(model):
    return sum(model.orders.values())


def test_smallest_network_that_agrees():
    module = torch_networks.lru_digits()
    x = torch.tensor(sequences(LRU)[:100], dtype=torch.float32)
    result = sr.search(module, [x], agreement=0.99, finish=None, apart=0.4)
    assert result.value >= 0.99
    assert 0.4 < result.ratio < 0.95
    assert result.live(x).shape == (100, 10)
    assert sum(sr.read(result.live).orders.values()) == states(result.model)
    accepted = [point.ratio for point in result.points if point.accepted]
    refused = [point.ratio for point in result.points if not point.accepted]
    assert max(accepted) == pytest.approx(result.ratio, abs=1e-12)
    assert min(refused) - max(accepted) < 0.05
    further = sr.search(module, [x], agreement=0.99, steps=40, apart=0.4)
    assert further.ratio >= result.ratio
    assert further.value >= 0.99


def test_searches_of_networks_that_fail_are_named():
    module = torch_networks.lru_digits()
    x = torch.tensor(sequences(LRU)[:20], dtype=torch.float32)
    with pytest.raises(sr.errors.OptionError, match="agreement"):
        sr.search(module, [x], agreement=2)
    with pytest.raises(sr.errors.OptionError, match="tolerance"):
        sr.search(module, [x], tolerance=0)
    with pytest.raises(sr.errors.OptionError, match="evaluate goes with a model"):
        sr.search(module, [x], lambda model: 1.0)
    with pytest.raises(sr.errors.UnattainableError, match="agrees on"):
        sr.search(lambda_network(), [x.numpy()], finish=None, tolerance=0.3)


def lambda_network():
    """A network whose reduced versions never agree with it."""
    r = recorded(LRU)

    def network(model, x, tap=None):
        z = r.network(model, x, tap=tap)
        return z if states(model) == states(r.model) else -z

    return sr.network(network, model=r.model)
