"""S4Block, DSS and aTENNuate, live: pruned, reduced and compressed inside a network, saved and made anew."""

import copy
import json

import numpy as np
import pytest

import ssmreduce as sr

torch = pytest.importorskip("torch")
from support import torch_layers as layers  # noqa: E402

S4_FLAGS = sr.adapters.S4Block(disc="zoh", real_transform="exp", dt_transform="exp")
DSS_FLAGS = sr.adapters.DSS(version="exp")
FAMILIES = {
    "s4-block": (lambda: layers.Classifier(lambda: layers.S4Block(6, 5)), S4_FLAGS),
    "s4-block-two-channels-last": (
        lambda: layers.Classifier(lambda: layers.S4Block(6, 5, channels=2, transposed=False), channels_first=False),
        S4_FLAGS,
    ),
    "dss": (lambda: layers.Classifier(lambda: layers.DSS(6, 5)), DSS_FLAGS),
    "dss-two-channels-last": (
        lambda: layers.Classifier(lambda: layers.DSS(6, 5, channels=2, transposed=False), channels_first=False),
        DSS_FLAGS,
    ),
    "attenuate": (lambda: layers.Classifier(lambda: layers.ATENNuate(6, 8)), sr.adapters.ATENNuate()),
}


def made(family):
    torch.manual_seed(0)
    make, adapter = FAMILIES[family]
    return make().eval(), adapter


def sequences(count=4):
    return torch.randn(count, 20, 1, generator=torch.manual_seed(1))


def assert_close(got, expected, tolerance=1e-5):
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance * expected.abs().max().item())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_selection_equals_the_masked_original(family):
    (module, adapter), x = made(family), sequences()
    model = sr.network(module, adapter=adapter).model
    pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5))
    masked = copy.deepcopy(module)
    masked.load_state_dict({k: torch.tensor(v) for k, v in sr.export(pruned, form="mask").items()})
    for batch in (x, None):  # compared with the layers on a batch, and each layer alone
        small = sr.replace_layers(module, pruned, batch=batch)
        assert_close(small(x), masked(x))
    assert not any(p.is_complex() for p in small.parameters())
    assert sr.read(small).orders == pruned.orders
    balanced = sr.reduce(model, {name: 3 * ssm.systems for name, ssm in model.items()}, method="balanced")
    net = sr.network(module, adapter=adapter)
    got = sr.replace_layers(module, balanced, batch=x)(x).detach().double().numpy()
    np.testing.assert_allclose(got, net.outputs(balanced, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_compressed_saved_and_compressed_again(family, tmp_path):
    (module, adapter), x = made(family), sequences(30)
    small = sr.compress(module, [x], ratio=0.6, steps=8, adapter=adapter)
    record = json.loads(small.ssmreduce_record)
    assert record["finish_kept"]
    sr.networks.save_module(small, tmp_path / "small")
    again = sr.networks.restore(made(family)[0], tmp_path / "small")
    assert torch.equal(again(x), small(x))
    assert sr.load(tmp_path / "small").orders == record["orders"]
    twice = sr.compress(again, [x], ratio=0.5, finish=None, method="eliminate")
    assert sum(sr.read(twice).orders.values()) == sum(record["orders"].values()) // 2
    net = sr.network(twice)
    np.testing.assert_allclose(net.outputs(net.model, x), twice(x).detach().double().numpy(), rtol=0, atol=1e-5)
    again.train()
    again(x).square().sum().backward()
    assert all(p.grad is not None for p in again.parameters())


@pytest.mark.parametrize("family", ["s4-block-two-channels-last", "dss"])
def test_gradients_in_the_systems(family):
    """Along a direction of C and D, in which the outputs of one layer are linear."""
    (module, adapter), x = made(family), sequences(3)
    net = sr.network(module, adapter=adapter)
    z, pull = net.vjp(net.model, x)
    rng = np.random.default_rng(0)
    seed = rng.standard_normal(z.shape)
    name = net.model.layers[-1]
    ssm, found = net.model[name], pull(seed)[name]
    step = 1e-3
    C, D = (rng.standard_normal(array.shape) for array in (ssm.C, ssm.D))
    moved = [
        sr.models.replace_system(
            net.model,
            name,
            sr.DiagonalSSM(ssm.Lambda, ssm.B, ssm.C + s * C, ssm.D + s * D, conj_sym=ssm.conj_sym),
        )
        for s in (step, -step)
    ]
    numeric = np.sum(seed * (net.outputs(moved[0], x) - net.outputs(moved[1], x))) / (2 * step)
    np.testing.assert_allclose(np.sum(found.C.real * C) + np.sum(found.D * D), numeric, rtol=5e-3)


def test_bidirectional_kernels_are_refused():
    module, adapter = made("dss")
    layer = module.layers[1]
    layer.kernel.W = torch.nn.Parameter(layer.kernel.W.repeat(2, 1, 1, 1))
    with pytest.raises(sr.errors.ArgumentError, match=r"'layers\.1' is bidirectional.*one sample late"):
        sr.compress(module, [sequences()], adapter=adapter)


def test_another_rate_is_refused():
    module, adapter = made("s4-block")
    model = sr.network(module, adapter=adapter).model
    small = sr.replace_layers(module, sr.prune(model, {name: range(6 * 3) for name in model}))
    with pytest.raises(sr.errors.ArgumentError, match=r"S4Block\(rate="):
        small.layers[0](torch.zeros(1, 6, 9), rate=2.0)
    with pytest.raises(sr.errors.ArgumentError, match="takes no state"):
        small.layers[0](torch.zeros(1, 6, 9), state=torch.zeros(1, 6, 5))
