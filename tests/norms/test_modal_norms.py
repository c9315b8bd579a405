"""Norms of single states, the H2 norm, and the distances to the circle that they divide by."""

from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracles import (
    complex_normal,
    converted,
    dense_h2_norm,
    mp_h2_norm,
    mp_one_minus_abs,
    random_ssm,
    scaled,
    system_at,
)

from ssmreduce import DiagonalSSM, h2_norm
from ssmreduce._support.arrays import one_minus_abs, one_minus_abs2
from ssmreduce.errors import UnstableSystemError
from ssmreduce.norms import modal_h2_norms, modal_hinf_norms, pair_hinf_norms
from ssmreduce.norms._gramians import one_minus_products
from ssmreduce.systems._states import take_states

EPS = np.finfo(float).eps
GAPS = [0.5, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15]
NORMS = pytest.mark.parametrize("norm", [modal_hinf_norms, modal_h2_norms])
HALVES = pytest.mark.parametrize("bidirectional", [False, True])


def near_circle(rng, gap, n=40):
    return (1 - gap) * np.exp(1j * np.concatenate([rng.uniform(-np.pi, np.pi, n), [0, np.pi / 2, np.pi, -np.pi / 4]]))


# ---------------------------------------------------------------- 1 - |lambda| and 1 - lambda conj(mu)


@pytest.mark.parametrize("gap", [*GAPS, -1e-12, -1e-3, -5.0, 0.0, 1.0 - 1e-9])
def test_one_minus_abs(rng, gap):
    z = near_circle(rng, gap)
    np.testing.assert_allclose(one_minus_abs(z), [mp_one_minus_abs(v) for v in z], rtol=8 * EPS)
    squared = [float(1 - mp.mpf(v.real) ** 2 - mp.mpf(v.imag) ** 2) for v in z]
    np.testing.assert_allclose(one_minus_abs2(z), squared, rtol=8 * EPS)


def test_one_minus_abs_far_out():
    """Where the square overflows the distance is still right, and its sign is."""
    np.testing.assert_allclose(one_minus_abs(np.array([1e160, 1e300j, 0.0])), [-1e160, -1e300, 1.0], rtol=1e-15)
    np.testing.assert_array_equal(np.sign(one_minus_abs2(np.array([1e160, 1e300j, 0.0]))), [-1, -1, 1])


@pytest.mark.parametrize("gap", GAPS)
def test_one_minus_products(rng, gap):
    left = near_circle(rng, gap, 3)
    right = np.concatenate([left[:2], left[:3] * (1 - gap), left[:3] * np.exp(3j * gap), [0.5, 0.0]])
    products = one_minus_products(left, right)
    assert products.shape == (left.size, right.size)
    for i, j in np.ndindex(products.shape):
        exact = 1 - mp.mpc(left[i]) * mp.conj(mp.mpc(right[j]))
        assert abs(mp.mpc(products[i, j]) - exact) <= 8 * EPS * abs(exact)


def test_one_minus_products_of_batches(rng):
    left, right = (0.9 * complex_normal(rng, 2, 3, k) for k in (4, 5))
    expected = 1 - np.einsum("abi,abj->abij", left, right.conj())
    np.testing.assert_allclose(one_minus_products(left, right), expected, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------- norms of single states


@pytest.mark.parametrize("conj_sym", [False, True])
def test_modal_hinf_norm_is_the_peak_over_a_grid(rng, conj_sym):
    ssm = random_ssm(rng, 4, 3, 2, conj_sym=conj_sym, radius=(0.5, 0.95))
    grid = np.linspace(-np.pi, np.pi, 20001)
    for i, norm in enumerate(modal_hinf_norms(ssm)):
        residue = np.outer(ssm.C[:, i], ssm.B[i])
        gain = np.linalg.norm(residue, 2) / np.abs(1 - ssm.Lambda[i] * np.exp(-1j * grid))
        assert gain.max() <= norm * (1 + 1e-12)
        np.testing.assert_allclose(gain.max(), norm, rtol=1e-5)


def test_modal_hinf_norm_of_both_halves_bounds_the_peak(rng):
    ssm = random_ssm(rng, 4, 3, 2, bidirectional=True)
    grid = np.linspace(-np.pi, np.pi, 2001)
    norms = modal_hinf_norms(ssm)
    causal, reverse = (
        modal_hinf_norms(replace(ssm, C_reverse=None)),
        modal_hinf_norms(replace(ssm, C=ssm.C_reverse, C_reverse=None)),
    )
    np.testing.assert_allclose(norms, causal + reverse, rtol=1e-14)
    for i, norm in enumerate(norms):
        halves = [
            np.outer(C[:, i], ssm.B[i])[None] / (1 - ssm.Lambda[i] * np.exp(sign * 1j * grid))[:, None, None]
            for C, sign in ((ssm.C, -1), (ssm.C_reverse, 1))
        ]
        assert np.linalg.norm(sum(halves), 2, axis=(1, 2)).max() <= norm * (1 + 1e-12)


@HALVES
def test_modal_h2_norm_is_the_energy_of_the_impulse_response(rng, bidirectional):
    ssm = random_ssm(rng, 4, 3, 2, bidirectional=bidirectional, radius=(0.2, 0.8), conj_sym=True)
    lags = np.arange(200)  # 0.8 ** 400 = 2e-39
    for i, norm in enumerate(modal_h2_norms(ssm)):
        powers = ssm.Lambda[i] ** lags
        energy = sum(np.linalg.norm(p * np.outer(ssm.C[:, i], ssm.B[i])) ** 2 for p in powers[1:])
        lag0 = ssm.C[:, i]
        if bidirectional:
            energy += sum(np.linalg.norm(p * np.outer(ssm.C_reverse[:, i], ssm.B[i])) ** 2 for p in powers[1:])
            lag0 = lag0 + ssm.C_reverse[:, i]
        energy += np.linalg.norm(np.outer(lag0, ssm.B[i])) ** 2
        np.testing.assert_allclose(norm, np.sqrt(energy), rtol=1e-12)


@pytest.mark.parametrize("gap", GAPS)
def test_modal_norms_near_the_circle(rng, gap):
    Lambda = near_circle(rng, gap, 6)
    ssm = DiagonalSSM(Lambda, np.full((10, 1), 2.0), np.full((1, 10), 3j), [[0]])
    distance = [mp.mpf(1) - abs(mp.mpc(z)) for z in Lambda]
    np.testing.assert_allclose(modal_hinf_norms(ssm), [float(6 / d) for d in distance], rtol=20 * EPS)
    np.testing.assert_allclose(modal_h2_norms(ssm), [float(6 / mp.sqrt(d * (2 - d))) for d in distance], rtol=20 * EPS)


@NORMS
@HALVES
def test_unstable_states_have_no_norm(norm, bidirectional):
    """Unless no input or no output touches them."""
    Lambda = [0.5, 1.0, 1.1j, -1.0, 1e200]
    reverse = [[0.0, 0.0, 1.0, 0.0, 0.0]] if bidirectional else None
    ssm = DiagonalSSM(Lambda, [[1], [0], [1], [1], [1]], [[1, 1, 0, 0, 1]], [[0]], reverse)
    values = norm(ssm)
    assert np.isfinite(values[0])
    np.testing.assert_array_equal(values[1:], [0, np.inf if bidirectional else 0, 0, np.inf])


@NORMS
def test_batches_and_other_libraries(rng, as_array, norm):
    ssm = random_ssm(rng, 4, 2, 3, batch=(2, 2), bidirectional=True)
    values = norm(ssm)
    for index in np.ndindex(2, 2):
        np.testing.assert_allclose(values[index], norm(system_at(ssm, index)), rtol=1e-14)
    other = norm(converted(ssm, as_array))
    assert type(other) is type(as_array(values))
    np.testing.assert_allclose(np.asarray(other), values, rtol=1e-13)


@pytest.mark.parametrize("norm", [modal_hinf_norms, modal_h2_norms, h2_norm])
def test_gradients(rng, norm):
    """Torch differentiates the closed forms; finite differences agree."""
    torch = pytest.importorskip("torch")
    ssm = random_ssm(rng, 3, 2, 2, bidirectional=True, radius=(0.4, 0.8))

    def total(log_radius, library, kind):
        Lambda = library.exp(log_radius + 1j * kind(np.angle(ssm.Lambda)))
        arrays = (kind(np.array(getattr(ssm, name))) for name in ("B", "C", "D", "C_reverse"))
        return norm(DiagonalSSM(Lambda, *arrays)).sum()

    x = np.log(np.abs(ssm.Lambda))
    leaf = torch.tensor(x, requires_grad=True)
    total(leaf, torch, torch.from_numpy).backward()
    steps = 1e-6 * np.eye(3)
    expected = [(total(x + s, np, np.asarray) - total(x - s, np, np.asarray)) / 2e-6 for s in steps]
    np.testing.assert_allclose(leaf.grad.numpy(), expected, rtol=1e-6)


# ---------------------------------------------------------------- H2 norm


@HALVES
@pytest.mark.parametrize("conj_sym", [False, True])
def test_h2_norm_against_lyapunov(rng, bidirectional, conj_sym):
    ssm = random_ssm(rng, 5, 3, 2, batch=(2,), bidirectional=bidirectional, conj_sym=conj_sym)
    expected = [dense_h2_norm(system_at(ssm, i)) for i in range(2)]
    np.testing.assert_allclose(h2_norm(ssm), expected, rtol=1e-11)


@pytest.mark.parametrize("gap", GAPS[1:])
@pytest.mark.parametrize("conj_sym", [False, True])
def test_h2_norm_near_the_circle(rng, gap, conj_sym):
    ssm = random_ssm(rng, 4, 1, 1, radius=(1 - 2 * gap, 1 - gap), conj_sym=conj_sym)
    close = replace(ssm, Lambda=np.concatenate([ssm.Lambda[:2], ssm.Lambda[:2] * (1 - gap) * np.exp(1j * gap)]))
    for case in (ssm, close):
        np.testing.assert_allclose(h2_norm(case), mp_h2_norm(case), rtol=1e-12)


def test_h2_norm_of_states_that_cancel(rng):
    """The difference of two nearly equal systems: rounding must not make the energy negative."""
    for _ in range(20):
        ssm = random_ssm(rng, 3, 1, 1, radius=(0.3, 0.9))
        B, C = np.vstack([ssm.B, ssm.B]), np.hstack([ssm.C, -ssm.C])
        same = DiagonalSSM(np.concatenate([ssm.Lambda, ssm.Lambda + 1e-10]), B, C, [[0]])
        assert 0 <= h2_norm(same) <= 1e-6 * h2_norm(ssm)


def test_h2_norm_in_other_libraries(rng, as_array):
    ssm = random_ssm(rng, 4, 2, 3, batch=(2,), bidirectional=True)
    np.testing.assert_allclose(np.asarray(h2_norm(converted(ssm, as_array))), h2_norm(ssm), rtol=1e-12)


@pytest.mark.parametrize(
    ("moduli", "words"), [([0.5, 1.01, 0.9], "state 1 of"), ([1.0, 0.2, 2.0], "states 0, 2 of"), ([1.5] * 10, "7, ...")]
)
def test_h2_norm_names_unstable_states(moduli, words):
    ssm = DiagonalSSM(moduli, np.ones((len(moduli), 1)), np.ones((1, len(moduli))), [[0]])
    with pytest.raises(UnstableSystemError, match=f"the H2 norm does not exist: .*{words}"):
        h2_norm(ssm)


# ---------------------------------------------------------------- laws

systems = st.builds(
    lambda seed, n, m, p, bidirectional: random_ssm(np.random.default_rng(seed), n, m, p, bidirectional=bidirectional),
    *(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.booleans()),
)
seeds = st.integers(0, 2**32 - 1)


@NORMS
@given(ssm=systems, seed=seeds)
def test_laws_of_modal_norms(norm, ssm, seed):
    rng = np.random.default_rng(seed)
    values = norm(ssm)
    order = rng.permutation(ssm.order)
    np.testing.assert_allclose(norm(take_states(ssm, order)), values[order], rtol=1e-13)
    a = np.exp(rng.normal(size=ssm.order) * 3 + 1j * rng.uniform(0, 6, ssm.order))
    np.testing.assert_allclose(norm(scaled(ssm, a)), values, rtol=1e-7)  # halves that cancel at lag 0 lose digits
    factor = -3.7
    reverse = ssm.C_reverse * factor if ssm.bidirectional else None
    louder = replace(ssm, C=ssm.C * factor, C_reverse=reverse)
    np.testing.assert_allclose(norm(louder), 3.7 * values, rtol=1e-7)
    silent = ssm.B * (np.arange(ssm.order) != 0)[:, None]
    np.testing.assert_array_equal(norm(replace(ssm, B=silent)) == 0, np.arange(ssm.order) == 0)


@given(ssm=systems, seed=seeds)
def test_laws_of_the_h2_norm(ssm, seed):
    rng = np.random.default_rng(seed)
    value = h2_norm(ssm)
    np.testing.assert_allclose(h2_norm(take_states(ssm, rng.permutation(ssm.order))), value, rtol=1e-9)
    a = np.exp(rng.normal(size=ssm.order) + 1j * rng.uniform(0, 6, ssm.order))
    np.testing.assert_allclose(h2_norm(scaled(ssm, a)), value, rtol=1e-9)
    reverse = -2 * ssm.C_reverse if ssm.bidirectional else None
    louder = replace(ssm, C=-2 * ssm.C, D=-2 * ssm.D, C_reverse=reverse)
    np.testing.assert_allclose(h2_norm(louder), 2 * value, rtol=1e-12)


@pytest.mark.parametrize(("b", "c"), [(1e-160, 1e-93), (1e150, 6e47), (1e-170, 1.0), (1e-200, 1e200), (1e200, 1e-190)])
@pytest.mark.parametrize("reverse", [False, True])
def test_sizes_whose_squares_leave_the_range(b, c, reverse):
    one = DiagonalSSM([0.5, 0.3j], np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2)), np.eye(2) if reverse else None)
    size = b * c
    far = DiagonalSSM(one.Lambda, b * one.B, c * one.C, one.D, c * one.C_reverse if reverse else None)
    for norms in (modal_h2_norms, modal_hinf_norms, pair_hinf_norms):
        np.testing.assert_allclose(norms(far), norms(one) * size, rtol=1e-12)


def test_poles_next_to_zero_raise_no_warning():
    ssm = DiagonalSSM([1e-200, 1e-180j, 0.5 + 1e-200j], np.ones((3, 1)), np.ones((1, 3)), [[0.0]], conj_sym=True)
    np.testing.assert_allclose(pair_hinf_norms(ssm), [2.0, 2.0, 4.0], rtol=1e-14)
