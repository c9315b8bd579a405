"""The JAX engine: values, derivatives in both modes, jit, vmap, both precisions, the loop and the tree."""

import re

import numpy as np
import pytest
from support.oracles import (
    assert_long_gradients_are_exact,
    assert_long_layer_is_exact,
    complex_normal,
    converted,
    largest_errors,
    loop_scan,
    loop_simulate,
    mp_scan,
    random_ssm,
    slow_scan_case,
)

from ssmreduce import DiagonalSSM, scan, simulate
from ssmreduce.engines import engine_for
from ssmreduce.responses import simulate_chunk

jax = pytest.importorskip("jax")
jnp = jax.numpy

from jax.test_util import check_grads  # noqa: E402

from ssmreduce.engines import _jax  # noqa: E402

DIRECTIONS = pytest.mark.parametrize("reverse", [False, True])


def scan_case(rng, rows=2, length=5, n=3):
    """Lambda (n,), inputs (R, L, n), state (R, n)."""
    Lambda = rng.uniform(0.3, 1.1, n) * np.exp(1j * rng.uniform(-np.pi, np.pi, n))
    return Lambda, complex_normal(rng, rows, length, n), complex_normal(rng, rows, n)


def looped(Lambda, inputs, state, *, reverse):
    return np.array([loop_scan(Lambda, v, x, reverse=reverse) for v, x in zip(inputs, state, strict=True)])


def layer(rng, *, batch=(), bidirectional=True, strict=False, engine=None):
    """Parameters, input and first states of a layer, and how to run it."""
    ssm = random_ssm(rng, 3, 2, 2, batch=batch, bidirectional=bidirectional, conj_sym=True)
    u = rng.normal(size=(2, 4, int(np.prod(batch, dtype=int)) * 2))
    arrays = [ssm.Lambda, ssm.B, ssm.C, ssm.D, u, complex_normal(rng, 2, *batch, 3)]
    if bidirectional:
        arrays.append(ssm.C_reverse)

    def run(Lambda, B, C, D, u, state, C_reverse=None):
        given = {"state": state, "strict_reverse": strict, "engine": engine}
        if bidirectional:
            given["state_reverse"] = state.conj()
        chunk = simulate_chunk(DiagonalSSM(Lambda, B, C, D, C_reverse, True), u, **given)
        return (chunk.output, chunk.state) + ((chunk.state_reverse,) if bidirectional else ())

    return [jnp.asarray(a) for a in arrays], run


def size(results):
    return sum(jnp.sum(jnp.abs(a) ** 2) for a in results)


def assert_trees_close(actual, expected, rtol=1e-11):
    for one, two in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, two, rtol=rtol, atol=rtol * np.abs(two).max(initial=0.0))


def test_it_is_the_default():
    assert engine_for(jnp.ones(1), None) is _jax


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("lead", "length", "batch", "n", "dtype", "strict"),
    [
        ((2, 3), 5, (), 4, np.float64, False),
        ((2, 3), 5, (), 4, np.float32, True),
        ((), 1, (3,), 2, np.float64, True),
        ((0,), 3, (2,), 2, np.float32, False),
        ((2,), 4, (), 0, np.float64, True),
    ],
)
def test_against_loops(rng, lead, length, batch, n, dtype, strict):
    ssm = random_ssm(rng, n, 2, 3, batch=batch, bidirectional=True, conj_sym=True)
    u = rng.normal(size=(*lead, length, int(np.prod(batch, dtype=int)) * 2)).astype(dtype)
    starts = {name: complex_normal(rng, *lead, *batch, n) for name in ("state", "state_reverse")}
    given = {name: jnp.asarray(a) for name, a in starts.items()}
    chunk = simulate_chunk(converted(ssm, jnp.asarray), jnp.asarray(u), **given, strict_reverse=strict, engine="jax")
    expected = loop_simulate(ssm, u.astype(float), **starts, strict=strict)
    tolerance = 1e-12 if dtype is np.float64 else 1e-5
    for actual, value in zip((chunk.output, chunk.state, chunk.state_reverse), expected, strict=True):
        scale = np.abs(value).max(initial=0.0)
        np.testing.assert_allclose(np.asarray(actual), value, rtol=tolerance, atol=tolerance * scale)
    assert chunk.output.dtype == dtype


@DIRECTIONS
@pytest.mark.parametrize("engine", [None, "reference"])
def test_single_precision_needs_no_x64(rng, engine, reverse):
    case = [a.astype(np.complex64) for a in scan_case(rng, length=40)]
    states = scan(*map(jnp.asarray, case), reverse=reverse, engine=engine)
    assert states.dtype == np.complex64
    expected = looped(*case, reverse=reverse)
    np.testing.assert_allclose(states, expected, atol=1e-6 * np.abs(expected).max(), rtol=0)


# ---------------------------------------------------------------- derivatives


def lower_the_tree(patch):
    patch.setattr(_jax.lax, "platform_dependent", lambda *arrays, cpu, default: default(*arrays))


@pytest.fixture(params=["loop", "tree"])
def lowered_form(request, monkeypatch):
    """What processors lower, and what other platforms do."""
    if request.param == "tree":
        lower_the_tree(monkeypatch)
    _jax.scan.clear_cache()
    yield
    _jax.scan.clear_cache()


def both_ways(Lambda, inputs, state):
    return [scan(Lambda, inputs, state, reverse=reverse) for reverse in (False, True)]


def unrolled_both_ways(Lambda, inputs, state):
    states = []
    for v in (inputs, inputs[:, ::-1]):
        steps = [state]
        for k in range(v.shape[1]):
            steps.append(Lambda * steps[-1] + v[:, k])
        states.append(jnp.stack(steps[1:], 1))
    return states[0], states[1][:, ::-1]


@pytest.mark.usefixtures("double", "lowered_form")
def test_derivatives_of_the_scan_are_those_of_differences(rng):
    check_grads(jax.jit(both_ways), tuple(map(jnp.asarray, scan_case(rng))), order=1, modes=["fwd", "rev"])


@pytest.mark.usefixtures("double", "lowered_form")
def test_second_derivatives_are_those_of_an_unrolled_loop(rng):
    """Products with the Hessian, forward over reverse and reverse over reverse."""
    arrays, directions = (tuple(map(jnp.asarray, scan_case(rng, length=3))) for _ in range(2))

    def products(function, *arrays):
        gradient = jax.grad(lambda *a: sum(jnp.sum(jnp.abs(x) ** 4) for x in function(*a)), (0, 1, 2))
        forward = jax.jvp(gradient, arrays, directions)[1]

        def slope(*a):
            return sum(jnp.sum((g * t).real) for g, t in zip(gradient(*a), directions, strict=True))

        return forward, jax.grad(slope, (0, 1, 2))(*arrays)

    assert_trees_close(*(jax.jit(products, static_argnums=0)(f, *arrays) for f in (both_ways, unrolled_both_ways)))


@pytest.mark.usefixtures("double")
def test_derivatives_of_a_layer_are_those_of_differences(rng):
    arrays, run = layer(rng, batch=(2,))
    check_grads(jax.jit(run), arrays, order=1, modes=["fwd", "rev"])


@pytest.mark.usefixtures("double")
def test_derivatives_are_those_of_the_reference_loop(rng):
    arrays, run = layer(rng, strict=True)
    _, plain = layer(rng, strict=True, engine="reference")
    every = tuple(range(len(arrays)))
    assert_trees_close(*(jax.jit(jax.grad(lambda *a, f=f: size(f(*a)), every))(*arrays) for f in (run, plain)))


# ---------------------------------------------------------------- transformations


@pytest.mark.usefixtures("double")
def test_jit_and_vmap(rng):
    arrays, run = layer(rng)
    assert_trees_close(jax.jit(run)(*arrays), run(*arrays))
    Lambdas = jnp.stack([arrays[0], 0.5 * arrays[0], arrays[0].conj()])
    mapped = jax.jit(jax.vmap(run, in_axes=(0, *[None] * 6)))(Lambdas, *arrays[1:])
    for i, one in enumerate(Lambdas):
        assert_trees_close([a[i] for a in mapped], run(one, *arrays[1:]))


@pytest.mark.usefixtures("double")
def test_gradients_of_every_sequence_by_vmap(rng):
    arrays, run = layer(rng, bidirectional=False)
    gradient = jax.jit(jax.grad(lambda Lambda, u, state: size(run(Lambda, *arrays[1:4], u, state))))
    mapped = jax.vmap(gradient, in_axes=(None, 0, 0))(arrays[0], arrays[4], arrays[5])
    for i in range(2):
        assert_trees_close(mapped[i], gradient(arrays[0], arrays[4][i], arrays[5][i]))


@pytest.mark.usefixtures("double")
def test_rematerialised(rng):
    arrays, run = layer(rng, bidirectional=False)
    plain, again = (jax.jit(jax.grad(lambda *a, f=f: size(f(*a))))(*arrays) for f in (run, jax.checkpoint(run)))
    assert_trees_close(again, plain)


def lowered(platform):
    function = jax.jit(jax.grad(lambda Lambda, v: jnp.sum(jnp.abs(scan(Lambda, v)))))
    arrays = jnp.ones(3, jnp.complex64), jnp.ones((2, 64, 3), jnp.complex64)
    return function.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()


def test_accelerators_get_the_tree_and_processors_the_loop():
    """The length is that of the sequence in the loop, that of its logarithm in the tree."""
    bounds = {p: set(re.findall(r"dense<(64|6)> : tensor<i32>", lowered(p))) for p in ("cpu", "cuda", "tpu")}
    assert bounds == {"cpu": {"64"}, "cuda": {"6"}, "tpu": {"6"}}


# ---------------------------------------------------------------- the tree


def by_tree(Lambda, inputs, state, *, reverse):
    pairs = (_jax._parts(jnp.asarray(a)) for a in (np.broadcast_to(Lambda, state.shape), inputs.swapaxes(0, 1), state))
    with pytest.MonkeyPatch.context() as patch:
        lower_the_tree(patch)
        real, imaginary = jax.jit(lambda *a: _jax._pair_scan(*a, reverse))(*pairs)
    return (np.asarray(real) + 1j * np.asarray(imaginary)).swapaxes(0, 1)


@pytest.mark.usefixtures("double")
@DIRECTIONS
@pytest.mark.parametrize("length", [1, 2, 7, 8])
def test_the_tree_is_the_loop(rng, length, reverse):
    case = scan_case(rng, length=length)
    np.testing.assert_allclose(by_tree(*case, reverse=reverse), looped(*case, reverse=reverse), rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- long sequences near the circle


@pytest.mark.parametrize(("angle", "reverse"), [(1.5, False), (np.pi / 2, True)])
def test_long_sequences_in_single_precision(rng, angle, reverse):
    """A quarter of a turn: roundings repeat every fourth sample and add up."""
    case = slow_scan_case(rng, np.complex64, angle=angle)
    exact = looped(*case, reverse=reverse)
    assert largest_errors(scan(*map(jnp.asarray, case), reverse=reverse), exact).max() <= 2e-7


@pytest.mark.parametrize("angle", [1.5, np.pi / 2])
def test_derivatives_of_long_sequences_in_single_precision(rng, angle):
    case = slow_scan_case(rng, np.complex64, angle=angle)
    weights = complex_normal(rng, *case[1].shape).astype(np.complex64)
    gradient = jax.jit(jax.grad(lambda *a: jnp.sum((weights * scan(*a)).real), (0, 1, 2)))
    assert_long_gradients_are_exact(gradient(*map(jnp.asarray, case)), *case, weights)
    Lambda, inputs, _ = map(jnp.asarray, case)
    change = jax.jvp(lambda v: scan(Lambda, v), (inputs,), (jnp.asarray(weights),))[1]
    assert largest_errors(change, looped(case[0], weights, np.zeros_like(case[2]), reverse=False)).max() <= 2e-7


def test_long_sequences_by_the_tree_in_single_precision(rng):
    case = slow_scan_case(rng, np.complex64)
    assert largest_errors(by_tree(*case, reverse=False), looped(*case, reverse=False)).max() <= 2e-6


@pytest.mark.usefixtures("double")
def test_long_sequences_in_double_precision(rng):
    case = slow_scan_case(rng, np.complex128)
    exact = np.array([mp_scan(case[0], v, x) for v, x in zip(*case[1:], strict=True)])
    for states in (scan(*map(jnp.asarray, case)), by_tree(*case, reverse=False)):
        assert largest_errors(states, exact).max() <= 1e-13


@pytest.mark.usefixtures("double")
def test_long_sequences_of_a_layer_in_single_precision(rng):
    assert_long_layer_is_exact(rng, jnp.asarray)


# ---------------------------------------------------------------- training


def test_single_precision_parameters_train(rng):
    """A layer as model code holds it: real float32 leaves in a tree, jax_enable_x64 off."""
    parts = {"decay": (4,), "angle": (4,), "B_re": (4, 2), "B_im": (4, 2), "C_re": (3, 4), "C_im": (3, 4)}
    params = {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in parts.items()}
    u = jnp.asarray(rng.normal(size=(5, 20, 2)), jnp.float32)

    @jax.jit
    def output(p):
        Lambda = jnp.exp(-jnp.exp(p["decay"]) + 1j * p["angle"])
        states = scan(Lambda, u @ (p["B_re"] + 1j * p["B_im"]).T)
        return (states @ (p["C_re"] + 1j * p["C_im"]).T).real

    target = output({name: 1.1 * value for name, value in params.items()})
    step = jax.jit(jax.value_and_grad(lambda p: jnp.mean((output(p) - target) ** 2)))
    losses = []
    for _ in range(3):
        loss, gradient = step(params)
        losses.append(float(loss))
        params = jax.tree.map(lambda p, g: p - 1e-3 * g, params, gradient)
    assert losses[0] > losses[1] > losses[2]
    assert {value.dtype for value in params.values()} == {np.dtype(np.float32)}


def test_systems_need_double_precision(rng):
    from ssmreduce.errors import ArrayKindError

    with pytest.warns(UserWarning, match="float64|complex128"), pytest.raises(ArrayKindError, match="jax_enable_x64"):
        simulate(converted(random_ssm(rng), jnp.asarray), jnp.zeros((4, 3)))
