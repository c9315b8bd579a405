"""Layers of no known family: measured, checked on a batch, realised, and run as drop-in layers."""

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import errors

torch = pytest.importorskip("torch")

WIDTH, LENGTH = 4, 96


class Filters(torch.nn.Module):
    """Long convolutions with decaying waves; `mix` adds a matrix before them."""

    def __init__(self, mix=False, pair=False):
        super().__init__()
        rng = np.random.default_rng(0)
        k = np.arange(LENGTH)
        waves = [0.9**k * np.cos(0.3 * h * k + h) + 0.5 * 0.7**k for h in range(1, WIDTH + 1)]
        self.taps = torch.nn.Parameter(torch.as_tensor(np.array(waves)).float())
        self.mixing = torch.nn.Parameter(torch.as_tensor(rng.standard_normal((WIDTH, WIDTH))).float()) if mix else None
        self.pair = pair

    def forward(self, u):
        u = u if self.mixing is None else u @ self.mixing
        size = 2 * u.shape[1]
        product = torch.fft.rfft(u, size, dim=1) * torch.fft.rfft(self.taps[:, : u.shape[1]].T, size, dim=0)
        y = torch.fft.irfft(product, size, dim=1)[:, : u.shape[1]]
        return (y, None) if self.pair else y


class Around(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.encoder, self.layer, self.decoder = torch.nn.Linear(2, WIDTH), layer, torch.nn.Linear(WIDTH, 3)

    def forward(self, u):
        y = self.layer(self.encoder(u))
        return self.decoder(torch.tanh(y[0] if isinstance(y, tuple) else y)).mean(1)


def batch_of(sequences=5):
    return torch.as_tensor(np.random.default_rng(1).standard_normal((sequences, LENGTH, 2))).float()


@pytest.mark.parametrize("options", [{}, {"mix": True}, {"pair": True}])
def test_a_layer_that_can_only_be_run_is_realised(options):
    torch.manual_seed(0)
    module, batch = Around(Filters(**options)), batch_of()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    net = sr.network(module, layers=["layer"], batch=batch, tolerance=1e-5)
    found = net.realizations["layer"]
    assert found.ssm.systems == (1 if options.get("mix") else WIDTH)
    assert (found.order <= (3 * WIDTH if options.get("mix") else 3)).all()
    np.testing.assert_allclose(net.outputs(net.model, batch), module(batch).detach(), atol=1e-4)
    smaller = sr.prune(net.model, sr.select(sr.score(net.model, "h2"), ratio=0.4))
    rebuilt = net.rebuild(smaller)
    assert rebuilt(batch).shape == (5, 3)
    assert sum(p.numel() for p in rebuilt.layer.parameters()) < sum(p.numel() for p in net.module.layer.parameters())
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert isinstance(module.layer, Filters)


def test_compress_takes_such_a_network():
    torch.manual_seed(0)
    batch = batch_of(16)
    net = sr.network(Around(Filters()), layers=["layer"], batch=batch, order=3)
    small = sr.compress(net, [batch], ratio=0.5, finish=None)
    assert small.model["layer"].order < net.model["layer"].order + 1


def test_the_tolerance_is_met():
    torch.manual_seed(0)
    batch = batch_of()
    net = sr.network(Around(Filters()), layers=["layer"], batch=batch)
    found = net.realizations["layer"]
    gain = np.abs(np.fft.rfft(Filters().taps.detach().double().numpy(), 2**14)).max(-1)
    assert (found.upper <= 1e-3 * gain * (1 + 1e-6)).all()


class Ramp(torch.nn.Module):
    def forward(self, u):
        return u * torch.linspace(1, 2, u.shape[1])[:, None]


class Early(torch.nn.Module):
    def forward(self, u):
        return torch.roll(u, -1, dims=1)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (torch.nn.Tanh(), "not linear, time invariant and causal"),
        (torch.nn.ReLU(), "not linear, time invariant and causal"),
        (Ramp(), "not linear, time invariant and causal"),
        (Early(), "not linear, time invariant and causal"),
        (torch.nn.Linear(WIDTH, WIDTH), "its output for an input of zeros is not zero"),
        (torch.nn.LSTM(WIDTH, WIDTH, batch_first=True), "not"),
    ],
)
def test_what_is_no_linear_system_is_refused(layer, words):
    torch.manual_seed(0)
    with pytest.raises(errors.EvaluationError, match=words):
        sr.network(Around(layer), layers=["layer"], batch=batch_of())


def test_bad_calls():
    module, batch = Around(Filters()), batch_of()
    with pytest.raises(errors.ArgumentError, match="give batch="):
        sr.network(module, layers=["layer"])
    with pytest.raises(errors.ArgumentError, match="list of names"):
        sr.network(module, layers="layer", batch=batch)
    with pytest.raises(errors.ArgumentError, match="give layers="):
        sr.network(module, tolerance=0.1)
    with pytest.raises(errors.UnknownLayerError, match="no submodule 'nothing'"):
        sr.network(module, layers=["nothing"], batch=batch)
    with pytest.raises(errors.ShapeError, match="takes"):
        sr.network(module, layers=["."], batch=batch)
