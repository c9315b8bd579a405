"""Reduced Flax and Equinox networks in files, and networks of them again; under jit, scan and remat of Flax."""

import json

import numpy as np
import pytest

import ssmreduce as sr

jax = pytest.importorskip("jax")
nn, nnx, eqx = pytest.importorskip("flax.linen"), pytest.importorskip("flax.nnx"), pytest.importorskip("equinox")
import jax.numpy as jnp  # noqa: E402
from support import equinox_lru, nnx_lru  # noqa: E402

LRU_SHAPES = {"nu_log": "n", "theta_log": "n", "gamma_log": "n", "D": "h"} | {
    f"{matrix}_{part}": shape for matrix, shape in (("B", "nh"), ("C", "hn")) for part in ("re", "im")
}


class LRU(nn.Module):
    """Sequences (..., L, H) in and out."""

    states: int = 6

    @nn.compact
    def __call__(self, u):
        size = {"n": self.states, "h": u.shape[-1]}
        p = {
            key: self.param(key, nn.initializers.normal(0.5), tuple(size[axis] for axis in axes))
            for key, axes in LRU_SHAPES.items()
        }
        B = jnp.exp(p["gamma_log"])[:, None] * (p["B_re"] + 1j * p["B_im"])
        poles = jnp.exp(-jnp.exp(p["nu_log"]) + 1j * jnp.exp(p["theta_log"]))
        return (sr.scan(poles, u @ B.T) @ (p["C_re"] + 1j * p["C_im"]).T).real + p["D"] * u


class Deep(nn.Module):
    """A residual network, its layers plain or under a transformation of Flax."""

    wrap: str = ""
    width: int = 4

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        Layer = {"": LRU, "jit": nn.jit(LRU), "remat": nn.remat(LRU)}[self.wrap]
        for k in range(2):
            x = x + nn.gelu(Layer(name=f"lru_{k}")(x))
        return nn.Dense(3)(x.mean(1))


def made(kind, seed=0):
    """A live object and the keyword arguments of `network`."""
    if kind == "linen":
        module = Deep()
        return module, {"variables": module.init(jax.random.key(seed), np.zeros((1, 5, 1), np.float32))}
    if kind == "nnx":
        module = nnx_lru.DeepLRU(states=6, width=4, rngs=nnx.Rngs(seed))
        module.eval()
        return module, {}
    return equinox_lru.DeepLRU(states=6, width=4, key=jax.random.key(seed)), {}


def sequences(count=12):
    return np.random.default_rng(0).standard_normal((count, 16, 1)).astype(np.float32)


def run(kind, live, x):
    return np.asarray(jax.vmap(live)(x) if kind == "equinox" else live(x))


@pytest.mark.parametrize("kind", ["linen", "nnx", "equinox"])
def test_saved_and_restored(kind, tmp_path):
    (module, options), x = made(kind), sequences()
    net = sr.compress(sr.network(module, **options), [x], ratio=0.5, finish=None, method="eliminate")
    live = net.rebuild(net.model)
    expected = run(kind, live, x)
    sr.networks.save_module(net, tmp_path / "folder", evidence={"accuracy": 0.5})
    sr.networks.save_module(live, tmp_path / "one.safetensors")
    other, others = made(kind, seed=1)
    for path in ("folder", "one.safetensors"):
        again = sr.networks.restore(other, tmp_path / path, **others)
        np.testing.assert_array_equal(run(kind, again, x), expected)
        assert sum(sr.network(again).model.orders.values()) == sum(net.model.orders.values())
        loaded = sr.load(tmp_path / path)
        assert list(loaded.orders.values()) == list(net.model.orders.values())
    assert json.loads(loaded.metadata.get("ssmreduce.record", "{}")).get("ratio", 0.5) == 0.5
    card = (tmp_path / "folder" / "README.md").read_text()
    assert f"library_name: {'equinox' if kind == 'equinox' else 'flax'}" in card
    assert "share of the states to drop: 0.5" in card
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["architectures"] == [type(module).__name__]


def test_files_that_do_not_fit_are_named(tmp_path):
    module, options = made("linen")
    net = sr.network(module, **options)
    small = net.rebuild(sr.prune(net.model, {name: [0, 1] for name in net.model}))
    sr.networks.save_module(small, tmp_path / "s.safetensors")
    with pytest.raises(sr.errors.ArgumentError, match="no drop-in layer"):
        sr.networks.save_module(net, tmp_path / "t.safetensors")
    with pytest.raises(sr.errors.CheckpointFormatError, match=r"it has 'params\.lru_0'"):
        sr.networks.restore(made("equinox")[0], tmp_path / "s.safetensors")
    wide = Deep(width=5)
    variables = wide.init(jax.random.key(0), np.zeros((1, 5, 1), np.float32))
    with pytest.raises(sr.errors.CheckpointFormatError, match="in the file and"):
        sr.networks.restore(wide, tmp_path / "s.safetensors", variables=variables)
    function = sr.network(lambda model, batch, tap=None: batch, model=net.model)
    with pytest.raises(sr.errors.ArgumentError, match=r"save\(network\.model"):
        sr.networks.save_module(function, tmp_path / "t.safetensors")


@pytest.mark.parametrize("wrap", ["jit", "remat"])
def test_the_rebuilt_network_may_use_transformations_of_flax(wrap):
    (module, options), x = made("linen"), sequences(3)
    net = sr.network(module, **options)
    small = sr.prune(net.model, {name: [0, 2, 3 + k] for k, name in enumerate(net.model)})
    live = net.rebuild(small)
    wrapped = sr.networks.ReducedFlax(Deep(wrap), live.variables, live.model, live.structures)
    np.testing.assert_allclose(wrapped(x), live(x), atol=1e-6)  # jit shares what it compiled among equal layers
    gradients = [jax.grad(lambda v, one=one: jnp.sum(one.apply(v, x) ** 2))(live.variables) for one in (wrapped, live)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *gradients)
    with pytest.raises(sr.errors.ArgumentError, match="without these transformations"):
        sr.network(Deep(wrap), **options).outputs(net.model, x)
