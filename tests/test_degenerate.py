"""Systems without inputs, outputs or states, and batches of none: norms are what mathematics says, reductions work."""

import numpy as np
import pytest
from support.norm_oracles import random_ssm

import ssmreduce as sr
from ssmreduce.errors import NotCausalError, OptionError, ShapeError
from ssmreduce.systems._systems import DiagonalSSM, StateSpace


def value(result):
    """The number or array of a norm, whose bracket must be ordered."""
    if isinstance(result, sr.norms.PeakGain):
        assert np.all(result.gain <= result.upper)
        return result.gain
    if isinstance(result, sr.norms.GainBounds):
        assert np.all(result.lower <= result.upper)
        return result.upper
    return result


SYSTEM_NORMS = {
    "peak_gain": sr.peak_gain,
    "peak_gain, exclusion": lambda ssm: sr.peak_gain(ssm, method="exclusion"),
    "peak_gain, level-set": lambda ssm: sr.peak_gain(ssm, method="level-set"),
    "hinf_norm": sr.hinf_norm,
    "h2_norm": sr.h2_norm,
    "hankel_norm": sr.hankel_norm,
    "peak_to_peak_bounds": sr.norms.peak_to_peak_bounds,
    "finite_horizon_gain": lambda ssm: sr.norms.finite_horizon_gain(ssm, 5),
}
STATE_NORMS = {
    "modal_hinf_norms": (sr.norms.modal_hinf_norms, 1),
    "modal_h2_norms": (sr.norms.modal_h2_norms, 1),
    "pair_hinf_norms": (sr.norms.pair_hinf_norms, 1),
    "hankel_singular_values": (sr.hankel_singular_values, 2),
    "hankel_singular_values, textbook": (lambda ssm: sr.hankel_singular_values(ssm, form="textbook"), 2),
    "hankel_singular_values, relative": (lambda ssm: sr.hankel_singular_values(ssm, accuracy="relative"), 2),
}
REDUCTIONS = {
    "balanced": sr.reduction.balanced_truncation,
    "perturbation": sr.reduction.singular_perturbation,
    "modal": sr.reduction.modal_truncation,
    "hankel": sr.reduction.hankel_approximation,
    "h2": sr.reduction.h2_approximation,
    "compensated": sr.reduction.compensated_truncation,
    "greedy": sr.reduction.greedy_elimination,
    "exchange": sr.reduction.exchange,
}
ONE_SYSTEM = ("peak_gain, level-set", "finite_horizon_gain")
CAUSAL = ("peak_gain, level-set", "hinf_norm", "hankel_norm")
SILENT = [(3, 0, 2), (3, 2, 0), (0, 0, 0), (1, 0, 60), (2, 60, 0)]


def system(n, m, p, **options):
    return random_ssm(np.random.default_rng(0), n, m, p, gaps=(0.1, 0.5), **options)


@pytest.mark.parametrize(("n", "m", "p"), SILENT)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", SYSTEM_NORMS)
def test_without_inputs_or_outputs_a_norm_is_zero(name, n, m, p, reverse):
    ssm = system(n, m, p, reverse=reverse)
    if reverse and name in CAUSAL:
        with pytest.raises(NotCausalError):
            SYSTEM_NORMS[name](ssm)
    else:
        result = value(SYSTEM_NORMS[name](ssm))
        assert result == 0.0
        assert np.shape(result) == ()


@pytest.mark.parametrize(("n", "m", "p"), SILENT)
@pytest.mark.parametrize("name", STATE_NORMS)
def test_without_inputs_or_outputs_every_state_counts_zero(name, n, m, p):
    norm, states = STATE_NORMS[name]
    np.testing.assert_array_equal(norm(system(n, m, p)), np.zeros(states * n))


@pytest.mark.parametrize("name", SYSTEM_NORMS)
def test_without_states_the_feedthrough_is_left(name):
    ssm = system(0, 2, 3)
    expected = {"h2_norm": np.linalg.norm(ssm.D), "hankel_norm": 0.0}
    expected["peak_to_peak_bounds"] = np.max(np.sum(np.abs(ssm.D), axis=1))
    np.testing.assert_allclose(
        value(SYSTEM_NORMS[name](ssm)), expected.get(name, np.linalg.norm(ssm.D, 2)), rtol=2e-6, atol=0
    )


@pytest.mark.parametrize("batch", [(0,), (2, 0)])
@pytest.mark.parametrize(("m", "p"), [(1, 1), (2, 3)])
def test_a_batch_of_none_has_no_norms(batch, m, p):
    ssm = system(3, m, p, batch=batch)
    for name, norm in SYSTEM_NORMS.items():
        if name in ONE_SYSTEM:
            with pytest.raises(ShapeError, match="one system"):
                norm(ssm)
        else:
            assert np.shape(value(norm(ssm))) == batch
    for norm, states in STATE_NORMS.values():
        assert norm(ssm).shape == (*batch, states * 3)
    assert sr.norms.controllability_gramian(ssm).shape == sr.norms.observability_gramian(ssm).shape == (*batch, 3, 3)


@pytest.mark.parametrize("order", [0, 3])
def test_a_batch_of_silent_systems(order):
    ssm = system(order, 0, 2, batch=(4,))
    for name, norm in SYSTEM_NORMS.items():
        if name not in ONE_SYSTEM:
            np.testing.assert_array_equal(value(norm(ssm)), np.zeros(4))
    for norm, states in STATE_NORMS.values():
        np.testing.assert_array_equal(norm(ssm), np.zeros((4, states * order)))
    np.testing.assert_array_equal(sr.norms.controllability_gramian(ssm), np.zeros((4, order, order)))


@pytest.mark.parametrize(("n", "m", "p"), [(0, 2, 3), (3, 0, 2), (3, 2, 0)])
def test_dense_systems(n, m, p):
    dense = StateSpace(np.diag(np.full(n, 0.5)), np.ones((n, m)), np.ones((p, n)), np.ones((p, m)))
    gain = np.sqrt(m * p)
    np.testing.assert_allclose(sr.hinf_norm(dense), gain, rtol=1e-12)
    np.testing.assert_allclose(sr.h2_norm(dense), gain, rtol=1e-12)
    assert sr.hankel_norm(dense) == 0.0
    np.testing.assert_array_equal(sr.hankel_singular_values(dense), np.zeros(n))


def test_single_systems_give_python_numbers():
    for ssm in (system(3, 2, 2), system(3, 2, 2, reverse=True), system(2, 60, 60)):
        peak = sr.peak_gain(ssm)
        assert [type(x) for x in (peak.gain, peak.omega, peak.upper, peak.samples)] == [float, float, float, int]
        for bounds in (sr.norms.peak_to_peak_bounds(ssm), sr.norms.finite_horizon_gain(ssm, 5)):
            assert type(bounds.lower) is type(bounds.upper) is float
    assert type(sr.hinf_norm(system(3, 2, 2))) is float
    assert np.isscalar(sr.hankel_norm(system(3, 2, 2)))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions(name):
    reduction = REDUCTIONS[name]
    for m, p in [(0, 2), (2, 0)]:
        reduced = reduction(system(3, m, p), 1).ssm
        assert (reduced.inputs, reduced.outputs) == (m, p)
        assert reduced.order <= 1
    for batch in [(0,), (2, 0)]:
        none = reduction(system(3, 2, 2, batch=batch), 1).ssm
        assert none.batch == batch
        assert none.order <= 1
    assert reduction(system(0, 2, 2), 0).ssm.order == 0


@pytest.mark.parametrize("horizon", [0, -3, 2.5, None])
def test_horizons_that_are_none(horizon):
    with pytest.raises(OptionError, match="positive integer"):
        sr.norms.finite_horizon_gain(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]), horizon)
