"""Hankel singular values against 25-digit fixtures, finite Hankel matrices and dense systems."""

import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov, svdvals
from support.norm_oracles import dense, hankel_fixtures, random_ssm

from ssmreduce.errors import NonFiniteError, NotCausalError, UnknownNameError, UnstableSystemError
from ssmreduce.norms._hankel import hankel_norm, hankel_singular_values
from ssmreduce.norms._norms import h2_norm
from ssmreduce.responses._responses import impulse_response
from ssmreduce.systems._systems import DiagonalSSM, conjugate_closed

CASES = list(hankel_fixtures())


@pytest.mark.parametrize(("name", "ssm", "exact"), CASES, ids=[case[0] for case in CASES])
def test_every_value_has_a_small_relative_error(name, ssm, exact):
    np.testing.assert_allclose(hankel_singular_values(ssm, accuracy="relative"), exact, rtol=2e-13, atol=0)


@pytest.mark.parametrize(("name", "ssm", "exact"), CASES, ids=[case[0] for case in CASES])
def test_default_accuracy_is_absolute(name, ssm, exact):
    np.testing.assert_allclose(hankel_singular_values(ssm), exact, rtol=0, atol=1e-14 * exact[0])


def test_fixtures_reach_far_below_the_largest_value():
    assert min(exact[-1] / exact[0] for _, _, exact in CASES) < 1e-20


@pytest.mark.parametrize("form", ["scan", "textbook"])
@pytest.mark.parametrize(("n", "m", "p", "conj_sym"), [(4, 1, 1, True), (6, 2, 3, True), (5, 3, 1, False)])
def test_against_the_block_hankel_matrix(n, m, p, conj_sym, form):
    rng = np.random.default_rng(n)
    ssm = random_ssm(rng, n, m, p, gaps=(0.15, 0.6), conj_sym=conj_sym)
    h = impulse_response(ssm, 401)
    h[0] -= ssm.D
    h = h[0 if form == "scan" else 1 :]
    matrix = np.block([[h[i + j] for j in range(200)] for i in range(200)])
    values = hankel_singular_values(ssm, form=form)
    np.testing.assert_allclose(values, svdvals(matrix)[: 2 * n], rtol=1e-10, atol=1e-13 * values[0])
    np.testing.assert_allclose(hankel_norm(ssm, form=form), values[0], rtol=1e-15)


def test_fast_and_factored_paths_agree():
    ssm = random_ssm(np.random.default_rng(2), 24, 20, 20)
    fast = hankel_singular_values(ssm)
    np.testing.assert_allclose(fast, hankel_singular_values(ssm, accuracy="relative"), rtol=1e-11)


def test_dense_systems_agree_with_scipy_and_with_the_textbook_form():
    ssm = random_ssm(np.random.default_rng(8), 8, 3, 2)
    system = dense(ssm)
    P = solve_discrete_lyapunov(system.A, system.B @ system.B.T)
    Q = solve_discrete_lyapunov(system.A.T, system.C.T @ system.C)
    squares = np.sort(np.linalg.eigvals(P @ Q).real)[::-1]
    values = hankel_singular_values(system)
    np.testing.assert_allclose(values[:6], np.sqrt(squares[:6]), rtol=1e-8)
    np.testing.assert_allclose(values, hankel_singular_values(ssm, form="textbook"), rtol=1e-9)


def test_absolute_accuracy_where_the_gramian_is_numerically_singular():
    rng = np.random.default_rng(12)
    for k in range(60):
        n, m = int(rng.integers(2, 30)), 1 + k % 3
        gap = 10.0 ** rng.uniform(-8, -0.5)
        spread = gap * rng.standard_normal(n) * 10.0 ** rng.uniform(-1, 1.5)
        Lambda = (1.0 - gap * (1.0 + rng.random(n))) * np.exp(1j * (rng.uniform(0, 3) + spread))
        B = (rng.standard_normal((n, m)) + 1j) * 10.0 ** rng.uniform(-5, 5, (n, 1))
        C = rng.standard_normal((m, n)) + 1j
        ssm = DiagonalSSM(np.where(np.abs(Lambda) < 1, Lambda, 0.5), B, C, np.zeros((m, m)), conj_sym=True)
        exact = hankel_singular_values(ssm, accuracy="relative")
        np.testing.assert_allclose(hankel_singular_values(ssm), exact, rtol=0, atol=1e-12 * exact[0])


def test_laws():
    rng = np.random.default_rng(4)
    ssm = random_ssm(rng, 7, 2, 2)
    values = hankel_singular_values(ssm)
    order = rng.permutation(7)
    shuffled = DiagonalSSM(ssm.Lambda[order], ssm.B[order], ssm.C[:, order], ssm.D, conj_sym=True)
    np.testing.assert_allclose(hankel_singular_values(shuffled), values, rtol=1e-10)
    scale = rng.standard_normal(7) + 1j
    similar = DiagonalSSM(ssm.Lambda, ssm.B * scale[:, None], ssm.C / scale, ssm.D, conj_sym=True)
    np.testing.assert_allclose(hankel_singular_values(similar), values, rtol=1e-10)
    louder = DiagonalSSM(ssm.Lambda, ssm.B, 3.0 * ssm.C, ssm.D, conj_sym=True)
    np.testing.assert_allclose(hankel_singular_values(louder), 3.0 * values, rtol=1e-10)
    closed = hankel_singular_values(conjugate_closed(ssm))
    np.testing.assert_allclose(closed[:14], values, rtol=1e-10)
    np.testing.assert_allclose(closed[14:], 0.0, atol=1e-12 * values[0])


def test_a_batch_with_easy_and_hard_systems():
    rng = np.random.default_rng(6)
    easy = random_ssm(rng, 3, batch=(2,))
    hard = DiagonalSSM([0.5, 0.5, 0.3], np.ones((3, 1)), np.ones((1, 3)), [[0.0]], conj_sym=True)

    def both(name):
        return np.concatenate([getattr(easy, name), getattr(hard, name)[None]])

    batch = DiagonalSSM(both("Lambda"), both("B"), both("C"), both("D"), conj_sym=True)
    values = hankel_singular_values(batch, threads=2)
    for k, one in enumerate(hankel_singular_values(batch, accuracy="relative")):
        np.testing.assert_allclose(values[k], one, rtol=1e-9, atol=1e-14 * one[0])
    np.testing.assert_allclose(values[2, 2:], 0.0, atol=1e-15)


@pytest.mark.parametrize(("m", "p"), [(1, 1), (2, 3)])
def test_a_long_batch_is_its_systems(m, p):
    batch = random_ssm(np.random.default_rng(7), 32, m, p, batch=(3, 15))
    values = hankel_singular_values(batch)
    for k in [(0, 0), (1, 2), (2, 14)]:
        one = DiagonalSSM(batch.Lambda[k], batch.B[k], batch.C[k], batch.D[k], conj_sym=True)
        np.testing.assert_allclose(values[k], hankel_singular_values(one), rtol=0, atol=1e-14 * values[k][0])


def test_a_system_without_states_has_no_values():
    assert hankel_singular_values(DiagonalSSM([], np.ones((0, 2)), np.ones((1, 0)), np.ones((1, 2)))).shape == (0,)


def test_refusals():
    with pytest.raises(UnstableSystemError, match="state 0"):
        hankel_singular_values(DiagonalSSM([1.0], [[1.0]], [[1.0]], [[0.0]]))
    with pytest.raises(NotCausalError):
        hankel_norm(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]], [[1.0]]))
    with pytest.raises(UnknownNameError, match="absolute, relative"):
        hankel_singular_values(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]), accuracy="great")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_values_beyond_double_precision_are_refused():
    huge = DiagonalSSM([0.5, 0.9], [[1e200], [1.0]], [[1e200, 1.0]], [[0.0]])
    for norm in (hankel_singular_values, hankel_norm, h2_norm):
        with pytest.raises(NonFiniteError, match="beyond the range"):
            norm(huge)


def test_no_states_have_no_hankel_norm():
    empty = DiagonalSSM(np.zeros(0), np.zeros((0, 1)), np.zeros((1, 0)), [[1.0]])
    assert hankel_norm(empty) == 0.0
