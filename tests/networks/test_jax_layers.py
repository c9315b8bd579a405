"""Drop-in layers of Flax, nnx and Equinox against a loop in NumPy and against autodiff through a plain scan."""

# ruff: noqa: E402

from dataclasses import replace

import numpy as np
import pytest
from support.oracles import assert_close

import ssmreduce as sr
from ssmreduce import errors

jax = pytest.importorskip("jax")
pytest.importorskip("flax")
pytest.importorskip("equinox")

import equinox as eqx
import flax.linen as nn
import flax.serialization
import jax.numpy as jnp
from flax import nnx

from ssmreduce.networks import EquinoxLayer, FlaxLayer, NnxLayer


def draw(rng, *, batch=(), n=5, m=3, p=2, bidirectional=False, conj_sym=True, diagonal=False):
    """Slow, fast, real, oscillating poles; one at 0 and one outside the unit circle."""
    radius = 1 - 10.0 ** rng.uniform(-3, -0.3, (*batch, n))
    Lambda = radius * np.exp(1j * rng.uniform(-np.pi, np.pi, (*batch, n)))
    Lambda[..., 0], Lambda[..., 1] = 0.0, 1.003 * np.exp(0.4j)

    def normal(*shape):
        return rng.standard_normal((*batch, *shape)) + 1j * rng.standard_normal((*batch, *shape))

    D = rng.standard_normal((*batch, p, m))
    if diagonal:
        D = D * np.eye(p, m)
    reverse = normal(p, n) if bidirectional else None
    return sr.DiagonalSSM(Lambda, normal(n, m), normal(p, n), D, reverse, conj_sym=conj_sym)


def ragged(rng):
    """Features with 5, 0, 2, 5 and 1 states, the others silent."""
    ssm = draw(rng, batch=(5,), m=1, p=1)
    there = np.arange(5) < np.array([5, 0, 2, 5, 1])[:, None]
    return replace(ssm, B=ssm.B * there[..., None], C=ssm.C * there[:, None, :])


KINDS = {
    "one system": draw,
    "vector D": lambda rng: draw(rng, p=3, diagonal=True),
    "all states stored": lambda rng: draw(rng, conj_sym=False),
    "bidirectional": lambda rng: draw(rng, bidirectional=True),
    "features": lambda rng: draw(rng, batch=(4,), m=1, p=1),
    "ragged features": ragged,
    "bidirectional features": lambda rng: draw(rng, batch=(4,), m=1, p=1, bidirectional=True),
    "systems of several channels": lambda rng: draw(rng, batch=(2, 2), m=3, p=2),
    "no states": lambda rng: draw(rng, batch=(3,), n=2, m=1, p=1).__class__(
        np.full((3, 2), 0.5), np.zeros((3, 2, 1)), np.zeros((3, 1, 2)), rng.standard_normal((3, 1, 1))
    ),
}
kinds = pytest.mark.parametrize("kind", KINDS)
CAUSAL = [kind for kind in KINDS if "bidirectional" not in kind]


def loop(ssm, u):
    """Outputs (L, s * p) of one sequence (L, s * m), sample by sample."""
    systems = ssm.systems
    flat = [np.reshape(a, (systems, *a.shape[len(ssm.batch) :])) for a in (ssm.Lambda, ssm.B, ssm.C, ssm.D)]
    reverse = [None] * systems if ssm.C_reverse is None else ssm.C_reverse.reshape(flat[2].shape)
    v = u.reshape(len(u), systems, ssm.inputs)
    y = np.zeros((len(u), systems, ssm.outputs))
    for s, (Lambda, B, C, D, R) in enumerate(zip(*flat, reverse, strict=True)):
        for M, order in ((C, range(len(u))), (R, reversed(range(len(u))))):
            x = np.zeros(ssm.order, dtype=complex)
            for k in order if M is not None else ():
                x = Lambda * x + B @ v[k, s]
                y[k, s] += ssm.kappa * (M @ x).real
        y[:, s] += v[:, s] @ D.T
    return y.reshape(len(u), -1)


class Flax:
    """A Flax layer with its variables, called as the others are."""

    def __init__(self, ssm, dtype):
        self.layer = FlaxLayer(ssm, param_dtype=dtype)
        width = ssm.inputs * ssm.systems
        self.variables = self.layer.init(jax.random.key(0), jnp.zeros((2, width), dtype))

    def __call__(self, u):
        return self.layer.apply(self.variables, u)

    def __getattr__(self, name):
        return lambda *args: self.layer.apply(self.variables, *args, method=name)


MAKERS = {
    "flax": Flax,
    "nnx": lambda ssm, dtype: NnxLayer(ssm, dtype=dtype),
    "equinox": lambda ssm, dtype: EquinoxLayer(ssm, dtype=dtype),
}
makers = pytest.mark.parametrize("maker", MAKERS)
# every kind once, and every framework: the arithmetic is one
cases = pytest.mark.parametrize(
    ("kind", "maker"), [(kind, "equinox") for kind in KINDS] + [("bidirectional", "flax"), ("ragged features", "nnx")]
)
causal = pytest.mark.parametrize(
    ("kind", "maker"), [(kind, "equinox") for kind in CAUSAL] + [("vector D", "flax"), ("ragged features", "nnx")]
)


@cases
@pytest.mark.usefixtures("double")
def test_layers_are_their_systems_in_double_precision(rng, kind, maker):
    ssm = KINDS[kind](rng)
    u = rng.standard_normal((2, 23, ssm.inputs * ssm.systems))
    y = MAKERS[maker](ssm, jnp.float64)(jnp.asarray(u))
    assert y.dtype == np.float64
    assert_close(y, np.stack([loop(ssm, sequence) for sequence in u]), 1e-12)


@kinds
def test_layers_are_their_systems_in_single_precision(rng, kind):
    ssm = KINDS[kind](rng)
    u = rng.standard_normal((40, ssm.inputs * ssm.systems)).astype(np.float32)
    y = EquinoxLayer(ssm)(u)
    assert y.dtype == np.float32
    assert_close(y, loop(ssm, u.astype(float)), 1e-5)


@makers
def test_layers_keep_the_precision_of_their_input(rng, maker):
    layer = MAKERS[maker](draw(rng), jnp.float32)
    assert layer(jnp.ones((4, 3), jnp.bfloat16)).dtype == jnp.bfloat16


@causal
@pytest.mark.usefixtures("double")
def test_chunks_carry_their_state(rng, kind, maker):
    ssm = KINDS[kind](rng)
    u = rng.standard_normal((2, 23, ssm.inputs * ssm.systems))
    layer = MAKERS[maker](ssm, jnp.float64)
    state, chunks = layer.initial_state(2), []
    for part in np.split(u, [1, 9, 10], axis=1):
        y, state = layer.run(jnp.asarray(part), state)
        chunks.append(y)
    whole = layer(jnp.asarray(u))
    assert_close(np.concatenate(chunks, axis=1), whole, 1e-12)


@causal
def test_steps_are_the_parallel_form(rng, kind, maker):
    ssm = KINDS[kind](rng)
    ssm = replace(ssm, Lambda=np.where(np.abs(ssm.Lambda) > 1, 0.999 * np.exp(1.5j), ssm.Lambda))
    u = rng.standard_normal((16_384, ssm.inputs * ssm.systems)).astype(np.float32)
    layer = MAKERS[maker](ssm, jnp.float32)

    @jax.jit
    def steps(u):
        def one(state, sample):
            y, state = layer.step(sample, state)
            return state, y

        return jax.lax.scan(one, layer.initial_state(), u)[1]

    assert_close(steps(jnp.asarray(u)), layer(jnp.asarray(u)), 1e-5)


def plain(structure, parameters, u):
    """The same layer by complex arithmetic and `lax.scan`, for autodiff: nothing of the library's scan in it."""
    side, unit = jnp.asarray(structure.side), jnp.asarray(structure.unit)
    Lambda = jnp.exp(-side * jnp.exp(parameters["log_rate"]) + 1j * parameters["angle"] * unit)
    B, C = (parameters[key] @ jnp.asarray([1, 1j]) for key in "BC")
    owner = structure.owner
    v = u.reshape(len(u), structure.systems, structure.inputs)
    driven = jnp.einsum("knm,nm->kn", v[:, owner], B)

    def states(reverse):
        start = jnp.zeros(structure.states, driven.dtype)
        return jax.lax.scan(lambda x, w: (Lambda * x + w,) * 2, start, driven, reverse=reverse)[1]

    def observed(x, C):
        parts = (x[..., None] * C).real
        return jnp.zeros((len(u), structure.systems, structure.outputs)).at[:, owner].add(parts)

    y = observed(states(False), C)
    if structure.bidirectional:
        y = y + observed(states(True), parameters["C_reverse"] @ jnp.asarray([1, 1j]))
    D = parameters["D"]
    through = v * D.reshape(structure.systems, -1) if D.ndim == 1 else jnp.einsum("ksm,spm->ksp", v, D)
    return (y + through).reshape(len(u), -1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "no states"])
@pytest.mark.usefixtures("double")
def test_gradients_are_those_of_a_plain_scan(rng, kind):
    ssm = KINDS[kind](rng)
    layer = EquinoxLayer(ssm, dtype=jnp.float64)
    u = jnp.asarray(rng.standard_normal((30, ssm.inputs * ssm.systems)))
    weights = jnp.asarray(rng.standard_normal(layer(u).shape))

    def ours(parameters, u):
        moved = eqx.tree_at(lambda tree: [getattr(tree, k) for k in parameters], layer, list(parameters.values()))
        return jnp.sum(weights * moved(u) ** 2)

    def theirs(parameters, u):
        return jnp.sum(weights * plain(layer.structure, parameters, u) ** 2)

    got, expected = (jax.jit(jax.grad(f, (0, 1)))(layer.parameters, u) for f in (ours, theirs))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert_close(a, b, 1e-9)


def test_gradients_in_single_precision(rng):
    ssm = draw(rng)
    u = rng.standard_normal((64, 3)).astype(np.float32)
    layer = EquinoxLayer(ssm)
    got = eqx.filter_grad(lambda layer: jnp.mean(layer(u) ** 2))(layer).parameters
    expected = jax.grad(lambda p: jnp.mean(plain(layer.structure, p, u) ** 2))(layer.parameters)
    for name in expected:
        assert_close(got[name], expected[name], 1e-5)


@makers
def test_channels_first(rng, maker):
    ssm, u = draw(rng), rng.standard_normal((2, 12, 3)).astype(np.float32)
    classes = {"flax": FlaxLayer, "nnx": NnxLayer, "equinox": EquinoxLayer}
    layer = classes[maker](ssm, channels_first=True)
    turned = u.swapaxes(1, 2)
    y = layer.apply(layer.init(jax.random.key(0), turned), turned) if maker == "flax" else layer(turned)
    assert_close(np.swapaxes(y, 1, 2), EquinoxLayer(ssm)(u), 1e-6)


# ---------------------------------------------------------------- parameters


@kinds
@pytest.mark.usefixtures("double")
def test_layers_give_their_system_back(rng, kind):
    ssm = KINDS[kind](rng)
    u = rng.standard_normal((11, ssm.inputs * ssm.systems))
    for cls in (EquinoxLayer, NnxLayer):
        assert_close(sr.simulate(cls(ssm, dtype=jnp.float64).system(), u), loop(ssm, u), 1e-12)


@pytest.mark.parametrize("kind", ["bidirectional", "ragged features"])
def test_parameters_are_real_and_as_many_as_there_are_states(rng, kind):
    layer = EquinoxLayer(KINDS[kind](rng))
    arrays = jax.tree.leaves(eqx.filter(layer, eqx.is_array))
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}
    states = {"bidirectional": 5, "ragged features": 13}[kind]
    assert all(layer.parameters[key].shape[0] == states for key in ("log_rate", "angle", "B", "C"))


def test_files_of_each_framework(rng, tmp_path):
    ssm, other = draw(rng), draw(rng)
    u = rng.standard_normal((9, 3)).astype(np.float32)
    ours, theirs = Flax(ssm, jnp.float32), Flax(other, jnp.float32)
    restored = flax.serialization.from_bytes(theirs.variables, flax.serialization.to_bytes(ours.variables))
    np.testing.assert_array_equal(ours.layer.apply(restored, u), ours(u))
    eqx.tree_serialise_leaves(tmp_path / "layer.eqx", EquinoxLayer(ssm))
    np.testing.assert_array_equal(
        eqx.tree_deserialise_leaves(tmp_path / "layer.eqx", EquinoxLayer(ssm))(u), EquinoxLayer(ssm)(u)
    )
    graph, state = nnx.split(NnxLayer(ssm))
    np.testing.assert_array_equal(nnx.merge(graph, state)(u), NnxLayer(ssm)(u))


def test_poles_stay_where_they_were(rng):
    """Whatever an optimiser does: inside the unit circle, or outside."""
    layer = EquinoxLayer(draw(rng))
    moved = eqx.tree_at(lambda tree: tree.log_rate, layer, layer.log_rate + rng.normal(0, 3, 5).astype(np.float32))
    before, after = (np.abs(one.system().Lambda) < 1 for one in (layer, moved))
    np.testing.assert_array_equal(before, after)
    np.testing.assert_array_equal(before, [True, False, True, True, True])


def test_layers_inside_vmap_jit_and_remat(rng):
    ssm = draw(rng)
    u = jnp.asarray(rng.standard_normal((4, 9, 3)), jnp.float32)
    layer, expected = Flax(ssm, jnp.float32), EquinoxLayer(ssm)(u)
    mapped = nn.vmap(FlaxLayer, variable_axes={"params": None}, split_rngs={"params": False})(ssm)
    assert_close(mapped.apply(layer.variables, u), expected, 1e-6)
    assert_close(nn.remat(FlaxLayer)(ssm).apply(layer.variables, u), expected, 1e-6)
    assert_close(jax.jit(jax.vmap(lambda one: layer(one)))(u), expected, 1e-6)
    every = jax.vmap(jax.grad(lambda u: jnp.sum(layer(u) ** 2)))(u)
    assert_close(every, jax.grad(lambda u: jnp.sum(layer(u) ** 2))(u), 1e-5)


def test_bad_calls_are_named(rng):
    layer = EquinoxLayer(draw(rng))
    with pytest.raises(errors.ShapeError, match=r"u has shape \(4, 2\); expected \(\.\.\., L, 3\)"):
        layer(jnp.ones((4, 2)))
    with pytest.raises(errors.ShapeError, match=r"state has shape \(4, 2\); expected \(\.\.\., 5, 2\)"):
        layer.run(jnp.ones((4, 3)), jnp.zeros((4, 2)))
    both = EquinoxLayer(draw(rng, bidirectional=True))
    for call in (lambda: both.run(jnp.ones((4, 3)), both.initial_state()), lambda: both.step(jnp.ones(3), None)):
        with pytest.raises(errors.NotCausalError, match="whole sequence"):
            call()
    with pytest.raises(errors.ArgumentError, match="DiagonalSSM is needed"):
        EquinoxLayer("layers.0.seq")
