"""Live networks of the families in JAX beyond S5 and LRU, as their layers are called there."""

# ruff: noqa: E402

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import adapters

jax = pytest.importorskip("jax")
eqx = pytest.importorskip("equinox")
nn = pytest.importorskip("flax.linen")

from support.jax_layers import FLAX, Around, Residual

from ssmreduce.networks import network

ADAPTERS = {
    "annotated_s4d": adapters.AnnotatedS4D(),
    "annotated_s4": adapters.AnnotatedS4(l_max=40),
    "event_ssm": adapters.EventSSM(conj_sym=True, discretization="async", time_step=1.5),
}


@pytest.fixture
def x(rng):
    return rng.standard_normal((4, 24, 1)).astype(np.float32)


def assert_close(got, expected, tolerance=2e-4):
    got, expected = np.asarray(got), np.asarray(expected)
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def halved(model):
    return sr.prune(model, sr.select(sr.score(model, sr.selection.finite_horizon_h2(24)), ratio=0.4, scope="system"))


@pytest.mark.parametrize("discretization", ["IM", "IMEX"])
def test_linoss_in_equinox(x, discretization):
    module = Residual(discretization, key=jax.random.key(0))
    net = network(module, adapter=adapters.LinOSS(discretization=discretization))
    assert_close(net.outputs(net.model, x), jax.vmap(module)(x))
    small = halved(net.model)
    live = net.rebuild(small)
    assert sum(small[name].order for name in small) == 12
    assert_close(jax.vmap(live)(x), net.outputs(small, x))
    arrays = sr.export(small, form="mask")  # the stock layers with the outputs of the dropped oscillators silenced
    blocks = [_with_arrays(block, arrays, f"blocks.{i}") for i, block in enumerate(module.blocks)]
    assert_close(jax.vmap(eqx.tree_at(lambda m: m.blocks, module, blocks))(x), jax.vmap(live)(x))


def test_s4d_in_equinox(x):
    module = Residual("s4d", key=jax.random.key(0))
    net = network(module, adapter=adapters.S4D())
    assert_close(net.outputs(net.model, x), jax.vmap(module)(x))
    small = halved(net.model)
    assert_close(jax.vmap(net.rebuild(small))(x), net.outputs(small, x))


def _with_arrays(block, arrays, name):
    leaves = ("A_diag", "B", "C", "D", "steps")
    values = [jax.numpy.asarray(arrays[f"{name}.{leaf}"]) for leaf in leaves]
    return eqx.tree_at(lambda b: [getattr(b, leaf) for leaf in leaves], block, values)


@pytest.mark.parametrize("family", FLAX)
def test_families_in_flax(x, family):
    layer, options, times = FLAX[family]
    module = Around(layer, options, times)
    variables = module.init(jax.random.key(1), x)
    net = network(module, variables=variables, adapter=ADAPTERS[family])
    assert len(net.model) == 2
    assert_close(net.outputs(net.model, x), module.apply(variables, x))
    small = halved(net.model)
    live = net.rebuild(small)
    assert all(small[name].order < net.model[name].order for name in small)
    assert_close(live(x), net.outputs(small, x))
    if family == "annotated_s4":
        return  # it is written as S4D, which its own class does not run
    arrays = sr.export(small, form="mask")
    masked = jax.tree_util.tree_map_with_path(lambda path, _: arrays["/".join(key.key for key in path)], variables)
    assert_close(module.apply(masked, x), live(x))


def test_compressed_oscillators_need_not_be_oscillators(x):
    """The refit gives the two poles of a pair outputs of their own, which LinOSS cannot hold and a live network can."""
    module, adapter = Residual("IM", key=jax.random.key(0)), adapters.LinOSS(discretization="IM")
    net = network(module, adapter=adapter)
    small = sr.compress(net, [np.concatenate([x] * 3)], ratio=0.4, finish=None)
    assert sum(small.model.orders.values()) == 12
    assert_close(jax.vmap(net.rebuild(small.model))(x), small.outputs(small.model, x))


def test_features_inside_vmap_are_named(x):
    class Feature(nn.Module):
        @nn.compact
        def __call__(self, u):
            for name in ("A_re", "A_im", "B_re", "B_im"):
                self.param(name, nn.initializers.constant(-0.5), (3,))
            self.param("C", nn.initializers.ones, (3, 2))
            return u * self.param("D", nn.initializers.ones, (1,)) * self.param("log_step", nn.initializers.ones, (1,))

    features = nn.vmap(Feature, in_axes=1, out_axes=1, variable_axes={"params": 1}, split_rngs={"params": True})
    module = Around(features, {})
    net = network(module, variables=module.init(jax.random.key(0), x), adapter=adapters.AnnotatedS4D())
    with pytest.raises(sr.errors.ShapeError, match="feature by feature, as inside vmap"):
        net.outputs(net.model, x)
