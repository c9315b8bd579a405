"""Calibrated elimination and refit, against brute-force least squares on the samples themselves."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracles import coordinates, random_ssm, system_at
from support.recorded import LRU, S4D, S5, calibration_of, inputs_of, recorded

import ssmreduce as sr
from ssmreduce.calibration._accumulate import layer_moments
from ssmreduce.calibration._stationary import _layer
from ssmreduce.selection._outputs import OutputFit, output_weights, with_weights
from ssmreduce.selection._path import elimination_order

KINDS = {
    "causal": {},
    "two-sided": {"bidirectional": True},
    "one output": {"m": 1, "p": 1},
    "conj_sym": {"conj_sym": True, "p": 3},
}
TINY = 1e-14


def problem_on_samples(rng, kind, *, target=False, n=4):
    ssm = random_ssm(rng, n=n, radius=(0.3, 0.9), **KINDS[kind])
    u = rng.standard_normal((3, 60, ssm.inputs))
    z = coordinates(ssm, u)
    other = random_ssm(rng, n=n + 2, radius=(0.3, 0.9), **KINDS[kind]) if target else ssm
    return ssm, z, sr.simulate(other, u).reshape(len(z), -1), layer_moments(ssm, u, target=other if target else None)


def squared_error(z, y, columns):
    fit = np.linalg.lstsq(z[:, columns], y, rcond=None)[0]
    return np.sum((y - z[:, columns] @ fit) ** 2)


def columns_of(states, width):
    return [s * width + i for s in states for i in range(width)]


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("feedthrough", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_the_brute_force_increase_and_the_path_is_greedy(rng, kind, feedthrough, target):
    ssm, z, y, moments = problem_on_samples(rng, kind, target=target)
    problem = OutputFit(ssm, moments, ridge=TINY, feedthrough=feedthrough).problem
    order, cost = elimination_order(problem.second, problem.cross, problem.width)
    assert sorted(order[0]) == list(range(ssm.order))
    size = ssm.order * problem.width
    inputs = list(range(size, z.shape[1])) if feedthrough else []
    y = y if feedthrough else y - z[:, size:] @ ssm.D.T
    left, error = list(range(ssm.order)), squared_error(z, y, list(range(size)) + inputs)
    for state, step in zip(order[0], cost[0], strict=True):
        errors = {s: squared_error(z, y, columns_of([i for i in left if i != s], problem.width) + inputs) for s in left}
        assert state == min(errors, key=errors.get)
        np.testing.assert_allclose(step, errors[state] - error, rtol=1e-8, atol=1e-11 * np.sum(y**2))
        left.remove(state)
        error = errors[state]


@pytest.mark.parametrize("target", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_refit_is_least_squares(rng, kind, target):
    ssm, z, y, moments = problem_on_samples(rng, kind, target=target)
    keep = np.array([[True, False, True, False]])
    width = 4 if ssm.bidirectional else 2
    columns = columns_of([0, 2], width)
    size = ssm.order * width
    W, D = OutputFit(ssm, moments, ridge=TINY, feedthrough=False).solve(keep)
    expected = np.linalg.lstsq(z[:, columns], y - z[:, size:] @ ssm.D.T, rcond=None)[0].T
    np.testing.assert_allclose(W[0][:, columns], expected, rtol=1e-8, atol=1e-10)
    assert not W[0][:, columns_of([1, 3], width)].any()
    np.testing.assert_array_equal(D[0], ssm.D)
    W, D = OutputFit(ssm, moments, ridge=TINY, feedthrough=True).solve(keep)
    expected = np.linalg.lstsq(z[:, columns + list(range(size, z.shape[1]))], y, rcond=None)[0].T
    np.testing.assert_allclose(np.hstack([W[0][:, columns], D[0]]), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_diagonal_feedthrough_stays_diagonal(rng, bidirectional):
    ssm = replace(
        random_ssm(rng, m=3, p=3, bidirectional=bidirectional, radius=(0.3, 0.9)), D=np.diag([1.0, -2.0, 0.5])
    )
    u = rng.standard_normal((2, 60, 3))
    z, y = coordinates(ssm, u), sr.simulate(ssm, u).reshape(-1, 3)
    keep = np.array([[True, True, False, False, True]])
    width = 4 if bidirectional else 2
    W, D = OutputFit(ssm, layer_moments(ssm, u), ridge=TINY, feedthrough=True).solve(keep)
    for o in range(3):
        columns = [*columns_of([0, 1, 4], width), ssm.order * width + o]
        expected = np.linalg.lstsq(z[:, columns], y[:, o], rcond=None)[0]
        np.testing.assert_allclose([*W[0][o, columns[:-1]], D[0][o, o]], expected, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(D[0], np.diag(np.diag(D[0])))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_back(rng, kind):
    ssm = random_ssm(rng, **KINDS[kind])
    again = with_weights(ssm, *output_weights(ssm))
    for key in ("C", "D") + ("C_reverse",) * ssm.bidirectional:
        np.testing.assert_allclose(getattr(again, key), getattr(ssm, key), rtol=1e-14)


def test_batches_are_independent_systems(rng):
    ssm = random_ssm(rng, batch=(3,), m=1, p=1, radius=(0.3, 0.9))
    u = rng.standard_normal((2, 50, 3))
    problem = OutputFit(ssm, layer_moments(ssm, u), ridge=TINY, feedthrough=False).problem
    order, cost = elimination_order(problem.second, problem.cross, 2)
    for s in range(3):
        one = system_at(ssm, (s,))
        single = OutputFit(one, layer_moments(one, u[..., s : s + 1]), ridge=TINY, feedthrough=False).problem
        expected = elimination_order(single.second, single.cross, 2)
        np.testing.assert_array_equal(order[s], expected[0][0])
        np.testing.assert_allclose(cost[s], expected[1][0], rtol=1e-8)


def test_equal_states_leave_first_and_for_nothing(rng):
    ssm = random_ssm(rng, n=3, radius=(0.3, 0.9))
    twice = sr.DiagonalSSM(np.tile(ssm.Lambda, 2), np.tile(ssm.B, (2, 1)), np.tile(ssm.C, 2) / 2, ssm.D)
    u = rng.standard_normal((2, 60, 3))
    fit = OutputFit(twice, layer_moments(twice, u), ridge=1e-10, feedthrough=False)
    order, cost = elimination_order(fit.problem.second, fit.problem.cross, 2)
    assert sorted(order[0, :3] % 3) == [0, 1, 2]
    assert (cost[0, :3] <= 1e-8 * fit.problem.energy).all()
    keep = np.isin(np.arange(6), order[0, 3:])[None]
    reduced = with_weights(twice, *fit.solve(keep))
    np.testing.assert_allclose(sr.simulate(reduced, u), sr.simulate(ssm, u), atol=1e-6)


def test_the_imaginary_part_of_a_real_state_gets_no_weight(rng):
    ssm = random_ssm(rng)
    real = replace(ssm, Lambda=ssm.Lambda * np.array([1, 0, 1, 1, 1]) + np.array([0, 0.7, 0, 0, 0]))
    real = replace(real, B=np.where(np.arange(5)[:, None] == 1, real.B.real * (1 + 1e-17j), real.B))
    moments = layer_moments(real, rng.standard_normal((2, 60, 3)), target=ssm)
    W, _ = OutputFit(real, moments, ridge=1e-10, feedthrough=False).solve(np.ones((1, 5), dtype=bool))
    assert np.abs(W).max() < 1e3


def test_states_that_are_never_excited_cost_nothing(rng):
    ssm = random_ssm(rng)
    ssm = replace(ssm, B=ssm.B * np.array([1, 0, 1, 1, 0])[:, None])
    fit = OutputFit(ssm, layer_moments(ssm, rng.standard_normal((2, 40, 3))), ridge=1e-10, feedthrough=True)
    order, cost = elimination_order(fit.problem.second, fit.problem.cross, 2)
    assert set(order[0, :2]) == {1, 4}
    np.testing.assert_array_equal(cost[0, :2], 0)


def test_data_free_error_is_the_h2_norm(rng):
    ssm = random_ssm(rng, n=5, radius=(0.3, 0.95))
    fit = OutputFit(ssm, _layer(ssm, np.array([1.0]), "a"), ridge=TINY, feedthrough=False)
    order, cost = elimination_order(fit.problem.second, fit.problem.cross, 2)
    keep = np.isin(np.arange(5), order[0, 3:])[None]
    reduced = with_weights(ssm, *fit.solve(keep))
    difference = replace(ssm, C=ssm.C - reduced.C, D=np.zeros_like(ssm.D))
    np.testing.assert_allclose(cost[0, :3].sum(), sr.h2_norm(difference) ** 2, rtol=1e-9)


# ---------------------------------------------------------------- allocation


@given(st.integers(0, 2**32 - 1))
def test_scores_are_the_greedy_merge(seed):
    rng = np.random.default_rng(seed)
    paths = {
        name: sr.selection.LayerPath(
            np.stack([rng.permutation(n) for _ in range(s)]), rng.integers(0, 9, (s, n)).astype(float), energy
        )
        for name, s, n, energy in (("a", 1, 5, 2.0), ("b", 3, 4, 7.0))
    }
    scores = sr.selection.elimination_scores(sr.selection.EliminationPath(paths))
    # The plain rule: the queue with the cheapest head gives up its head, and whatever follows it for no more.
    queues = {
        (name, s): list(zip(layer.cost[s] / layer.energy, layer.order[s], strict=True))
        for name, layer in paths.items()
        for s in range(len(layer.cost))
    }
    left, previous = [], -1.0
    while any(queues.values()):
        cheapest = min(queue[0][0] for queue in queues.values() if queue)
        previous = max(previous, cheapest)
        for key, queue in queues.items():
            while queue and queue[0][0] <= previous:
                left.append((previous, key, queue.pop(0)[1]))
    values = [np.atleast_2d(scores[name])[s, state] for _, (name, s), state in left]
    levels = [level for level, *_ in left]
    by_score = np.array(levels)[np.argsort(values)]
    np.testing.assert_array_equal(by_score, np.sort(levels))
    assert sorted(values) == list(range(len(left)))
    for name, layer in paths.items():
        for s in range(len(layer.cost)):
            assert (np.diff(np.atleast_2d(scores[name])[s, layer.order[s]]) > 0).all()


def test_equal_counts_for_stock_code():
    r = recorded(S4D)
    calibration = sr.calibrate(r.model, inputs_of(S4D, 30))
    small = sr.eliminate(r.model, calibration, ratio=0.75, scope="system")
    assert sr.export(small)["s4_layers.0.kernel.C"].shape[1] == small.orders["s4_layers.0"] / 48
    assert sum(small.orders.values()) <= 0.25 * sum(r.model.orders.values())


# ---------------------------------------------------------------- whole models


@pytest.mark.parametrize(("name", "ratio"), [(S5, 0.5), (S5, 0.7), (LRU, 0.5), (LRU, 0.7), (S4D, 0.7)])
def test_half_a_point_at_most_is_lost_at_70_percent(name, ratio):
    r = recorded(name)
    small = sr.eliminate(r.model, calibration_of(name), ratio=ratio)
    assert sum(small.orders.values()) == int((1 - ratio) * sum(r.model.orders.values()) + 1e-6)
    assert r.correct(small) >= r.correct(r.model) - 0.005 * len(r.x)


def test_refit_lifts_other_selections():
    r = recorded(S5)
    pruned = sr.prune(r.model, sr.select(sr.score(r.model, "last_reference"), ratio=0.7))
    fitted = sr.refit(pruned, calibration=calibration_of(S5))
    assert r.correct(pruned) < 0.7 * len(r.x)
    assert r.correct(fitted) > 0.85 * len(r.x)


@pytest.mark.parametrize("name", [S5, S4D, LRU])
def test_kept_states_keep_their_bits_and_every_form_agrees(name):
    r = recorded(name)
    small = sr.eliminate(r.model, calibration_of(name), ratio=0.6, scope="system")
    index = {layer: small.state_index(layer)[0] for layer in small}
    for layer, ssm in r.model.items():
        chosen = index[layer] if ssm.batch else index[layer][0]
        np.testing.assert_array_equal(small[layer].Lambda, np.take_along_axis(ssm.Lambda, chosen, axis=-1))
        np.testing.assert_array_equal(small[layer].D, ssm.D)
    expected = r.outputs(small, 20)
    for form in ("compact", "mask", "padded"):
        np.testing.assert_allclose(r.outputs(r.reread(small, form), 20), expected, atol=1e-4 * np.abs(expected).max())


def test_ragged_features_are_written_as_masks():
    r = recorded(S4D)
    small = sr.eliminate(r.model, calibration_of(S4D), ratio=0.6)
    expected = r.outputs(small, 20)
    np.testing.assert_allclose(r.outputs(r.reread(small, "mask"), 20), expected, atol=1e-4 * np.abs(expected).max())
    with pytest.raises(sr.errors.NotRepresentableError, match="scope='system'"):
        sr.export(small)


def test_refit_of_a_reduced_model_to_targets(rng):
    r = recorded(LRU)
    pruned = sr.prune(r.model, sr.select(sr.score(r.model, "aire"), ratio=0.5))
    fitted = sr.refit(pruned, calibration=calibration_of(LRU))
    inputs = inputs_of(LRU)
    again = sr.refit(pruned, calibration=sr.calibrate(pruned, inputs, targets=r.model))
    replaced = pruned
    for name in pruned:
        replaced = sr.models.replace_system(replaced, name, pruned[name])
    realised = sr.refit(replaced, calibration=sr.calibrate(replaced, inputs, targets=r.model))
    for name in pruned:
        scale = np.abs(fitted[name].C).max()
        np.testing.assert_allclose(again[name].C, fitted[name].C, atol=1e-5 * scale)
        np.testing.assert_allclose(realised[name].C, fitted[name].C, atol=1e-5 * scale)


def test_data_that_say_nothing_are_refused():
    r = recorded(S5)
    silent = sr.calibrate(r.model, {layer: np.zeros_like(u[:3]) for layer, u in inputs_of(S5).items()})
    with pytest.raises(sr.errors.SelectionError, match="says nothing"):
        sr.eliminate(r.model, silent, ratio=0.5)


def test_moments_of_other_inputs_are_refused():
    r = recorded(S5)
    params = dict(r.model.params)
    key = next(name for name in params if name.endswith("seq/B"))
    params[key] = params[key][::-1].copy()
    changed = sr.read(params, adapter=r.model.adapter)
    with pytest.raises(sr.errors.ShapeError, match="calibrate the model that you reduce"):
        sr.eliminate(changed, calibration_of(S5), ratio=0.5)


def test_no_states_at_all_can_be_left():
    r = recorded(S5)
    empty = sr.eliminate(r.model, calibration_of(S5), orders=dict.fromkeys(r.model, 0))
    assert sum(empty.orders.values()) == 0


def test_paths_and_calibrations_can_be_pickled():
    calibration = calibration_of(S5)
    path = sr.selection.elimination_path(recorded(S5).model, calibration)
    for one in (calibration, path):
        assert list(pickle.loads(pickle.dumps(one))) == list(one)


def test_a_second_refit_needs_the_reference():
    r = recorded(LRU)
    once = sr.eliminate(r.model, calibration_of(LRU), ratio=0.6)
    with pytest.raises(sr.errors.SelectionError, match="give reference="):
        sr.refit(once, calibration=calibration_of(LRU))
    twice = sr.refit(once, calibration=calibration_of(LRU), reference=r.model)
    for name in once:
        np.testing.assert_allclose(twice[name].C, once[name].C, rtol=0, atol=1e-6 * np.abs(once[name].C).max())


DATA_KINDS = {
    "one sequence": lambda u: u[:1],
    "fewer samples than states": lambda u: u[:1, :10],
    "constant": lambda u: np.ones_like(u[:3]),
    "huge": lambda u: 1e6 * u[:20],
}


@pytest.mark.parametrize("feedthrough", [False, True])
@pytest.mark.parametrize("kind", DATA_KINDS)
@pytest.mark.parametrize("name", [S5, LRU])
def test_poor_data_give_a_model_that_fits_them(name, kind, feedthrough):
    r = recorded(name)
    inputs = {layer: DATA_KINDS[kind](u) for layer, u in inputs_of(name).items()}
    calibration = sr.calibrate(r.model, inputs)
    small = sr.eliminate(r.model, calibration, ratio=0.5, feedthrough=feedthrough)
    for layer, u in inputs.items():
        y = sr.simulate(r.model[layer], u)
        assert np.linalg.norm(sr.simulate(small[layer], u) - y) <= 0.1 * np.linalg.norm(y)


def test_bad_calibrations_are_named():
    r, other = recorded(S5), recorded(LRU)
    calibration = calibration_of(S5)
    with pytest.raises(sr.errors.UnknownLayerError, match="dlru"):
        sr.eliminate(other.model, calibration, ratio=0.5)
    first = next(iter(r.model))
    with pytest.raises(sr.errors.UnknownLayerError, match="layers_1"):
        sr.eliminate(r.model, sr.calibration.Calibration({first: calibration[first]}), ratio=0.5)
    swapped = sr.calibration.Calibration(dict(zip(calibration, reversed(list(calibration.values())), strict=True)))
    with pytest.raises(sr.errors.ShapeError, match="calibrate the model that you reduce"):
        sr.eliminate(r.model, swapped, ratio=0.5)
    with pytest.raises(sr.errors.ShapeError, match="calibrate the model that you reduce"):
        sr.refit(sr.prune(r.model, {first: [1, 2]}), calibration=swapped)
    with pytest.raises(sr.errors.SelectionError, match="ridge"):
        sr.eliminate(r.model, calibration, ratio=0.5, ridge=0.0)
    with pytest.raises(sr.errors.SelectionError, match="exactly one"):
        sr.eliminate(r.model, calibration)
    with pytest.raises(sr.errors.SelectionError, match="ratio"):
        sr.eliminate(r.model, calibration, ratio=1.0)


def test_orders_and_counts():
    r = recorded(LRU)
    wanted = dict(zip(r.model, (10, 7, 5), strict=True))
    assert sr.eliminate(r.model, calibration_of(LRU), orders=wanted).orders == wanted
    assert sum(sr.eliminate(r.model, calibration_of(LRU), count=20).orders.values()) == 20


def test_what_was_eliminated_can_be_eliminated_again():
    """The same as with the smaller model written and read in between, whose states have other numbers."""
    r = recorded(LRU)
    half = sr.eliminate(r.model, calibration_of(LRU), ratio=0.5)
    results = []
    for model in (half, r.reread(half, "compact")):
        small = sr.eliminate(model, sr.calibrate(model, inputs_of(LRU, 50)), ratio=0.5, feedthrough=True)
        assert sum(small.orders.values()) == 36
        results.append(r.outputs(small, 50))
    np.testing.assert_allclose(*results, atol=2e-3)
