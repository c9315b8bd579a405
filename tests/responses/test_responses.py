"""simulate, impulse_response and frequency_response against loops, dense realisations and 50 digits."""

from dataclasses import replace

import numpy as np
import pytest
from support.oracles import (
    assert_same_bits,
    complex_normal,
    converted,
    dense_frequency_response,
    loop_simulate,
    mp_frequency_response,
    mp_impulse_response,
    mp_simulate,
    random_ssm,
    system_at,
)

from ssmreduce import DiagonalSSM, frequency_response, impulse_response, simulate
from ssmreduce.engines import _layer
from ssmreduce.errors import ArrayKindError, NonFiniteError, ShapeError, UnknownNameError
from ssmreduce.responses import _responses as responses
from ssmreduce.responses import simulate_chunk

ENGINES = pytest.mark.parametrize("engine", ["numba", "reference"])
HALVES = pytest.mark.parametrize("bidirectional", [False, True])


@ENGINES
@HALVES
@pytest.mark.parametrize("conj_sym", [False, True])
@pytest.mark.parametrize(
    ("lead", "length", "batch", "n", "m", "p", "radius"),
    [
        ((), 9, (), 5, 3, 2, (0.3, 0.98)),
        ((4,), 7, (), 4, 1, 3, (0.3, 0.98)),
        ((2, 3), 5, (), 3, 2, 2, (0.9, 1.3)),
        ((), 1, (), 1, 1, 1, (0.5, 0.6)),
        ((2,), 6, (3,), 2, 1, 1, (0.3, 0.98)),
        ((), 4, (2, 2), 2, 3, 2, (0.3, 1.1)),
        ((2,), 1, (3,), 1, 2, 1, (0.3, 0.98)),
        ((3,), 4, (), 0, 2, 1, (0.3, 0.98)),
        ((0, 2), 3, (2,), 2, 1, 1, (0.3, 0.98)),
    ],
)
def test_against_loops(rng, engine, bidirectional, conj_sym, lead, length, batch, n, m, p, radius):
    ssm = random_ssm(rng, n, m, p, batch=batch, conj_sym=conj_sym, bidirectional=bidirectional, radius=radius)
    u = rng.normal(size=(*lead, length, int(np.prod(batch, dtype=int)) * m))
    state, state_reverse = complex_normal(rng, *lead, *batch, n), complex_normal(rng, *lead, *batch, n)
    for array in (u, state, state_reverse):
        array.flags.writeable = False  # an engine that wrote into its input would fail
    starts = {"state": state, "state_reverse": state_reverse} if bidirectional else {"state": state}
    chunk = simulate_chunk(ssm, u, **starts, engine=engine)
    expected = loop_simulate(ssm, u, **starts)
    assert chunk.output.dtype == np.float64
    np.testing.assert_allclose(chunk.output, expected[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(chunk.state, expected[1], rtol=1e-12, atol=1e-12)
    if bidirectional:
        np.testing.assert_allclose(chunk.state_reverse, expected[2], rtol=1e-12, atol=1e-12)
    else:
        assert chunk.state_reverse is None
    from_zero = simulate(ssm, u, engine=engine)
    np.testing.assert_allclose(from_zero, loop_simulate(ssm, u)[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(
        simulate(ssm, u, initial_state=state, engine=engine), simulate_chunk(ssm, u, state=state, engine=engine).output
    )


@ENGINES
@pytest.mark.parametrize(("dtype", "gap", "rtol"), [(np.float64, 1e-6, 2e-13), (np.float32, 1e-4, 2e-4)])
def test_precision_follows_the_input(rng, engine, dtype, gap, rtol):
    """Poles close to the circle over many steps: the error is that of the arithmetic, not of the method."""
    ssm = random_ssm(rng, 3, 2, 2, radius=(1 - gap, 1 - gap / 10))
    u = rng.normal(size=(400, 2)).astype(dtype)
    chunk = simulate_chunk(ssm, u, engine=engine)
    assert chunk.output.dtype == dtype
    assert chunk.state.dtype == (np.complex64 if dtype is np.float32 else np.complex128)
    exact = mp_simulate(ssm, u)
    np.testing.assert_array_less(np.abs(chunk.output - exact).max(), rtol * np.abs(exact).max())


def held_in_single(array):
    return array.astype(np.complex64 if array.dtype.kind == "c" else np.float32).astype(array.dtype)


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize(("batch", "n", "width"), [((), 4, 2), ((2,), 2, 1)])
def test_long_sequences_of_slow_poles_by_the_reference(rng, dtype, limit, batch, n, width):
    """Poles with 1 - abs(lambda) from 1e-6 to 0.1; parameters that both precisions hold exactly."""
    strict = pytest.importorskip("array_api_strict")
    angles = rng.uniform(-np.pi, np.pi, (*batch, n))
    Lambda = (1 - np.geomspace(1e-6, 0.1, angles.size).reshape(angles.shape)) * np.exp(1j * angles)
    ssm = replace(random_ssm(rng, n, width, width, batch=batch, conj_sym=True), Lambda=Lambda)
    ssm = converted(ssm, held_in_single)
    u = rng.normal(size=(16384, 2)).astype(dtype)
    systems = [system_at(ssm, index) for index in np.ndindex(*batch)]
    inputs = np.split(u, len(systems), axis=1)
    exact = np.concatenate([mp_simulate(*pair) for pair in zip(systems, inputs, strict=True)], axis=1)
    for as_array in (np.asarray, strict.asarray):
        y = np.asarray(simulate(converted(ssm, as_array), as_array(u), engine="reference"))
        np.testing.assert_array_less(np.abs(y - exact).max(0), limit * np.abs(exact).max(0))


def test_single_precision_rounds_the_parameters_once(rng):
    """u in float32 gives the double result of the rounded system, up to single precision arithmetic, and not worse."""
    ssm = random_ssm(rng, 4, 2, 1, conj_sym=True)
    rounded = converted(ssm, held_in_single)
    u = rng.normal(size=(50, 2)).astype(np.float32)
    exact = simulate(rounded, u.astype(float))
    np.testing.assert_array_less(np.abs(simulate(ssm, u) - exact).max(), 2e-6 * np.abs(exact).max())


@ENGINES
@HALVES
@pytest.mark.parametrize("batch", [(), (2,)])
def test_chunks_equal_one_run(rng, engine, bidirectional, batch):
    ssm = random_ssm(rng, 3, 2, 2, batch=batch, bidirectional=bidirectional)
    u = rng.normal(size=(2, 12, int(np.prod(batch, dtype=int)) * 2))
    bounds = [(0, 5), (5, 6), (6, 12)]
    parts = [u[:, i:j] for i, j in bounds]
    states, reverse_states = [None], [None]
    for part in parts:
        states.append(simulate_chunk(ssm, part, state=states[-1], engine=engine).state)
    for part in reversed(parts):
        reverse_states.append(simulate_chunk(ssm, part, state_reverse=reverse_states[-1], engine=engine).state_reverse)
    outputs = [
        simulate_chunk(ssm, part, state=state, state_reverse=reverse, engine=engine).output
        for part, state, reverse in zip(parts, states, reversed(reverse_states[:-1]), strict=False)
    ]
    whole = simulate_chunk(ssm, u, engine=engine)
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), whole.output, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(states[-1], whole.state, rtol=1e-12, atol=1e-12)
    if bidirectional:
        np.testing.assert_allclose(reverse_states[-1], whole.state_reverse, rtol=1e-12, atol=1e-12)


@HALVES
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("size", [1, 3 * 150 * 2 * 3 * 16])  # blocks of 64 steps, and of 3 sequences
def test_blocks_change_nothing(rng, monkeypatch, bidirectional, strict, size):
    ssm = random_ssm(rng, 3, 2, 2, batch=(2,), bidirectional=bidirectional)
    u, state = rng.normal(size=(7, 150, 4)), complex_normal(rng, 7, 2, 3)
    given = {"state": state, "strict_reverse": strict and bidirectional}
    whole = simulate_chunk(ssm, u, **given, engine="reference")
    monkeypatch.setattr(_layer, "_BLOCK_BYTES", size)
    split = simulate_chunk(ssm, u, **given, engine="numba")
    np.testing.assert_allclose(split.output, whole.output, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(split.state, whole.state, rtol=1e-12, atol=1e-12)
    if bidirectional:
        np.testing.assert_allclose(split.state_reverse, whole.state_reverse, rtol=1e-12, atol=1e-12)


@ENGINES
@pytest.mark.parametrize(("lead", "length", "batch"), [((2,), 6, ()), ((), 1, (3,)), ((3,), 5, (2,))])
def test_strictly_anticausal_reverse_half(rng, engine, lead, length, batch):
    ssm = random_ssm(rng, 4, 2, 3, batch=batch, bidirectional=True, conj_sym=True)
    u = rng.normal(size=(*lead, length, int(np.prod(batch, dtype=int)) * 2))
    starts = {name: complex_normal(rng, *lead, *batch, 4) for name in ("state", "state_reverse")}
    chunk = simulate_chunk(ssm, u, **starts, strict_reverse=True, engine=engine)
    expected = loop_simulate(ssm, u, **starts, strict=True)
    for actual, value in zip((chunk.output, chunk.state, chunk.state_reverse), expected, strict=True):
        np.testing.assert_allclose(actual, value, rtol=1e-12, atol=1e-12)


def test_a_system_is_made_ready_once(rng, monkeypatch):
    ssm, u = random_ssm(rng), rng.normal(size=(4, 3))
    first = simulate(ssm, u)
    monkeypatch.setattr(responses, "_layer", None)  # would fail if it were called again
    assert_same_bits(simulate(ssm, u), first)
    with pytest.raises(TypeError):
        simulate(ssm, u.astype(np.float32))


def test_engines_agree_on_strided_input(rng):
    ssm = random_ssm(rng, 4, 2, 3, bidirectional=True)
    u = np.asfortranarray(rng.normal(size=(6, 10, 2)))[::2, ::-1]
    np.testing.assert_allclose(
        simulate(ssm, u, engine="numba"), simulate(ssm, u, engine="reference"), rtol=1e-13, atol=1e-13
    )


def test_integers_and_half_precision_are_promoted(rng):
    ssm = random_ssm(rng)
    u = rng.integers(-3, 4, size=(4, 3))
    expected = simulate(ssm, u.astype(float))
    for given in (u, u.astype(np.float16), u.tolist()):
        assert_same_bits(simulate(ssm, given), expected)
    assert_same_bits(
        simulate(ssm, u, initial_state=[1, 2, 3, 4, 5]), simulate(ssm, u, initial_state=np.arange(1.0, 6.0))
    )


@HALVES
@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_other_libraries(rng, as_array, bidirectional, batch, dtype):
    ssm = random_ssm(rng, 4, 2, 3, batch=batch, bidirectional=bidirectional, conj_sym=True)
    u = rng.normal(size=(2, 6, int(np.prod(batch, dtype=int)) * 2)).astype(dtype)
    state = complex_normal(rng, 2, *batch, 4)
    expected = simulate_chunk(ssm, u, state=state)
    actual = simulate_chunk(converted(ssm, as_array), as_array(u), state=as_array(state))
    assert type(actual.output) is type(as_array(u))
    assert np.asarray(actual.output).dtype == dtype
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    for name in ("output", "state") + (("state_reverse",) if bidirectional else ()):
        np.testing.assert_allclose(
            np.asarray(getattr(actual, name)), getattr(expected, name), rtol=tolerance, atol=tolerance
        )
    with pytest.raises(UnknownNameError, match="engine 'numba' serves NumPy arrays"):
        simulate(converted(ssm, as_array), as_array(u), engine="numba")


@HALVES
def test_frequencies_and_impulses_in_other_libraries(rng, as_array, bidirectional):
    ssm = random_ssm(rng, 4, 2, 3, batch=(2,), bidirectional=bidirectional, conj_sym=True)
    other, omega = converted(ssm, as_array), rng.uniform(0, np.pi, 5)
    np.testing.assert_allclose(
        np.asarray(frequency_response(other, as_array(omega))), frequency_response(ssm, omega), rtol=1e-12
    )
    np.testing.assert_allclose(np.asarray(impulse_response(other, 6)), impulse_response(ssm, 6), rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("u", "error", "message"),
    [
        (np.zeros((0, 3)), ShapeError, r"u has shape \(0, 3\); expected \(\.\.\., L, 3\) with L >= 1"),
        (np.zeros((4, 2)), ShapeError, r"u has shape \(4, 2\)"),
        (np.zeros(3), ShapeError, r"u has shape \(3,\)"),
        (np.full((4, 3), np.nan), NonFiniteError, "u holds NaN"),
        (np.full((4, 3), np.inf, np.float32), NonFiniteError, "u holds NaN or infinite"),
        (np.zeros((4, 3), complex), ArrayKindError, "u must be real, got dtype complex128"),
    ],
)
def test_bad_input(rng, u, error, message):
    with pytest.raises(error, match=message):
        simulate(random_ssm(rng, 5, 3, 2), u)


@pytest.mark.parametrize("shape", [(4,), (5, 1), (2, 4), (1, 5), ()])
def test_bad_state(rng, shape):
    ssm = random_ssm(rng, 5, 3, 2, bidirectional=True)
    for name in ("state", "state_reverse"):
        with pytest.raises(ShapeError) as caught:
            simulate_chunk(ssm, np.zeros((2, 4, 3)), **{name: np.zeros(shape)})
        assert f"{name} has shape {shape}, expected (2, 5)" in str(caught.value)
    with pytest.raises(NonFiniteError, match="state holds NaN"):
        simulate(ssm, np.zeros((4, 3)), initial_state=np.full(5, np.nan))


def test_reverse_state_of_a_causal_system(rng):
    with pytest.raises(ShapeError, match="causal system"):
        simulate_chunk(random_ssm(rng), np.zeros((4, 3)), state_reverse=np.zeros(5))
    with pytest.raises(ShapeError, match="strict_reverse was given for a causal system"):
        simulate(random_ssm(rng), np.zeros((4, 3)), strict_reverse=True)


def test_unknown_engine(rng):
    with pytest.raises(UnknownNameError, match="no engine 'cuda'; choose from reference, numba"):
        simulate(random_ssm(rng), np.zeros((4, 3)), engine="cuda")


@ENGINES
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("place", [0, 77, -1])
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite(rng, engine, dtype, place, value):
    ssm, u = random_ssm(rng), np.full((2, 40, 3), np.finfo(dtype).max, dtype)
    u[:, :, 1] = -0.0
    with np.errstate(over="ignore", invalid="ignore"):
        simulate(ssm, u, engine=engine)  # the largest numbers are welcome
    u.flat[place] = value
    with pytest.raises(NonFiniteError, match="u holds NaN or infinite values"):
        simulate(ssm, u, engine=engine)
    with pytest.raises(NonFiniteError, match="u holds NaN or infinite values"):
        simulate(ssm, np.asfortranarray(u)[:, ::-1], engine=engine)


@pytest.mark.parametrize("shape", [(40, 4, 3), (5, 1, 1, 40), (1, 1, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 7, 500])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_inputs_that_reach_nothing_must_be_finite_too(shape, dtype, length, value):
    """All parameters are 0: engines that look at what became of the inputs still see it."""
    n, p, m, *batch = shape
    ssm = DiagonalSSM(*(np.zeros((*batch, *last)) for last in ((n,), (n, m), (p, n), (p, m))))
    width = int(np.prod(batch)) * m
    for k in {0, length // 2, length - 1}:
        for column in {0, width - 1}:
            u = np.zeros((3, length, width), dtype)
            u[1, k, column] = value
            for threads in (1, 2):
                with pytest.raises(NonFiniteError, match="u holds NaN or infinite values"):
                    simulate(ssm, u, threads=threads)


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_must_be_positive(rng, threads):
    with pytest.raises(UnknownNameError, match=f"threads must be at least 1, got {threads}"):
        simulate(random_ssm(rng), np.zeros((4, 3)), threads=threads)


def test_foreign_input(rng, as_array):
    """Arrays of another library than the system's, or of a precision that is not computed in."""
    ssm = random_ssm(rng)
    with pytest.raises(ArrayKindError, match="one library, got .*numpy"):
        simulate(ssm, as_array(np.zeros((4, 3))))
    with pytest.raises(ArrayKindError, match="expected float32 or float64"):
        simulate(converted(ssm, as_array), as_array(np.zeros((4, 3), np.int32)))


# ---------------------------------------------------------------- impulse and frequency responses


@HALVES
@pytest.mark.parametrize("batch", [(), (2,)])
def test_impulse_response_is_what_simulate_gives(rng, bidirectional, batch):
    ssm = random_ssm(rng, 4, 2, 3, batch=batch, bidirectional=bidirectional, conj_sym=True)
    for length in (1, 2, 5, 8):
        response = impulse_response(ssm, length)
        lags = 2 * length - 1 if bidirectional else length
        assert response.shape == (*batch, lags, 3, 2)
        for index in np.ndindex(*batch):
            for channel in range(2):
                u = np.zeros((lags, 2))
                u[length - 1 if bidirectional else 0, channel] = 1.0
                expected = simulate(system_at(ssm, index), u)
                np.testing.assert_allclose(response[index][..., channel], expected, rtol=1e-12, atol=1e-14)


def test_long_impulse_response_against_powers(rng):
    ssm = random_ssm(rng, 3, 1, 1, radius=(1 - 1e-5, 1 - 1e-7), conj_sym=True)
    expected = mp_impulse_response(ssm, 1000)
    response = impulse_response(ssm, 1000)[:, 0, 0]
    np.testing.assert_array_less(np.abs(response - expected).max(), 1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("length", [0, -1])
def test_impulse_response_needs_a_lag(rng, length):
    with pytest.raises(ShapeError, match=f"length must be at least 1, got {length}"):
        impulse_response(random_ssm(rng), length)


@HALVES
@pytest.mark.parametrize("conj_sym", [False, True])
def test_frequency_response_is_the_transform_of_the_impulse_response(rng, bidirectional, conj_sym):
    ssm = random_ssm(rng, 4, 2, 3, batch=(2,), bidirectional=bidirectional, conj_sym=conj_sym, radius=(0.2, 0.7))
    omega = rng.uniform(-np.pi, np.pi, 11)
    response = impulse_response(ssm, 120)  # 0.7 ** 120 = 3e-19
    lags = np.arange(response.shape[1]) - (119 if bidirectional else 0)
    expected = np.einsum("skpm,kw->swpm", response, np.exp(-1j * np.outer(lags, omega)))
    np.testing.assert_allclose(frequency_response(ssm, omega), expected, rtol=1e-12, atol=1e-12)


@HALVES
@pytest.mark.parametrize("conj_sym", [False, True])
@pytest.mark.parametrize("radius", [(0.3, 0.98), (1.1, 1.6)])
def test_frequency_response_against_dense(rng, bidirectional, conj_sym, radius):
    ssm = random_ssm(rng, 4, 2, 3, bidirectional=bidirectional, conj_sym=conj_sym, radius=radius)
    omega = [0.0, 0.4, 2.0, np.pi, -1.0, 9.0]
    np.testing.assert_allclose(frequency_response(ssm, omega), dense_frequency_response(ssm, omega), rtol=1e-11)


@HALVES
@pytest.mark.parametrize("gap", [1e-9, 1e-10, 1e-11, 1e-12])
@pytest.mark.parametrize("angle", [0.0, 0.7, 3.1, np.pi, -2.0])
def test_resonances_near_the_circle(bidirectional, gap, angle):
    Lambda = [(1 - gap) * np.exp(1j * angle), 0.5j]
    reverse = [[1 - 0.3j, 0.2]] if bidirectional else None
    ssm = DiagonalSSM(Lambda, [[1.0], [2.0j]], [[2 + 0.5j, 1.0]], [[0.3]], reverse, True)
    omega = abs(angle) + gap * np.array([-100.0, -3.0, -1.0, 0.0, 0.5, 2.0, 100.0])
    expected = mp_frequency_response(ssm, omega)
    # The angle of the pole is rounded to 4e-16; seen from the distance `gap` that is 4e-16 / gap of the response.
    np.testing.assert_allclose(frequency_response(ssm, omega)[:, 0, 0], expected, rtol=1e-15 / gap + 1e-14)


@pytest.mark.parametrize("gap", [1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("angle", [0.7, 3.0, -2.0])
def test_peak_of_a_resonance(gap, angle):
    """At the top an error of the angle is of second order: the height shows how accurate 1 - |lambda| is."""
    ssm = DiagonalSSM([(1 - gap) * np.exp(1j * angle)], [[1.0]], [[2 + 0.5j]], [[0.3]], conj_sym=True)
    peak = frequency_response(ssm, [abs(angle)]).ravel()
    expected = mp_frequency_response(ssm, [abs(angle)])
    np.testing.assert_allclose(np.abs(peak), np.abs(expected), rtol=(1e-15 / gap) ** 2 + 1e-14)


@pytest.mark.parametrize("omega", [0.5, [[0.1, 0.2]]])
def test_frequencies_have_one_axis(rng, omega):
    with pytest.raises(ShapeError, match=r"omega must have one axis, got shape"):
        frequency_response(random_ssm(rng), omega)


def test_frequencies_must_be_finite_and_real(rng):
    with pytest.raises(NonFiniteError, match="omega holds NaN"):
        frequency_response(random_ssm(rng), [0.1, np.nan])
    with pytest.raises(ArrayKindError, match="omega must be real"):
        frequency_response(random_ssm(rng), [0.1j])
