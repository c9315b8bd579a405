"""The networks run the systems that the library reads from their parameters."""

import numpy as np
import pytest
import torch

import ssmreduce as sr
from benchmarks.evidence import layers, models

KINDS = ("s5", "s5-bi", "s4d", "lru")


def fresh(kind, **options):
    network = models.Network(kind, 1, 3, seed=1, **options)
    with torch.no_grad():
        for block in network.layers:  # statistics other than those of a new batch norm
            block.norm.running_mean.normal_()
            block.norm.running_var.uniform_(0.5, 2.0)
    return network.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_network_and_library_agree(kind, tmp_path, rng):
    network = fresh(kind)
    x = rng.standard_normal((7, 20, 1)).astype(np.float32)
    info = {"kind": kind, "channels": 1, "classes": 3, "tokens": 0}
    models.save_network(network, tmp_path / "net.safetensors", info)
    trained = models.load_network(tmp_path / "net.safetensors")
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(trained.logits(trained.model, x, batch=4), expected, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_come_back_bit_for_bit(kind, tmp_path):
    network = fresh(kind)
    info = {"kind": kind, "channels": 1, "classes": 3, "tokens": 0}
    models.save_network(network, tmp_path / "net.safetensors", info)
    again = models.load_network(tmp_path / "net.safetensors")
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value, rtol=0, atol=0)
    assert again.info == info


@pytest.mark.parametrize("kind", KINDS)
def test_layers_run_as_in_the_reference_engine(kind, rng):
    layer = models.make_layer(kind, models.Size(8), np.random.default_rng(0)).double()
    u = rng.standard_normal((3, 25, 8))
    with torch.no_grad():
        m = layer.matrices()
        found = layers.run(m, torch.from_numpy(u)).numpy()
    host = [None if value is None else value.detach().numpy() for value in m[:5]]
    Lambda, B, C, reverse, D = host
    if kind == "s4d":
        ssm = sr.DiagonalSSM(Lambda, B[..., None], C[:, None], D[:, None, None], conj_sym=True)
    else:
        ssm = sr.DiagonalSSM(Lambda, B, C, np.diag(D), reverse, conj_sym=m.kappa == 2)
    np.testing.assert_allclose(found, sr.simulate(ssm, u, engine="reference"), atol=1e-12)


def test_both_convolutions_are_one(monkeypatch, rng):
    layer = models.make_layer("s4d", models.Size(4), np.random.default_rng(0)).double()
    u = torch.from_numpy(rng.standard_normal((2, 30, 4)))
    with torch.no_grad():
        product = layers.run(layer.matrices(), u)
        monkeypatch.setattr(layers, "TOEPLITZ", 0)
        transform = layers.run(layer.matrices(), u)
    np.testing.assert_allclose(product, transform, atol=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_systems_of_the_library_run_with_any_feedthrough(full, rng):
    D = rng.standard_normal((3, 3)) if full else np.diag(rng.standard_normal(3))
    B, C = rng.standard_normal((4, 3)) + 1j, rng.standard_normal((3, 4)) - 1j
    ssm = sr.DiagonalSSM(0.9 * np.exp(1j * rng.uniform(0, 3, 4)), B, C, D, conj_sym=True)
    u = rng.standard_normal((2, 15, 3))
    found = layers.run(layers.matrices_of(ssm, torch.complex128), torch.from_numpy(u))
    np.testing.assert_allclose(found, sr.simulate(ssm, u), atol=1e-12)


def test_layer_inputs_are_what_the_layers_get(tmp_path, rng):
    network = fresh("s5")
    info = {"kind": "s5", "channels": 1, "classes": 3, "tokens": 0}
    models.save_network(network, tmp_path / "net.safetensors", info)
    trained = models.load_network(tmp_path / "net.safetensors")
    x = rng.standard_normal((5, 10, 1)).astype(np.float32)
    inputs = trained.layer_inputs(trained.model, x, batch=2)
    assert list(inputs) == list(trained.model)
    with torch.no_grad():
        h = network.encoder(torch.from_numpy(x))
        first = network.layers[0].norm(h.flatten(0, 1)).view_as(h)
    np.testing.assert_allclose(inputs["layers.0.seq"], first, atol=1e-6)


def test_size_comes_back_from_the_file(tmp_path, rng):
    size = models.Size(width=12, layers=2, states=8, blocks=2)
    network = models.Network("s5-bi", 1, 3, size=size).eval()
    info = {"kind": "s5-bi", "channels": 1, "classes": 3, "tokens": 0, "size": vars(size)}
    models.save_network(network, tmp_path / "net.safetensors", info)
    trained = models.load_network(tmp_path / "net.safetensors")
    assert trained.model.orders == {"layers.0.seq": 8, "layers.1.seq": 8}
    assert trained.logits(trained.model, rng.standard_normal((2, 9, 1)).astype(np.float32)).shape == (2, 3)


def test_tokens_are_embedded(rng):
    network = models.Network("lru", 1, 4, tokens=9, seed=0).eval()
    with torch.no_grad():
        assert network(torch.from_numpy(rng.integers(9, size=(3, 11)))).shape == (3, 4)


def test_dropout_is_the_same_at_all_steps():
    drop = models.TiedDropout(0.5)
    torch.manual_seed(0)
    y = drop(torch.ones(4, 6, 50))
    np.testing.assert_array_equal(y, y[:, :1].expand(-1, 6, -1))
    assert set(y.unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(drop.eval()(torch.ones(2, 3, 4)), torch.ones(2, 3, 4))
