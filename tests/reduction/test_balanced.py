"""Balanced truncation: against the dense method, its bounds, stored orders, tolerances."""

import json

import numpy as np
import pytest
from support.norm_oracles import ADVERSARIAL, FIXTURES, adversarial_ssm, gain_on_grids, random_ssm
from support.oracles import dense
from support.systems_table import SYSTEMS, clustered

import ssmreduce as sr
from ssmreduce.errors import SelectionError, UnattainableError, UnknownNameError
from ssmreduce.norms._hankel import hankel_singular_values
from ssmreduce.systems._real import widening
from ssmreduce.systems._systems import conjugate_closed


def dense_balanced_truncation(ssm, order):
    """Textbook square-root method on the dense realification, Gramians by scipy; errors on the unit circle."""
    from scipy.linalg import solve_discrete_lyapunov

    A, B, _, _ = dense(ssm)
    C = ssm.kappa * np.hstack([ssm.C.real, -ssm.C.imag])
    values, vectors = np.linalg.eigh(solve_discrete_lyapunov(A, B @ B.T))
    L = vectors * np.sqrt(np.maximum(values, 0))
    values, vectors = np.linalg.eigh(solve_discrete_lyapunov(A.T, C.T @ C))
    K = vectors * np.sqrt(np.maximum(values, 0))
    U, s, V = np.linalg.svd(K.T @ L)
    left, right = K @ U[:, :order] / np.sqrt(s[:order]), L @ V[:order].T / np.sqrt(s[:order])
    return left.T @ A @ right, left.T @ B, C @ right, s


@pytest.mark.parametrize("conj_sym", [True, False])
def test_balanced_truncation_against_the_dense_method(rng, conj_sym):
    ssm = random_ssm(rng, 10, 3, 2, conj_sym=conj_sym, gaps=(1e-2, 0.5))
    omega = np.linspace(0, np.pi, 200)
    z = np.exp(1j * omega)[:, None, None]
    for order in (2, 5, 8):
        reduction = sr.reduction.balanced_truncation(ssm, order)
        A, B, C, s = dense_balanced_truncation(ssm, reduction.real_order)
        np.testing.assert_allclose(hankel_singular_values(ssm), s, rtol=1e-9, atol=1e-12 * s[0])
        expected = z * (C @ np.linalg.solve(z * np.eye(len(A)) - A, B)) + ssm.D
        got = sr.frequency_response(reduction.ssm, omega)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_bounds_of_balanced_truncation_on_hard_systems(kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind) + 50)
    for _ in range(25):
        ssm = adversarial_ssm(rng, kind, *rng.integers(1, 4, 2))
        reduction = sr.reduction.balanced_truncation(ssm, int(rng.integers(0, ssm.order)))
        assert not sr.systems.unstable_states(reduction.ssm).size
        grid = gain_on_grids(sr.systems.error_system(ssm, reduction.ssm))
        c = sr.certify(ssm, reduction.ssm)
        # a pole in double precision has its gap to 1e-16 / gap, and so the system its peak
        slack = c.norm * (1e-9 + 2e-15 / (1 - np.abs(ssm.Lambda)).min())
        assert c.lower_bound <= c.upper + slack
        assert grid <= c.upper * (1 + 1e-9) + slack
        assert c.upper <= reduction.bound * (1 + 1e-3) + slack
        assert c.upper <= c.a_priori * (1 + 1e-3) + slack


@pytest.mark.parametrize("inputs", [1, 2])
def test_a_two_sided_gain_against_its_stacked_halves(rng, inputs):
    """The factor by which the bound of a bidirectional layer is wider than that of its stacked halves."""
    ratios = []
    for _ in range(60):
        ssm = random_ssm(rng, 3, inputs, inputs, D=False, reverse=True, gaps=(1e-3, 0.3))
        stacked = sr.DiagonalSSM(
            ssm.Lambda, ssm.B, np.vstack([ssm.C, ssm.C_reverse]), np.zeros((2 * inputs, inputs)), conj_sym=True
        )
        ratios.append(gain_on_grids(ssm) / gain_on_grids(stacked) / widening(ssm))
    assert max(ratios) <= 1 + 1e-9
    assert max(ratios) > 0.6


def test_a_real_pole_costs_one_stored_state_and_half_its_output():
    """Two slow real poles and a fast pair: the two real poles take two states, not one."""
    ssm = sr.DiagonalSSM([0.9, -0.8, 0.1 + 0.1j], [[1], [1], [0.1]], [[0.5, 0.5, 0.1]], [[0.0]], conj_sym=True)
    two = sr.reduction.balanced_truncation(ssm, 2)
    assert (two.order, two.real_order) == (2, 2)
    np.testing.assert_allclose(np.sort(two.ssm.Lambda.real), [-0.8, 0.9], atol=0.02)
    assert not two.ssm.Lambda.imag.any()
    omega = np.linspace(0, np.pi, 50)
    z = np.exp(1j * omega)[:, None, None]
    b, c = two.ssm.B.real, 2 * two.ssm.C.real
    expected = sum(c[:, k : k + 1] * b[k : k + 1] * z / (z - two.ssm.Lambda[k]) for k in range(2))
    np.testing.assert_allclose(sr.frequency_response(two.ssm, omega), expected, atol=1e-12)


def test_conjugates_that_are_both_stored_are_stored_once(rng):
    half = random_ssm(rng, 4, 2, 2)
    reduction = sr.reduction.balanced_truncation(conjugate_closed(half), 4)
    assert sr.certify(conjugate_closed(half), reduction.ssm).relative < 1e-9


def test_largest_real_order_that_fits(rng):
    """One more real order would need one more stored state."""
    ssm = random_ssm(rng, 12, 2, 2, gaps=(0.1, 0.6))
    for order in range(1, 12):
        reduction = sr.reduction.balanced_truncation(ssm, order)
        stored = np.where(reduction.ssm.Lambda.imag == 0, 1, 2).sum()
        assert stored == reduction.real_order
        assert reduction.order <= order <= reduction.real_order


@pytest.mark.parametrize("method", ["square_root", "balancing_free"])
def test_both_projections_agree(rng, method):
    ssm = random_ssm(rng, 8, 2, 3)
    omega = np.linspace(0, np.pi, 50)
    expected = sr.frequency_response(sr.reduction.balanced_truncation(ssm, 4).ssm, omega)
    got = sr.frequency_response(sr.reduction.balanced_truncation(ssm, 4, method=method).ssm, omega)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_tiny_singular_values_do_no_harm(rng):
    ssm = clustered(rng)
    values = hankel_singular_values(ssm, accuracy="relative")
    assert values[10] < 1e-9 * values[0]
    for order in range(1, 10):
        reduction = sr.reduction.balanced_truncation(ssm, order)
        assert sr.certify(ssm, reduction.ssm).upper <= reduction.bound + 1e-11 * values[0]


@pytest.mark.parametrize("system", ["mimo", "bidirectional", "batch", "all-stored"])
@pytest.mark.parametrize("tolerance", [0.5, 0.05, 1e-3])
def test_tolerance(rng, system, tolerance):
    ssm = SYSTEMS[system](rng)
    reduction = sr.reduction.balanced_truncation(ssm, tolerance=tolerance)
    norm = 0.0 if reduction.ssm is ssm else sr.certify(ssm, reduction.ssm).upper
    outputs = ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=-2)
    D = np.zeros((*outputs.shape[:-1], ssm.inputs))
    hankel = hankel_singular_values(sr.DiagonalSSM(ssm.Lambda, ssm.B, outputs, D, conj_sym=ssm.conj_sym))
    assert norm <= reduction.bound * (1 + 1e-3) + 1e-12
    assert reduction.bound <= tolerance * hankel[..., 0].max()


def test_tolerance_takes_the_smallest_order(rng):
    ssm = random_ssm(rng, 8, 2, 2)
    values = hankel_singular_values(ssm)
    reduction = sr.reduction.balanced_truncation(ssm, tolerance=0.1)
    assert 2 * values[reduction.real_order - 1 :].sum() > 0.1 * values[0]


def test_unattainable_tolerances_raise(rng):
    ssm = random_ssm(rng, 8, 2, 2)
    with pytest.raises(UnattainableError, match="2 stored states do not meet"):
        sr.reduction.balanced_truncation(ssm, 2, tolerance=1e-9)
    with pytest.raises(UnattainableError, match="positive"):
        sr.reduction.balanced_truncation(ssm, tolerance=0.0)
    with pytest.raises(SelectionError, match="order or a tolerance"):
        sr.reduction.balanced_truncation(ssm)
    with pytest.raises(UnknownNameError, match="square_root"):
        sr.reduction.balanced_truncation(ssm, 2, method="great")


@pytest.mark.parametrize("record", json.loads((FIXTURES / "balanced.json").read_text()), ids=str)
def test_errors_are_those_of_slicot_and_pymor(record):
    """Recorded by fixtures/generate_balanced.py; a real system in real arithmetic, where both are right."""
    n, m, p = record["case"]
    ssm = random_ssm(np.random.default_rng(n), n, m, p, gaps=(1e-2, 0.5), D=False)
    reduction = sr.reduction.balanced_truncation(ssm, record["order"])
    assert reduction.real_order == record["real_order"]
    omega = np.linspace(0.0, np.pi, 300)
    error = sr.frequency_response(ssm, omega) - sr.frequency_response(reduction.ssm, omega)
    peak = np.linalg.norm(error, 2, axis=(-2, -1)).max()
    np.testing.assert_allclose(peak, [record["slycot"], record["pymor"]], rtol=1e-8)
