"""Networks of Flax modules: the stock S5 inside `nn.vmap`, with another number of states in each layer."""

# ruff: noqa: E402

from functools import cache

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import errors

jax = pytest.importorskip("jax")
nn = pytest.importorskip("flax.linen")

import jax.numpy as jnp
from support.flax_s5 import BatchClassificationModel, classifier, variables_of
from support.oracles import assert_close

from ssmreduce.networks import FlaxNetwork, network

ADAPTER = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
FOLDER = "tests/data/s5_last_uni_digits64"
LAYERS = [f"params/encoder/layers_{i}/seq" for i in range(4)]


@cache
def recorded():
    """Variables, test sequences and what the authors' code returned for them."""
    variables = sr.models.unflatten(sr.load(f"{FOLDER}/checkpoint.msgpack", adapter=ADAPTER).params)
    with np.load(f"{FOLDER}/heldout.npz") as split, np.load(f"{FOLDER}/oracle.npz") as oracle:
        return variables, split["x_test"], oracle["outputs"]


@pytest.fixture(scope="module")
def stock():
    return classifier()


@pytest.fixture(scope="module")
def net(stock):
    return network(stock, variables=recorded()[0], adapter=ADAPTER)


def pruned(model, ratio):
    """By LAST, which leaves another number of states in every layer."""
    small = sr.prune(model, sr.select(sr.score(model, "last"), ratio=ratio))
    assert len(set(small.orders.values())) > 1
    return small


def run(module, variables, x):
    """Outputs of a module, compiled as one: eagerly JAX traces every operation by itself."""
    return jax.jit(module.apply)(variables, x)


def masked(model):
    return sr.models.unflatten(sr.export(model, form="mask"))


def test_the_stock_network_is_the_recorded_one(stock):
    variables, x, outputs = recorded()
    np.testing.assert_allclose(run(stock, variables, x), outputs[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_reduced_networks_are_the_masked_originals(stock, net, ratio):
    x, small = recorded()[1], pruned(net.model, ratio)
    live = net.rebuild(small)
    expected = run(stock, masked(small), x)
    assert_close(run(live, live.variables, x), expected, 1e-5)
    assert_close(net.outputs(small, x), expected, 1e-5)
    assert {k: live.structures[k].states for k in LAYERS} == small.orders


@pytest.mark.usefixtures("double")
def test_reduced_networks_in_double_precision(stock):
    variables, x, _ = recorded()
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), variables)
    x = jnp.asarray(x[:20], jnp.float64)
    net = network(stock, variables=variables, adapter=ADAPTER)
    small = pruned(net.model, 0.5)
    outputs, expected = net.rebuild(small)(x), run(stock, masked(small), x)
    assert outputs.dtype == np.float64
    assert_close(outputs, expected, 1e-12)
    assert_close(net.outputs(small, x), expected, 1e-12)


@pytest.mark.parametrize("flags", [{"bidirectional": True}, {"discretization": "bilinear", "conj_sym": False}])
def test_other_kinds_of_s5(rng, flags):
    stock = classifier(width=6, states=8, layers=2, **flags)
    x = rng.standard_normal((3, 20, 1)).astype(np.float32)
    adapter = sr.adapters.S5(**{"conj_sym": True, "discretization": "zoh", "clip_eigs": False} | _known(flags))
    net = network(stock, variables=stock.init(jax.random.key(1), x), adapter=adapter)
    small = sr.prune(net.model, {LAYERS[0]: [1, 2, 5], LAYERS[1]: [0]})
    assert_close(net.rebuild(small)(x), run(stock, masked(small), x), 1e-5)


def _known(flags):
    return {key: value for key, value in flags.items() if key != "bidirectional"}


def test_every_reduction_runs(net):
    x = recorded()[1][:20]
    full = net.outputs(net.model, x)
    for method in ("balanced", "hankel"):
        small = sr.reduce(net.model, dict.fromkeys(net.model, 40), method=method)
        live, outputs = net.rebuild(small), net.outputs(small, x)
        assert_close(run(live, live.variables, x), outputs, 1e-5)
        assert np.abs(outputs - full).max() > 0


def test_the_user_code_and_variables_stay_untouched(stock, net):
    variables, x, _ = recorded()
    before = jax.tree.map(np.array, variables)
    live, whole = net.rebuild(pruned(net.model, 0.5)), net.rebuild(net.model)
    run(live, live.variables, x[:2])
    for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(before), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(run(whole, whole.variables, x[:2]), run(stock, variables, x[:2]))


# ---------------------------------------------------------------- transformations


def test_gradients_around_the_layers_are_those_of_the_masked_network(stock, net):
    x, small = recorded()[1][:20], pruned(net.model, 0.5)
    live = net.rebuild(small)

    def gradient(apply, variables):
        gradients = jax.jit(jax.grad(lambda v: jnp.mean(apply({**variables, "params": v}, x)[:, 0])))
        return gradients(variables["params"])

    got, expected = gradient(live.apply, live.variables), gradient(stock.apply, masked(small))
    for name in ("encoder", "layers_0", "layers_3"):
        for key in ("kernel", "bias") if name == "encoder" else ("out2", "norm"):
            for a, b in zip(
                jax.tree.leaves(got["encoder"][name][key]),
                jax.tree.leaves(expected["encoder"][name][key]),
                strict=True,
            ):
                assert_close(a, b, 1e-4)
    assert_close(got["encoder"]["layers_0"]["seq"]["D"], expected["encoder"]["layers_0"]["seq"]["D"], 1e-4)


def test_vmap_and_training_mode(net):
    x, live = recorded()[1][:6], net.rebuild(pruned(net.model, 0.5))
    many = jax.jit(jax.vmap(live.apply, in_axes=(None, 0)))(live.variables, x.reshape(3, 2, 64, 1))
    assert_close(many.reshape(6, 10), run(live, live.variables, x), 1e-5)
    training = classifier(training=True, dropout=0.2)
    reduced = network(training, variables=recorded()[0], adapter=ADAPTER).rebuild(pruned(net.model, 0.5))
    rngs = {"dropout": jax.random.key(0)}
    train = jax.jit(lambda variables: reduced.apply(variables, x, rngs=rngs, mutable=["batch_stats"]))
    _, updated = train(reduced.variables)
    old = reduced.variables["batch_stats"]["encoder"]["layers_0"]["norm"]["mean"]
    assert np.abs(updated["batch_stats"]["encoder"]["layers_0"]["norm"]["mean"] - old).max() > 0


@pytest.mark.usefixtures("double")
def test_gradients_in_the_systems_are_differences(rng):
    stock = classifier(width=3, states=4, layers=2, classes=2, bidirectional=True)
    x = jnp.asarray(rng.standard_normal((3, 12, 1)))
    variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), stock.init(jax.random.key(1), x))
    net = network(stock, variables=variables, adapter=ADAPTER)
    model = sr.prune(net.model, {LAYERS[0]: [0, 2, 3], LAYERS[1]: [1]})
    weights = rng.standard_normal((3, 2))
    z, pull = net.vjp(model, x)
    np.testing.assert_allclose(z, net.outputs(model, x), rtol=1e-12)
    gradients, h = pull(weights), 1e-6
    for name in LAYERS[:2]:
        for field in ("Lambda", "B", "C", "D", "C_reverse"):
            matrix, gradient = getattr(model[name], field), getattr(gradients[name], field)
            assert gradient.shape == matrix.shape
            for direction in (1.0, 1j) if np.iscomplexobj(matrix) else (1.0,):
                step = np.zeros_like(matrix)
                step.flat[0] = direction * h
                systems = (_with(model[name], field, matrix + s) for s in (step, -step))
                moved = [sr.models.replace_system(model, name, ssm) for ssm in systems]
                up, down = (np.sum(weights * net.outputs(m, x)) for m in moved)
                wanted = gradient.flat[0].real if direction == 1.0 else gradient.flat[0].imag
                np.testing.assert_allclose((up - down) / (2 * h), wanted, rtol=1e-6, atol=1e-8)


def _with(ssm, field, value):
    fields = {key: getattr(ssm, key) for key in ("Lambda", "B", "C", "D", "C_reverse", "conj_sym")}
    return sr.DiagonalSSM(**{**fields, field: value})


# ---------------------------------------------------------------- what the network is fed


def test_layer_inputs_inside_vmap(net):
    variables, x, _ = recorded()
    inputs = net.layer_inputs(net.model, x[:5])
    assert list(inputs) == LAYERS
    encoder, stats = variables["params"]["encoder"], variables["batch_stats"]["encoder"]["layers_0"]["norm"]
    h = x[:5] @ encoder["encoder"]["kernel"] + encoder["encoder"]["bias"]
    norm = encoder["layers_0"]["norm"]
    expected = (h - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(inputs[LAYERS[0]], expected, rtol=1e-4, atol=1e-5)
    assert inputs[LAYERS[0]].dtype == np.float64


def test_batches_as_loaders_give_them(net):
    x = recorded()[1][:3]
    expected = net.outputs(net.model, x)
    np.testing.assert_array_equal(net.outputs(net.model, (x, np.arange(3))), expected)
    by_key = FlaxNetwork(net.module, variables=net.variables, adapter=ADAPTER, inputs="x", mask="lengths")
    batch = {"y": np.arange(3), "x": x, "lengths": np.array([64, 10, 5])}
    np.testing.assert_array_equal(by_key.outputs(net.model, batch), expected)
    np.testing.assert_array_equal(by_key.mask(batch, 64).sum(1), [64, 10, 5])
    torch = pytest.importorskip("torch")
    np.testing.assert_array_equal(net.outputs(net.model, torch.from_numpy(x)), expected)


def test_a_bound_module_needs_no_variables(stock):
    variables, x, _ = recorded()
    bound = network(stock.bind(variables), adapter=ADAPTER)
    np.testing.assert_array_equal(bound.outputs(bound.model, x[:2]), network(bound).outputs(bound.model, x[:2]))


# ---------------------------------------------------------------- reading reduced networks again


def test_reduced_networks_are_networks(net):
    x, small = recorded()[1][:9], pruned(net.model, 0.5)
    live = net.rebuild(small)
    again = network(live)
    assert again.model.orders == small.orders
    assert_close(again.outputs(again.model, x), run(live, live.variables, x), 1e-5)
    smaller = pruned(again.model, 0.4)
    assert sum(smaller.orders.values()) < sum(small.orders.values())
    twice = again.rebuild(smaller)
    assert_close(run(twice, twice.variables, x), again.outputs(smaller, x), 1e-5)
    assert network(twice).model.orders == smaller.orders


def test_trained_variables_become_systems_and_files_of_the_family(net, tmp_path):
    x, small = recorded()[1][:9], pruned(net.model, 0.5)
    live = net.rebuild(small)
    trained = live.with_variables(jax.tree.map(lambda a: 1.01 * a, live.variables))
    model = network(trained).model
    assert_close(sr.simulate(model[LAYERS[0]], np.ones((5, 32))), _layer_output(trained, LAYERS[0]), 1e-5)
    sr.save(model, tmp_path / "trained.npz")
    reread = sr.load(tmp_path / "trained.npz", adapter=ADAPTER)
    assert reread.orders == small.orders
    np.testing.assert_allclose(sr.networks.s5_flax(reread, x.astype(float)), trained(x), atol=2e-4)


def _layer_output(live, name):
    from ssmreduce.networks._jax_layers import matrices, respond

    node = live.variables["params"]["encoder"]["layers_0"]["seq"]
    return respond(live.structures[name], matrices(live.structures[name], node), jnp.ones((5, 32)))[0]


# ---------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("flags", [{"conj_sym": False}, {"discretization": "bilinear"}, {"step_rescale": 0.5}])
def test_wrong_flags_are_seen_on_the_first_batch(stock, flags):
    variables, x, _ = recorded()
    wrong = {"conj_sym": True, "discretization": "zoh", "clip_eigs": False} | flags
    net = network(stock, variables=variables, adapter=sr.adapters.S5(**wrong))
    with pytest.raises(errors.EvaluationError, match=r"'params/encoder/layers_0/seq' is not the system.*adapter="):
        net.outputs(net.model, x[:3])


class Layer(nn.Module):
    """An LRU in one method, around whose call the tests build networks."""

    returns: str = "outputs"

    @nn.compact
    def __call__(self, u, state=None):
        constant = nn.initializers.constant
        nu, theta, gamma = (
            self.param(k, constant(v), (3,)) for k, v in (("nu_log", -1.0), ("theta_log", 0.5), ("gamma_log", 0.0))
        )
        B, C = (
            self.param(f"{k}_re", nn.initializers.normal(), s) + 1j * self.param(f"{k}_im", nn.initializers.normal(), s)
            for k, s in (("B", (3, 2)), ("C", (2, 3)))
        )
        D = self.param("D", constant(1.0), (2,))
        u = u if self.returns != "channels first" else u.swapaxes(-1, -2)
        x = sr.scan(jnp.exp(-jnp.exp(nu) + 1j * jnp.exp(theta)), u @ (jnp.exp(gamma)[:, None] * B).T)
        y = (x @ C.T).real + D * u
        every = {"outputs": y, "None": (y, None), "state": (y, x[..., -1, :]), "channels first": y.swapaxes(-1, -2)}
        return every[self.returns]


class Around(nn.Module):
    forward: object
    returns: str = "outputs"
    wrap: object = staticmethod(lambda cls: cls)

    def setup(self):
        self.layer = self.wrap(Layer)(returns=self.returns)

    def __call__(self, u, **flags):
        return self.forward(self.layer, u, **flags)


def around(forward, x=None, **options):
    module = Around(forward, **options)
    x = np.random.default_rng(0).standard_normal((4, 7, 2)).astype(np.float32) if x is None else x
    return module, module.init(jax.random.key(0), x), x


CALLS = {
    "by keyword": lambda layer, u: layer(u=u),
    "twice": lambda layer, u: layer(u) + layer(u + 1),
    "among other arguments": lambda layer, u: layer(u, None),
}


@pytest.mark.parametrize("call", CALLS)
def test_layers_are_called_in_any_way(call):
    module, variables, x = around(CALLS[call])
    net = network(module, variables=variables)
    small = sr.prune(net.model, {"params/layer": [0, 2]})
    expected = module.apply(sr.models.unflatten(sr.export(small, form="mask")), x)
    assert_close(net.rebuild(small)(x), expected, 1e-5)
    assert_close(net.outputs(small, x), expected, 1e-5)
    assert len(net.layer_inputs(small, x)["params/layer"]) == (8 if call == "twice" else 4)


def test_layers_that_return_none_beside_their_outputs():
    module, variables, x = around(lambda layer, u: layer(u)[0], returns="None")
    net = network(module, variables=variables)
    small = sr.prune(net.model, {"params/layer": [0, 2]})
    outputs = net.outputs(small, x)
    assert_close(net.rebuild(small)(x), outputs, 1e-5)


def test_layers_with_channels_first():
    def forward(layer, u):
        return layer(u.swapaxes(1, 2)).mean(-1)

    module, variables, x = around(forward, returns="channels first")
    net = network(module, variables=variables, channels_first=True)
    small = sr.prune(net.model, {"params/layer": [0, 2]})
    assert_close(net.rebuild(small)(x), net.outputs(small, x), 1e-5)
    assert net.layer_inputs(small, x)["params/layer"].shape == (4, 7, 2)
    wrong = network(module, variables=variables)
    with pytest.raises(errors.ShapeError, match="channels_first=True"):
        wrong.outputs(wrong.model, x)


def test_keyword_arguments_of_the_call():
    def forward(layer, u, *, scale=1.0):
        return scale * layer(u)

    module, variables, x = around(forward)
    net = network(module, variables=variables, scale=3.0)
    once = network(module, variables=variables)
    assert_close(net.outputs(net.model, x), 3 * once.outputs(once.model, x), 1e-6)
    small = sr.prune(net.model, {"params/layer": [0]})
    assert_close(net.rebuild(small)(x), net.outputs(small, x), 1e-5)


def broken(forward, text, kind=errors.ArgumentError, **options):
    module, variables, x = around(forward, **{k: v for k, v in options.items() if k != "output"})
    net = network(module, variables=variables)
    with pytest.raises(kind, match=text):
        net.outputs(net.model, x)


def test_what_cannot_be_replaced_is_named():
    broken(lambda layer, u: layer(u)[0], r"'params/layer' returns \(.*\), a.* of shape \(4, 3\)\)", returns="state")
    broken(lambda layer, u: layer(u), "jit, remat, scan or grad", wrap=nn.remat)
    broken(lambda layer, u: {"y": layer(u)}, "returns a dict; give output=", kind=errors.EvaluationError)
    broken(
        lambda layer, u: layer(u) if layer.scope.is_mutable_collection("params") else u,
        "did not call params/layer",
        errors.UnknownLayerError,
    )
    module, variables, x = around(lambda layer, u: layer(u))
    net = network(module, variables=variables)
    with pytest.raises(errors.EvaluationError, match=r"failed when it was called with \(.*shape \(4, 7, 5\)"):
        net.outputs(net.model, np.ones((4, 7, 5), dtype=np.float32))
    with pytest.raises(errors.UnknownLayerError):
        net.rebuild(network(classifier(), variables=recorded()[0], adapter=ADAPTER).model)
    live = net.rebuild(sr.prune(net.model, {"params/layer": [0]}))
    with pytest.raises(errors.ArgumentError, match="variables lack log_rate, angle.*variables of the reduced network"):
        live.apply(variables, x)


def test_modules_without_variables_or_flags(stock):
    with pytest.raises(errors.ArgumentError, match="network.module, variables=variables"):
        network(stock)
    with pytest.raises(errors.MissingFlagError, match="conj_sym"):
        network(stock, variables=recorded()[0])
    with pytest.raises(errors.AdapterError, match="recognises"):
        network(nn.Dense(3), variables=nn.Dense(3).init(jax.random.key(0), np.ones((1, 2))))


def test_the_shipped_model_in_flax():
    model = sr.load("examples/s5_digits/model.safetensors")
    with np.load("examples/s5_digits/test.npz") as split:
        x, y = split["x_test"], split["y_test"]
    net = network(classifier(), variables=variables_of(model.params), adapter=ADAPTER)
    assert (net.outputs(net.model, x).argmax(1) == y).sum() == 355
    assert isinstance(net.module, BatchClassificationModel)
