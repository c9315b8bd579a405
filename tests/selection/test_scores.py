"""Criteria against plain transcriptions of their formulas, allocations against their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.norm_oracles import gain_on_grids
from support.oracles import converted, lru_tree, model_of, random_ssm, s4d_tree, s5_tree, scaled

import ssmreduce as sr
from ssmreduce.errors import (
    ArrayKindError,
    NonFiniteError,
    SelectionError,
    ShapeError,
    SSMReduceError,
    UnknownNameError,
)
from ssmreduce.selection._scores import CRITERIA, PRESETS

S5 = sr.adapters.S5(conj_sym=True, discretization="zoh")
HALVES = pytest.mark.parametrize("bidirectional", [False, True])


def alone(ssm, i):
    """State i as a system of its own."""
    reverse = ssm.C_reverse[:, i : i + 1] if ssm.bidirectional else None
    return sr.DiagonalSSM(
        ssm.Lambda[i : i + 1], ssm.B[i : i + 1], ssm.C[:, i : i + 1], 0 * ssm.D, reverse, conj_sym=ssm.conj_sym
    )


def transcribed(ssm, name):
    """One criterion, state by state, from the formulas of the papers and of the released code."""
    values = []
    for i in range(ssm.order):
        b = np.linalg.norm(ssm.B[i])
        c, r = np.linalg.norm(ssm.C[:, i]), 0.0
        if ssm.bidirectional:
            r = np.linalg.norm(ssm.C_reverse[:, i])
        radius = abs(ssm.Lambda[i])
        released_c = (c + r) / 2**2 if ssm.bidirectional else c**2  # the slip: C enters linearly, over 4
        overlap = 2 * np.vdot(ssm.C[:, i], ssm.C_reverse[:, i]).real * b**2 if ssm.bidirectional else 0.0
        values.append(
            {
                "hinf": ((c + r) * b / (1 - radius)) ** 2,
                "pair_hinf": gain_on_grids(alone(ssm, i)) ** 2,
                "h2": (c**2 + r**2) * b**2 / (1 - radius**2) + overlap,
                "magnitude": radius**2 * b**2 * (c + r) ** 2,
                "hinf_reference": released_c * b**2 / ((1 - radius) ** 2 + 1e-8),
                "h2_reference": released_c * b**2 / (1 - radius**2 + 1e-8),
            }[name]
        )
    return np.array(values)


def layer_adaptive(values):
    """Each value over the sum of all of its layer that are not smaller; of equal ones the first comes first."""
    result = []
    for i, value in enumerate(values):
        not_smaller = [v for j, v in enumerate(values) if v > value or (v == value and j <= i)]
        total = sum(v for v in not_smaller if np.isfinite(v))
        result.append(value if np.isinf(value) else value / total if total else 0.0)
    return np.array(result)


def s5_model(rng, *, bidirectional=False, layers=3):
    return model_of(*(s5_tree(rng, bidirectional=bidirectional) for _ in range(layers)), adapter=S5)


def fixed(*values):
    """Callable criterion that gives one list a layer, in turn."""
    remaining = iter(values)
    return lambda ssm: np.array(next(remaining), dtype=float)


# ---------------------------------------------------------------- criteria


@HALVES
@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("conj_sym", [False, True])
def test_criteria(rng, name, bidirectional, conj_sym):
    ssm = random_ssm(rng, 7, 3, 2, bidirectional=bidirectional, conj_sym=conj_sym)
    np.testing.assert_allclose(CRITERIA[name](ssm), transcribed(ssm, name), rtol=1e-11)


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_in_other_libraries(rng, as_array, name):
    ssm = random_ssm(rng, 4, 3, 2, batch=(2,), bidirectional=True)
    value = CRITERIA[name](converted(ssm, as_array))
    assert type(value) is type(as_array(np.zeros(1)))
    np.testing.assert_allclose(np.asarray(value), CRITERIA[name](ssm), rtol=1e-12)


def test_unstable_states():
    """The definitions keep them, the released code of LAST values them, that of AIRE drops them first."""
    ssm = sr.DiagonalSSM([0.5, 1.1, 1.0], np.ones((3, 1)), np.ones((1, 3)), [[0]])
    for name in ("hinf", "h2"):
        np.testing.assert_array_equal(np.isinf(CRITERIA[name](ssm)), [False, True, True])
    np.testing.assert_allclose(CRITERIA["hinf_reference"](ssm), [4, 100, 1e8], rtol=1e-6)
    np.testing.assert_allclose(CRITERIA["h2_reference"](ssm), [1 / 0.75, -1 / 0.21, 1e8], rtol=1e-6)
    assert np.isfinite(CRITERIA["magnitude"](ssm)).all()


def test_the_epsilon_of_the_released_code_caps_slow_states():
    ssm = sr.DiagonalSSM([1 - 1e-4, 1 - 1e-6], np.ones((2, 1)), np.ones((1, 2)), [[0]])
    np.testing.assert_allclose(CRITERIA["hinf"](ssm), [1e8, 1e12], rtol=1e-9)
    np.testing.assert_allclose(CRITERIA["hinf_reference"](ssm), [1e8 / 2, 1e8 / 1.0001], rtol=1e-6)


seeds = st.integers(0, 2**32 - 1)


@given(seed=seeds, bidirectional=st.booleans())
def test_definitions_do_not_depend_on_the_scale_of_a_state(seed, bidirectional):
    rng = np.random.default_rng(seed)
    ssm = random_ssm(rng, 5, 2, 3, bidirectional=bidirectional)
    other = scaled(ssm, np.exp(rng.normal(size=5) * 2 + 1j * rng.uniform(0, 6, 5)))
    for name in ("hinf", "pair_hinf", "magnitude", "h2"):
        np.testing.assert_allclose(CRITERIA[name](other), CRITERIA[name](ssm), rtol=1e-9)
    for name in ("hinf_reference", "h2_reference"):
        ratio = CRITERIA[name](other) / CRITERIA[name](ssm)
        if bidirectional:  # C enters linearly: the score moves with the scale
            a = np.linalg.norm(other.B, axis=1) / np.linalg.norm(ssm.B, axis=1)
            np.testing.assert_allclose(ratio, a, rtol=1e-9)
        else:
            np.testing.assert_allclose(ratio, 1, rtol=1e-9)


# ---------------------------------------------------------------- allocations and presets


@HALVES
@pytest.mark.parametrize(
    ("method", "criterion", "allocation", "ties"),
    [
        ("last", "hinf", "layer_adaptive", "stable"),
        ("aire", "h2", "layer_adaptive", "stable"),
        ("lamp", "magnitude", "layer_adaptive", "stable"),
        ("uniform_hinf", "hinf", "uniform", "stable"),
        ("global_hinf", "hinf", "global", "stable"),
        ("uniform_magnitude", "magnitude", "uniform", "stable"),
        ("global_magnitude", "magnitude", "global", "stable"),
        ("last_reference", "hinf_reference", "layer_adaptive", "keep"),
        ("aire_reference", "h2_reference", "layer_adaptive", "keep"),
    ],
)
def test_presets(rng, bidirectional, method, criterion, allocation, ties):
    model = s5_model(rng, bidirectional=bidirectional)
    scores = sr.score(model, method)
    assert (scores.method, scores.allocation, scores.ties) == (method, allocation, ties)
    assert list(scores) == list(model)
    assert len(scores) == 3
    for name, ssm in model.items():
        expected = transcribed(ssm, criterion)
        if allocation == "layer_adaptive":
            expected = layer_adaptive(expected)
            assert scores[name].max() == 1.0
        np.testing.assert_allclose(scores[name], expected, rtol=1e-10)
        with pytest.raises(ValueError, match="read-only"):
            scores[name][0] = 0


def test_every_preset_is_tested():
    """The table above holds all of them but the random one, which has its own test."""
    marks = {mark.args[0]: mark.args[1] for mark in test_presets.pytestmark}
    table = next(rows for names, rows in marks.items() if isinstance(names, tuple))
    assert {row[0] for row in table} | {"random"} == set(PRESETS)


layers = st.lists(
    st.one_of(st.just(0.0), st.just(np.inf), st.integers(0, 4).map(float), st.floats(0, 1e6)), min_size=6, max_size=6
)


@given(values=layers)
def test_layer_adaptive_is_its_definition(values):
    model = model_of(lru_tree(np.random.default_rng(0)))
    scores = sr.score(model, fixed(values), allocation="layer_adaptive")["layers.0"]
    expected = layer_adaptive(values)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    finite = scores[np.isfinite(scores)]
    assert not finite.size or finite.max() in (0.0, 1.0)  # 0 only where all finite values are
    np.testing.assert_array_equal(np.argsort(-scores, kind="stable")[0], np.argmax(values))


def test_layer_adaptive_of_ties_zeros_and_infs(rng):
    model = model_of(lru_tree(rng), lru_tree(rng), lru_tree(rng))
    values = [2, 2, 1, 2, 0, 1], [0, 0, 0, 0, 0, 0], [np.inf, 3, 1, np.inf, 0, 0]
    scores = sr.score(model, fixed(*values), allocation="layer_adaptive")
    np.testing.assert_allclose(scores["layers.0"], [1, 1 / 2, 1 / 7, 1 / 3, 0, 1 / 8], rtol=1e-15)
    np.testing.assert_array_equal(scores["layers.1"], np.zeros(6))
    np.testing.assert_array_equal(scores["layers.2"], [np.inf, 1, 1 / 4, np.inf, 0, 0])


@pytest.mark.parametrize("allocation", ["uniform", "global", "layer_adaptive"])
def test_a_criterion_takes_any_allocation(rng, allocation):
    model = s5_model(rng)
    scores = sr.score(model, "hinf", allocation=allocation)
    assert scores.allocation == allocation
    same_as = {"uniform": "uniform_hinf", "global": "global_hinf", "layer_adaptive": "last"}[allocation]
    for name in model:
        np.testing.assert_array_equal(scores[name], sr.score(model, same_as)[name])
    assert sr.score(model, "hinf").allocation == "global"


def test_the_scope_of_a_batch(rng):
    model = model_of(s4d_tree(rng, n=5, width=3), s4d_tree(rng, n=5, width=3))
    raw = sr.score(model, "hinf")
    over_layer, over_system = sr.score(model, "last"), sr.score(model, "last", scope="system")
    for name in model:
        assert raw[name].shape == (3, 5)
        np.testing.assert_allclose(over_layer[name].ravel(), layer_adaptive(raw[name].ravel()), rtol=1e-12)
        for row, values in zip(over_system[name], raw[name], strict=True):
            np.testing.assert_allclose(row, layer_adaptive(values), rtol=1e-12)


def test_random(rng):
    model = s5_model(rng)
    first, again, other = (sr.score(model, "random", seed=seed) for seed in (1, 1, 2))
    for name in model:
        np.testing.assert_array_equal(first[name], again[name])
        assert (first[name] != other[name]).all()
    assert (first["layers.0"] != first["layers.1"]).all()
    assert first.allocation == "global"
    assert sr.score(model, "random", allocation="uniform").allocation == "uniform"


# ---------------------------------------------------------------- callables and bad input


def test_callables(rng):
    model = s5_model(rng)

    def slowness(ssm):
        return np.abs(ssm.Lambda).tolist()

    scores = sr.score(model, slowness)
    assert (scores.method, scores.allocation, scores.ties) == ("slowness", "global", "stable")
    for name, ssm in model.items():
        assert scores[name].dtype == np.float64
        np.testing.assert_array_equal(scores[name], np.abs(ssm.Lambda))


def test_the_values_of_a_callable_are_copied(rng):
    mine = np.arange(6.0)
    scores = sr.score(model_of(lru_tree(rng)), lambda ssm: mine)
    mine[:] = 0
    np.testing.assert_array_equal(scores["layers.0"], np.arange(6.0))


@pytest.mark.parametrize("shape", [(), (5,), (6, 1), (1, 6)])
def test_callables_of_the_wrong_shape(rng, shape):
    with pytest.raises(ShapeError, match=r"for layer 'layers\.0'; one value a state is needed, shape \(6,\)") as caught:
        sr.score(model_of(lru_tree(rng)), lambda ssm: np.zeros(shape))
    assert str(shape) in str(caught.value)


def test_callables_that_give_nan(rng):
    with pytest.raises(NonFiniteError, match=r"<lambda> gave NaN for layer 'layers\.0'"):
        sr.score(model_of(lru_tree(rng)), lambda ssm: np.full(6, np.nan))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "lats"}, "no method 'lats'; choose from last, aire"),
        ({"method": None}, "no method None"),
        ({"method": "hinf", "allocation": "layerwise"}, "no allocation 'layerwise'; choose from uniform, global"),
        ({"method": "last", "allocation": "global"}, "'last' brings its own allocation; .* its criterion 'hinf'"),
        ({"method": "last", "scope": "feature"}, "no scope 'feature'; choose from layer, system"),
    ],
)
def test_unknown_names(rng, options, words):
    with pytest.raises(UnknownNameError, match=words) as caught:
        sr.score(model_of(lru_tree(rng)), **options)
    assert isinstance(caught.value, SSMReduceError)


def test_the_name_of_a_callable_changes_no_rule(rng):
    def my_reference(ssm):
        return np.ones(ssm.order)

    model = model_of(lru_tree(rng, n=6))
    assert sum(sr.select(sr.score(model, my_reference), ratio=0.5).orders.values()) == 3


def test_complex_values_are_refused(rng):
    with pytest.raises(ArrayKindError, match="complex128"):
        sr.score(model_of(lru_tree(rng)), lambda ssm: ssm.Lambda)


def test_slots_without_a_state_are_not_scored(rng):
    model = model_of(s4d_tree(rng, n=4, width=2))
    ragged = sr.prune(model, {model.layers[0]: [0, 1, 2, 4]})
    with pytest.raises(SelectionError, match="score the original model"):
        sr.score(ragged, "hinf")


def test_energy_scores_of_unstable_states_are_an_accident():
    adapter = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
    model = sr.load("tests/data/s5_last_uni_digits64/checkpoint.msgpack", adapter=adapter)
    value = sr.score(model, "aire_reference")[model.layers[2]]
    assert value.argmax() == 9  # an unstable state
    np.testing.assert_allclose(value[9], 1.6672, rtol=1e-4)


@pytest.mark.parametrize("horizon", [1, 2, 7, 1000])
def test_finite_horizon_energy_is_the_sum_of_the_samples(horizon, rng):
    poles = np.array([0.5, 0.999j, 1.0, -1.0, np.exp(0.3j), 1.001, 0.0, 1 - 1e-12])
    n = poles.size
    ssm = sr.DiagonalSSM(poles, rng.standard_normal((n, 2)), rng.standard_normal((3, n)) + 1j, np.zeros((3, 2)))
    powers = np.abs(poles[:, None]) ** np.arange(horizon)
    expected = (powers**2).sum(axis=1) * (np.abs(ssm.B) ** 2).sum(axis=1) * (np.abs(ssm.C) ** 2).sum(axis=0)
    got = sr.selection.finite_horizon_h2(horizon)(ssm)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_finite_horizon_scores_of_poles_on_and_outside_the_circle_are_finite():
    ssm = sr.DiagonalSSM([1.0, 3.0], [[1.0], [1.0]], [[1.0, 1.0]], [[0.0]])
    assert np.isfinite(sr.selection.finite_horizon_h2(100_000)(ssm)).all()
    with pytest.raises(SelectionError, match="positive number of samples, got 0"):
        sr.selection.finite_horizon_h2(0)
