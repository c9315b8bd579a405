"""Networks of Equinox and nnx modules: a deep LRU whose layers get another number of states each."""

# ruff: noqa: E402

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import errors

jax = pytest.importorskip("jax")
eqx = pytest.importorskip("equinox")
nnx = pytest.importorskip("flax.nnx")

import jax.numpy as jnp
from support import equinox_lru, nnx_lru
from support.oracles import assert_close

from ssmreduce.networks import EquinoxLayer, EquinoxNetwork, NnxLayer, network


def equinox_module(**options):
    return equinox_lru.DeepLRU(key=jax.random.key(0), **options)


def nnx_module():
    module = nnx_lru.DeepLRU(rngs=nnx.Rngs(0))
    module.eval()
    return module


# Compiled as one: eagerly JAX traces every operation by itself.
KINDS = {
    "equinox": (equinox_module, eqx.filter_jit(lambda module, x: jax.vmap(module)(x)), EquinoxLayer),
    "nnx": (nnx_module, nnx.jit(lambda module, x: module(x)), NnxLayer),
}
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def x(rng):
    return rng.standard_normal((5, 30, 1)).astype(np.float32)


def reduced(model):
    first, second = model
    return sr.prune(model, {first: [0, 3, 4, 7, 11], second: [2, 9]})


def masked(kind, module, small):
    """The module with the outputs of dropped states set to zero."""
    arrays = sr.export(small, form="mask")
    for name in small:
        layer = module
        for key in name.split("."):
            layer = layer[int(key)] if key.isdigit() else getattr(layer, key)
        for key in ("C_re", "C_im"):
            value = jnp.asarray(arrays[f"{name}.{key}"])
            if kind == "nnx":
                setattr(layer, key, nnx.Param(value))
            else:
                place = name.split(".")
                module = eqx.tree_at(lambda m, p=place, k=key: getattr(m.blocks[int(p[1])].lru, k), module, value)
    return module


@kinds
def test_reduced_networks_are_the_masked_originals(x, kind):
    make, run, layer = KINDS[kind]
    net = network(make())
    assert_close(net.outputs(net.model, x), run(make(), x), 1e-5)
    small = reduced(net.model)
    live, expected = net.rebuild(small), run(masked(kind, make(), small), x)
    assert_close(run(live, x), expected, 1e-5)
    assert_close(net.outputs(small, x), expected, 1e-5)
    parts = [live.blocks[0].lru, live.blocks[1].lru] if kind == "equinox" else list(live.layers)
    assert [(type(part), part.structure.states) for part in parts] == [(layer, 5), (layer, 2)]


@kinds
def test_networks_in_double_precision(rng, kind):
    with jax.enable_x64(True):
        x = rng.standard_normal((5, 30, 1))
        make, run, _ = KINDS[kind]

        def wide():
            if kind == "nnx":
                graph, state = nnx.split(make())
                return nnx.merge(graph, jax.tree.map(_as_double, state))
            return jax.tree.map(_as_double, make())

        net = network(wide())
        small = reduced(net.model)
        live = net.rebuild(small)
        assert_close(run(live, x), run(masked(kind, wide(), small), x), 1e-12)


def _as_double(leaf):
    return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf


def test_transformations_of_equinox(x):
    net = network(equinox_module())
    small = reduced(net.model)
    live, run = net.rebuild(small), KINDS["equinox"][1]
    assert_close(run(live, x), jax.vmap(live)(x), 1e-6)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(run(m, x) ** 2)))
    got, wanted = gradient(live), gradient(masked("equinox", equinox_module(), small))
    for part in ("encoder", "decoder"):
        assert_close(getattr(got, part).weight, getattr(wanted, part).weight, 1e-5)
    assert_close(got.blocks[0].lru.D, wanted.blocks[0].lru.D, 1e-5)
    every = jax.vmap(lambda x: eqx.filter_grad(lambda m: jnp.sum(m(x) ** 2))(live).decoder.bias)(x)
    assert_close(every.sum(0), got.decoder.bias, 1e-5)


def test_transformations_of_nnx(x):
    net = network(nnx_module())
    small = reduced(net.model)
    live = net.rebuild(small)
    assert_close(nnx.jit(lambda m, x: m(x))(live, x), live(x), 1e-6)
    got, wanted = (
        nnx.grad(lambda m: jnp.sum(m(x) ** 2))(module) for module in (live, masked("nnx", nnx_module(), small))
    )
    assert_close(got["encoder"]["kernel"][...], wanted["encoder"]["kernel"][...], 1e-5)


@kinds
def test_reduced_modules_are_read_again(x, kind):
    make, run, _ = KINDS[kind]
    net = network(make())
    small = reduced(net.model)
    live = net.rebuild(small)
    for again in (network(live), network(live, model=net.model)):
        assert again.model.orders == small.orders
        assert_close(again.outputs(again.model, x), run(live, x), 1e-5)
        smaller = sr.prune(again.model, dict(zip(again.model, ([0, 1], [1]), strict=True)))
        assert_close(run(again.rebuild(smaller), x), again.outputs(smaller, x), 1e-5)
    assert isinstance(network(live).model.adapter, sr.adapters.DropIn)
    assert isinstance(network(live, model=net.model).model.adapter, sr.adapters.LRU)


@kinds
def test_gradients_in_the_systems(x, kind):
    """Against autodiff through the live layers: D is a parameter as it is."""
    make, run, _ = KINDS[kind]
    net = network(make())
    small = reduced(net.model)
    z, pull = net.vjp(small, x)
    assert_close(z, net.outputs(small, x), 1e-5)
    gradients = pull(2 * z)
    live = net.rebuild(small)
    if kind == "equinox":
        expected = eqx.filter_grad(lambda m: jnp.sum(run(m, x) ** 2))(live).blocks[1].lru.D
    else:
        expected = nnx.grad(lambda m: jnp.sum(m(x) ** 2))(live)["layers"][1]["D"][...]
    assert_close(np.diag(gradients[list(small)[1]].D), expected, 1e-4)


def test_how_a_module_is_called(x):
    module = equinox_module()
    net = EquinoxNetwork(module, call=lambda module, x: 2 * jax.vmap(module)(x), inputs=1, output=lambda z: z[:, :2])
    assert_close(net.outputs(net.model, ("label", x)), 2 * jax.vmap(module)(x)[:, :2], 1e-5)
    assert list(net.layer_inputs(net.model, ("label", x))) == ["blocks.0.lru", "blocks.1.lru"]
    compiled = EquinoxNetwork(module, call=eqx.filter_jit(lambda module, x: jax.vmap(module)(x)))
    with pytest.raises(errors.ArgumentError, match="inside jit, remat, scan or grad"):
        compiled.outputs(compiled.model, x)
    with pytest.raises(errors.ArgumentError, match="call is 3; a function call"):
        EquinoxNetwork(module, call=3)


def test_a_layer_that_is_no_system_is_named(x):
    class Clipped(equinox_lru.LRU):
        def __call__(self, u):
            return jnp.tanh(super().__call__(u))

    module = eqx.tree_at(lambda m: m.blocks[1].lru, equinox_module(), Clipped(8, 12, key=jax.random.key(3)))
    net = network(module)
    with pytest.raises(errors.EvaluationError, match=r"layer 'blocks.1.lru' is not the system"):
        net.outputs(net.model, x)


def test_compress_and_replace_layers(x):
    module = equinox_module()
    small = sr.compress(module, [x, x[::-1]], ratio=0.5, steps=3, progress=False)
    assert sum(network(small).model.orders.values()) == 12
    assert jax.vmap(small)(x).shape == (5, 4)
    model = reduced(network(module).model)
    again = sr.replace_layers(module, model, batch=x)
    assert_close(jax.vmap(again)(x), network(module).outputs(model, x), 1e-5)
