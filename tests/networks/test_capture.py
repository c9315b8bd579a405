"""What is recorded from live networks: against the same layers called by hand."""

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import errors, networks

LAYER = "layers.0.seq"


@pytest.fixture(scope="module")
def model():
    return sr.load("examples/s5_digits/model.safetensors")


def test_torch_inputs(rng):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = (
        torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.Conv1d(6, 6, 1), torch.nn.Linear(4, 3)).double().eval()
    )
    batches = [torch.from_numpy(rng.standard_normal((2, 6, 1))) for _ in range(3)]
    seen = []
    got = list(sr.networks.torch_inputs(network, batches, ["1", "2"], progress=lambda *c: seen.append(c)))
    for batch, inputs in zip(batches, got, strict=True):
        first = network[0](batch)
        np.testing.assert_array_equal(inputs["1"], first.detach().numpy())
        np.testing.assert_array_equal(inputs["2"], network[1](first).detach().numpy())
    assert seen == [(1, 3), (2, 3), (3, 3)]
    flipped = next(sr.networks.torch_inputs(network, batches, ["1"], channels_first=True))
    np.testing.assert_array_equal(flipped["1"], got[0]["1"].swapaxes(1, 2))
    assert not network[1]._forward_pre_hooks
    with pytest.raises(sr.errors.UnknownLayerError, match="no submodule 'seq'"):
        next(sr.networks.torch_inputs(network, batches, ["seq"]))


def test_torch_layer_that_is_not_called():
    torch = pytest.importorskip("torch")
    network = torch.nn.Linear(1, 1).eval()
    network.spare = torch.nn.Linear(1, 1).eval()
    with pytest.raises(sr.errors.UnknownLayerError, match="did not call spare"):
        next(sr.networks.torch_inputs(network, [torch.zeros(1, 2, 1)], ["spare"]))


def test_flax_inputs(rng):
    nn = pytest.importorskip("flax.linen")
    jax = pytest.importorskip("jax")
    network = nn.Sequential([nn.Dense(4), nn.gelu, nn.Dense(3)])
    batches = [rng.standard_normal((2, 6, 1)) for _ in range(2)]
    variables = network.init(jax.random.key(0), batches[0])
    got = list(sr.networks.flax_inputs(network, variables, batches, ["params/layers_2"]))
    dense = nn.Dense(4)
    for batch, inputs in zip(batches, got, strict=True):
        expected = nn.gelu(dense.apply({"params": variables["params"]["layers_0"]}, batch))
        np.testing.assert_allclose(inputs["params/layers_2"], expected, rtol=1e-6)
    with pytest.raises(sr.errors.UnknownLayerError, match="layers_7"):
        next(sr.networks.flax_inputs(network, variables, batches, ["params/layers_7"]))


def test_numpy_networks_hand_out_their_layer_inputs(rng, model):
    x = rng.random((2, 64, 1))
    inputs = networks.NumpyNetwork(networks.s5_digits, model=model).layer_inputs(model, x)
    assert tuple(inputs) == tuple(model)
    h = x @ model.params["encoder.weight"].T + model.params["encoder.bias"]
    mean, variance, scale, bias = (
        model.params[f"layers.0.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
    )
    np.testing.assert_allclose(inputs[LAYER], (h - mean) / np.sqrt(variance + 1e-5) * scale + bias, rtol=1e-6)


@pytest.mark.parametrize("bidir", [False, True])
def test_inputs_of_layers_that_are_called_inside_vmap(bidir):
    torch, s5 = pytest.importorskip("torch"), pytest.importorskip("s5")
    torch.manual_seed(0)
    block = s5.S5Block(16, 8, bidir).eval()
    model = sr.read(block)
    batch = torch.randn(3, 40, 16)
    [inputs] = sr.networks.torch_inputs(block, [batch], model)
    with torch.no_grad():
        np.testing.assert_allclose(inputs["s5.seq"], block.attn_norm(batch).numpy(), rtol=1e-6, atol=1e-6)


# ---------------------------------------------------------------- how a layer may be called


def torch_network(forward):
    """A network with one submodule, `layer`, and the forward pass given."""
    torch = pytest.importorskip("torch")

    class Layer(torch.nn.Module):
        def forward(self, state=None, u=None):
            return u if state is None else state

    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = Layer()

        def forward(self, *args):
            return forward(self.layer, *args)

    return Network().eval()


CALLS = {
    "by keyword": lambda layer, u: layer(u=u),
    "behind another argument": lambda layer, u: layer(None, u),
}


@pytest.mark.parametrize("case", CALLS)
def test_torch_layers_are_called_in_any_way(rng, case):
    torch = pytest.importorskip("torch")
    u = rng.standard_normal((2, 5, 3))
    [got] = sr.networks.torch_inputs(torch_network(CALLS[case]), [torch.from_numpy(u)], ["layer"])
    np.testing.assert_array_equal(got["layer"], u)


def test_torch_layers_without_a_tensor_are_named():
    torch = pytest.importorskip("torch")
    network = torch_network(lambda layer, u: layer(3.0, u=None))
    with pytest.raises(errors.ArgumentError, match=r"'layer' was called without an array: \(3.0, u=None\)"):
        next(sr.networks.torch_inputs(network, [torch.zeros(1, 2, 1)], ["layer"]))
    assert not network.layer._forward_pre_hooks


@pytest.mark.parametrize("axes", [2, 3])
def test_torch_calls_of_shared_layers_are_sequences_side_by_side(rng, axes):
    torch = pytest.importorskip("torch")
    network = torch_network(lambda layer, u: layer(layer(u) + 1) * 0)
    u = rng.standard_normal((2, 5, 3)[3 - axes :])
    [got] = sr.networks.torch_inputs(network, [torch.from_numpy(u)], ["layer"])
    np.testing.assert_array_equal(got["layer"], np.stack([u, u + 1]).reshape(-1, 5, 3))
    flipped = sr.networks.torch_inputs(network, [torch.from_numpy(u.swapaxes(-1, -2))], ["layer"], channels_first=True)
    np.testing.assert_array_equal(next(flipped)["layer"], got["layer"])
    shorter = torch_network(lambda layer, u: layer(u) + layer(u[..., :3, :]).sum())
    with pytest.raises(errors.ShapeError, match=r"called 2 times.*5, 3\), .*3, 3\)"):
        next(sr.networks.torch_inputs(shorter, [torch.from_numpy(u)], ["layer"]))


def test_torch_training_mode_is_warned_of_and_left_alone():
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.Linear(1, 1)).eval()
    network[0].train()
    with pytest.warns(errors.CaptureWarning, match=r"^0 in training mode.*eval\(\)") as caught:
        list(sr.networks.torch_inputs(network, [torch.zeros(1, 2, 1)] * 3, ["1"]))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert network[0].training
    assert not network.training
    with pytest.warns(errors.CaptureWarning, match=r"^the network and 2 more in training mode"):
        next(sr.networks.torch_inputs(network.train(), [torch.zeros(1, 2, 1)], ["1"]))


def flax_network(forward):
    nn = pytest.importorskip("flax.linen")

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, state=None, u=None):
            return nn.Dense(3)(u if state is None else state)

    class Network(nn.Module):
        def setup(self):
            self.layer = Layer()

        def __call__(self, u):
            return forward(self.layer, u)

    return Network()


@pytest.mark.parametrize("case", CALLS)
def test_flax_layers_are_called_in_any_way(rng, case):
    jax = pytest.importorskip("jax")
    network, u = flax_network(CALLS[case]), rng.integers(-5, 5, (2, 5, 3)) / 2
    variables = network.init(jax.random.key(0), u)
    [got] = sr.networks.flax_inputs(network, variables, [u], ["params/layer"])
    np.testing.assert_array_equal(got["params/layer"], u)


def test_flax_calls_of_shared_layers_are_sequences_side_by_side(rng):
    jax = pytest.importorskip("jax")
    u = rng.integers(-5, 5, (2, 5, 3)) / 2
    network = flax_network(lambda layer, u: layer(u) + layer(u + 1))
    variables = network.init(jax.random.key(0), u)
    [got] = sr.networks.flax_inputs(network, variables, [u], ["params/layer"])
    np.testing.assert_array_equal(got["params/layer"], np.concatenate([u, u + 1]))
    shorter = flax_network(lambda layer, u: layer(u).sum() + layer(u[:, :3]).sum())
    with pytest.raises(errors.ShapeError, match="called 2 times"):
        next(sr.networks.flax_inputs(shorter, variables, [u], ["params/layer"]))


def test_bad_calls_are_named():
    torch, nn = pytest.importorskip("torch"), pytest.importorskip("flax.linen")
    network, x = torch.nn.Sequential(torch.nn.Linear(1, 1)).eval(), torch.zeros(2, 3, 1)
    for call, text in (
        (lambda: sr.networks.torch_inputs(network, x, ["0"]), r"give a list of batches, such as \[x\]"),
        (lambda: sr.networks.torch_inputs(network, [x], "0"), r"give \['0'\]"),
        (lambda: sr.networks.torch_inputs(network.state_dict(), [x], ["0"]), "torch.nn.Module is needed"),
        (lambda: sr.networks.flax_inputs(nn.Dense(1), {}, x.numpy(), ["params/a"]), "give a list of batches"),
        (lambda: sr.networks.flax_inputs(nn.Dense(1), {}, [x.numpy()], "params/a"), "several names"),
        (lambda: sr.networks.flax_inputs({}, {}, [x.numpy()], ["params/a"]), "flax.linen.Module is needed"),
    ):
        with pytest.raises(errors.ArgumentError, match=text):
            next(call())
