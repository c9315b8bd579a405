"""Refinement of poles and inputs, and sequential refit of whole networks."""

from dataclasses import replace

import numpy as np
import pytest
from support.oracles import random_ssm
from support.recorded import LRU, S4D, S5, calibration_of, net_of, recorded, sequences

import ssmreduce as sr
from ssmreduce.reduction.calibrated._refine import _Refinement, refine_system

KINDS = {
    "causal": {},
    "two-sided": {"bidirectional": True, "conj_sym": True},
    "batch": {"batch": (3,), "m": 1, "p": 1, "conj_sym": True},
    "batch-two-sided": {"batch": (2,), "bidirectional": True},
    "unstable": {"radius": (0.9, 1.05)},
}


def data_for(rng, kind, n=3):
    ssm, other = (random_ssm(rng, n=k, **KINDS[kind]) for k in (n, n + 2))
    u = [rng.standard_normal((2, 25, ssm.systems * ssm.inputs)) for _ in range(2)]
    return ssm, [(part, sr.simulate(other, part)) for part in u]


def squared_error(ssm, data):
    return sum(np.sum((sr.simulate(ssm, u) - y) ** 2) for u, y in data)


@pytest.mark.parametrize("feedthrough", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_that_of_finite_differences(rng, kind, feedthrough):
    ssm, data = data_for(rng, kind)
    problem = _Refinement(ssm, data, 1e-14, feedthrough, "")
    at = problem.variables + 0.05 * rng.standard_normal(problem.variables.size)
    value, gradient = problem(at)
    fitted, _ = problem.fitted(problem.system(at))
    np.testing.assert_allclose(value, 0.5 * squared_error(fitted, data) / problem.energy, rtol=1e-9)
    step = 1e-5
    for _ in range(4):
        along = rng.standard_normal(at.size)
        numeric = (problem(at + step * along)[0] - problem(at - step * along)[0]) / (2 * step)
        np.testing.assert_allclose(gradient @ along, numeric, rtol=1e-5, atol=1e-7 * np.linalg.norm(gradient))


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_is_the_system_itself(rng, kind):
    ssm, data = data_for(rng, kind)
    again = _Refinement(ssm, data, 1e-14, False, "").system(_Refinement(ssm, data, 1e-14, False, "").variables)
    for key in ("Lambda", "B", "C", "D"):
        np.testing.assert_allclose(getattr(again, key), getattr(ssm, key), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["causal", "two-sided", "batch"])
def test_a_system_of_the_same_order_is_found(rng, kind):
    truth = random_ssm(rng, n=3, radius=(0.6, 0.9), **KINDS[kind])
    u = rng.standard_normal((4, 60, int(np.prod(truth.batch, dtype=int)) * truth.inputs))
    data = [(u, sr.simulate(truth, u))]
    start = replace(truth, Lambda=truth.Lambda * np.exp(0.02 * rng.standard_normal(truth.Lambda.shape)))
    before = squared_error(refine_system(start, data, steps=0, ridge=1e-12, feedthrough=False), data)
    after = squared_error(refine_system(start, data, steps=300, ridge=1e-12, feedthrough=False), data)
    assert after < 1e-3 * before


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_makes_it_worse_and_stability_is_kept(rng, kind):
    ssm, data = data_for(rng, kind)
    errors = [
        squared_error(refine_system(ssm, data, steps=k, ridge=1e-10, feedthrough=False), data) for k in (0, 3, 30)
    ]
    assert errors[0] * (1 + 1e-6) >= errors[1] >= errors[2] * (1 - 1e-6)
    refined = refine_system(ssm, data, steps=30, ridge=1e-10, feedthrough=False)
    np.testing.assert_array_equal(np.abs(refined.Lambda) < 1, np.abs(ssm.Lambda) < 1)


def test_silent_states_and_poles_at_zero_do_no_harm(rng):
    ssm, data = data_for(rng, "causal")
    silent = replace(ssm, B=ssm.B * np.array([1, 0, 1])[:, None], Lambda=ssm.Lambda * np.array([1, 1, 0]))
    refined = refine_system(silent, data, steps=5, ridge=1e-10, feedthrough=False)
    assert squared_error(refined, data) <= squared_error(silent, data)


# ---------------------------------------------------------------- whole networks


def small_model(name, ratio, **options):
    return sr.eliminate(recorded(name).model, calibration_of(name), ratio=ratio, **options)


def test_first_layer_is_the_plain_refit_and_batches_do_not_matter():
    r = recorded(LRU)
    small, x = small_model(LRU, 0.8), sequences(LRU)
    seen = []
    whole = sr.reduction.refit_network(net_of(r), small, [x])
    parts = sr.reduction.refit_network(net_of(r), small, np.split(x, 3), progress=lambda *counts: seen.append(counts))
    first = next(iter(r.model))
    for other in (small, parts):
        np.testing.assert_allclose(whole[first].C, other[first].C, rtol=0, atol=1e-4 * np.abs(other[first].C).max())
    for name in r.model:
        np.testing.assert_allclose(parts[name].C, whole[name].C, rtol=0, atol=1e-4 * np.abs(whole[name].C).max())
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("name", [S5, LRU])
def test_every_step_brings_the_network_closer(name):
    r = recorded(name)
    x = sequences(name)[:200]
    reference = r.network(r.model, x)

    def error(model):
        return float(np.sum((r.network(model, x) - reference) ** 2))

    small = small_model(name, 0.9, feedthrough=True)
    fitted = sr.reduction.refit_network(net_of(r), small, [x], feedthrough=True)
    refined = sr.reduction.refit_network(net_of(r), small, [x], feedthrough=True, refine=20)
    assert refined.orders == fitted.orders == small.orders
    assert error(refined) < error(fitted) < error(small)
    assert r.correct(refined) >= r.correct(r.model) - 0.03 * len(r.x)
    form = r.reread(refined, "compact")
    np.testing.assert_allclose(r.outputs(form, 20), r.outputs(refined, 20), atol=0.02)


def test_layers_that_are_not_named_stay_as_they_are():
    r = recorded(LRU)
    small, x = small_model(LRU, 0.8), sequences(LRU)[:50]
    first, second, third = r.model
    some = sr.reduction.refit_network(net_of(r), small, [x], layers=[second])
    for name in (first, third):
        np.testing.assert_array_equal(some[name].C, small[name].C)
    assert (some[second].C != small[second].C).any()
    with pytest.raises(sr.errors.UnknownLayerError, match="nowhere"):
        sr.reduction.refit_network(net_of(r), small, [x], layers=["nowhere"])


def test_features_of_different_orders_are_refined():
    r = recorded(S4D)
    small, x = small_model(S4D, 0.9), sequences(S4D)[:20]
    refined = sr.reduction.refit_network(net_of(r), small, [x], refine=2)
    assert refined.orders == small.orders
    for name in r.model:
        assert (np.abs(refined[name].Lambda) < 1).all()


def test_bad_calls_are_named():
    r = recorded(LRU)
    small, x = small_model(LRU, 0.8), sequences(LRU)[:5]
    with pytest.raises(sr.errors.ShapeError, match="batch"):
        sr.reduction.refit_network(net_of(r), small, [])
    with pytest.raises(sr.errors.OptionError, match="refine"):
        sr.reduction.refit_network(net_of(r), small, [x], refine=-1)
    with pytest.raises(sr.errors.UnknownLayerError, match="dlru"):
        sr.reduction.refit_network(sr.network(lambda model, x, tap=None: x, model=r.model), small, [x])
