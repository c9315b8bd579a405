"""Calibrated balanced truncation, against oblique projections from the eigenvectors of the Gramian product."""

import numpy as np
import pytest
from support.oracles import random_ssm
from support.recorded import LRU, S5, calibration_of, net_of, recorded, sequences

import ssmreduce as sr
from ssmreduce.calibration._accumulate import layer_moments
from ssmreduce.reduction.calibrated._balanced import _balanced, _System

KINDS = {
    "causal": {},
    "conj_sym": {"conj_sym": True},
    "two-sided": {"bidirectional": True, "conj_sym": True},
    "batch": {"batch": (3,), "m": 1, "p": 1, "conj_sym": True},
    "unstable": {"radius": (0.8, 1.1)},
}
LENGTH = 23


def real_system(ssm):
    """Dense real A, B, C of the scan form in the coordinates (Re x, Im x), outputs of the halves stacked."""
    A = np.block(
        [[np.diag(ssm.Lambda.real), -np.diag(ssm.Lambda.imag)], [np.diag(ssm.Lambda.imag), np.diag(ssm.Lambda.real)]]
    )
    halves = [ssm.C] + ([ssm.C_reverse] if ssm.bidirectional else [])
    C = np.vstack([ssm.kappa * np.hstack([half.real, -half.imag]) for half in halves])
    return A, np.vstack([ssm.B.real, ssm.B.imag]), C


def gramian_by_a_loop(A, C, length):
    total, ahead = np.zeros_like(A), np.eye(len(A))
    for _ in range(length):
        total, ahead = total + ahead.T @ C.T @ C @ ahead, A @ ahead
    return total


@pytest.mark.parametrize("length", [1, 2, 7, LENGTH, 64])
@pytest.mark.parametrize("kind", ["causal", "two-sided", "unstable"])
def test_observability_is_the_sum(rng, kind, length):
    ssm = random_ssm(rng, **KINDS[kind])
    A, _, C = real_system(ssm)
    halves = np.split(C, 2) if ssm.bidirectional else [C]
    order = np.arange(2 * ssm.order).reshape(2, -1).T.ravel()  # to interleaved coordinates
    factor = _System(ssm.Lambda, ssm.B, [half[:, order] for half in halves]).observability(length)
    expected = gramian_by_a_loop(A, C, length)[np.ix_(order, order)]
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def impulse(A, B, C, length=30):
    response = []
    for _ in range(length):
        response.append(C @ B)
        B = A @ B
    return np.array(response)


@pytest.mark.parametrize("order", [2, 3, 4])
@pytest.mark.parametrize("kind", ["causal", "conj_sym", "two-sided", "unstable"])
def test_reduced_system_is_the_oblique_projection(rng, kind, order):
    ssm = random_ssm(rng, n=5, **KINDS[kind])
    u = rng.standard_normal((4, LENGTH, 3))
    A, B, C = real_system(ssm)
    S = np.zeros((10, 10))
    for sequence in u:
        for halves in (sequence, sequence[::-1])[: 1 + ssm.bidirectional]:
            x = np.zeros(10)
            for sample in halves:
                x = A @ x + B @ sample
                S += np.outer(x, x)
    Q = gramian_by_a_loop(A, C, LENGTH)
    reduced = _balanced(ssm, layer_moments(ssm, u), order, "a")
    real_order = 2 * order if (reduced.Lambda.imag > 0).all() else None
    if real_order is None:
        silent = ~np.any(reduced.B, axis=-1)
        real_order = int((reduced.Lambda.imag > 0).sum() * 2 + ((reduced.Lambda.imag == 0) & ~silent).sum())
    values, right = np.linalg.eig(S @ Q)
    left_values, left = np.linalg.eig(Q @ S)
    right = right[:, np.argsort(-values.real)[:real_order]].real
    left = left[:, np.argsort(-left_values.real)[:real_order]].real
    inverse = np.linalg.inv(left.T @ right)
    expected = impulse(inverse @ left.T @ A @ right, inverse @ left.T @ B, C @ right)
    got = impulse(*real_system(reduced))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
def test_all_states_are_the_same_system(rng, kind):
    ssm = random_ssm(rng, n=4, **KINDS[kind])
    u = rng.standard_normal((4, 50, ssm.systems * ssm.inputs))
    whole = _balanced(ssm, layer_moments(ssm, u), 4 * ssm.systems, "a")
    expected = sr.simulate(ssm, u)
    np.testing.assert_allclose(sr.simulate(whole, u), expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_real_poles_take_a_slot_each_and_what_is_left_is_silent(rng):
    ssm = sr.DiagonalSSM([0.9, 0.5, -0.3], [[1.0], [2.0], [1.0]], [[1.0, 1.0, 3.0]], [[0.0]])
    u = rng.standard_normal((3, 40, 1))
    reduced = _balanced(ssm, layer_moments(ssm, u), 3, "a")
    np.testing.assert_allclose(np.sort(reduced.Lambda.real), [-0.3, 0.5, 0.9], atol=1e-9)
    np.testing.assert_allclose(sr.simulate(reduced, u), sr.simulate(ssm, u), atol=1e-9)
    silent = _balanced(ssm, layer_moments(ssm, 0 * u), 2, "a")
    assert not sr.simulate(silent, u).any()


@pytest.mark.parametrize("name", [S5, LRU])
def test_whole_networks_at_80_percent(name):
    r = recorded(name)
    x = sequences(name)
    orders = sr.eliminate(r.model, calibration_of(name), ratio=0.8).orders
    small = sr.reduction.balance_calibrated(r.model, calibration_of(name), orders)
    assert small.orders == orders
    same = sr.reduce(r.model, orders, method="balanced", calibration=calibration_of(name))
    for layer in small:
        np.testing.assert_array_equal(same[layer].Lambda, small[layer].Lambda)
    fitted = sr.reduction.refit_network(net_of(r), small, [x])
    assert r.correct(fitted) >= r.correct(r.model) - 0.01 * len(r.x)
    np.testing.assert_allclose(r.outputs(r.reread(fitted, "compact"), 20), r.outputs(fitted, 20), atol=0.02)


def test_bad_orders_are_named():
    r = recorded(LRU)
    first = next(iter(r.model))
    for orders, error in (
        ({first: 0}, sr.errors.SelectionError),
        ({first: 49}, sr.errors.SelectionError),
        ({"other": 3}, sr.errors.UnknownLayerError),
    ):
        with pytest.raises(error):
            sr.reduction.balance_calibrated(r.model, calibration_of(LRU), orders)
    with pytest.raises(sr.errors.SelectionError, match="calibration goes with"):
        sr.reduce(r.model, {first: 3}, method="h2", calibration=calibration_of(LRU))
    with pytest.raises(sr.errors.ShapeError):
        sr.reduction.balance_calibrated(sr.prune(r.model, {first: [0, 1]}), calibration_of(LRU), {first: 1})
