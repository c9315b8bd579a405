"""Gramians: residuals of the equation, factors, refusals."""

import numpy as np
import pytest
from support.norm_oracles import dense, random_ssm

from ssmreduce.errors import NotCausalError, UnknownNameError, UnstableSystemError
from ssmreduce.norms._gramians import cauchy_factor, controllability_gramian, observability_gramian, one_minus_products
from ssmreduce.systems._systems import DiagonalSSM, conjugate_closed


def adjoint(x):
    return np.conj(np.swapaxes(x, -1, -2))


def assert_solves(A, P, rows, rtol=1e-12):
    right = rows @ adjoint(rows)
    residual = A @ P @ adjoint(A) - P + right
    np.testing.assert_array_less(np.linalg.norm(residual), rtol * np.linalg.norm(right))


@pytest.mark.parametrize(("n", "m", "p"), [(1, 1, 1), (8, 1, 1), (33, 4, 2), (16, 40, 3)])
def test_gramians_solve_their_equation(n, m, p):
    ssm = random_ssm(np.random.default_rng(n), n, m, p, gaps=(1e-2, 0.9))
    A = np.diag(ssm.Lambda)
    assert_solves(A, controllability_gramian(ssm), ssm.B)
    assert_solves(adjoint(A), observability_gramian(ssm), adjoint(ssm.C))
    assert_solves(adjoint(A), observability_gramian(ssm, form="textbook"), adjoint(ssm.C @ A))


def test_gramian_entries_near_the_circle_against_a_residual_in_the_entries():
    ssm = random_ssm(np.random.default_rng(1), 24, 3, 1, gaps=(1e-12, 1e-6))
    P = controllability_gramian(ssm)
    np.testing.assert_allclose(P * one_minus_products(ssm.Lambda, ssm.Lambda), ssm.B @ adjoint(ssm.B), rtol=1e-13)


@pytest.mark.parametrize(("m", "gaps"), [(1, (1e-9, 0.9)), (5, (1e-9, 0.9)), (1, (0.3, 0.31)), (30, (1e-3, 0.9))])
def test_factor_reproduces_the_gramian(m, gaps):
    ssm = random_ssm(np.random.default_rng(m), 20, m, 1, gaps=gaps)
    L = cauchy_factor(ssm.Lambda, ssm.B)
    P = controllability_gramian(ssm)
    scale = np.sqrt(np.real(np.diag(P)))
    np.testing.assert_allclose(L @ adjoint(L) / np.outer(scale, scale), P / np.outer(scale, scale), atol=1e-13)


def test_factor_of_repeated_poles_stops_at_the_rank():
    L = cauchy_factor(np.array([0.5 + 0.2j] * 3), np.array([[1.0], [2.0], [-1j]], dtype=complex))
    np.testing.assert_array_equal(L[:, 1:], 0.0)
    np.testing.assert_allclose(L @ adjoint(L), np.outer([1, 2, -1j], [1, 2, 1j]) / (1 - 0.29), rtol=1e-14)


def test_factors_of_a_batch_are_those_of_its_systems_and_threads_change_nothing():
    ssm = random_ssm(np.random.default_rng(5), 6, 2, 1, batch=(2, 3))
    both = cauchy_factor(ssm.Lambda, ssm.B, threads=2)
    np.testing.assert_array_equal(both, cauchy_factor(ssm.Lambda, ssm.B, threads=1))
    np.testing.assert_array_equal(both[1, 2], cauchy_factor(ssm.Lambda[1, 2], ssm.B[1, 2]))


@pytest.mark.parametrize("gaps", [(1e-2, 0.9), (1e-7, 1e-1)])
def test_dense_gramians_solve_their_equation(gaps):
    system = dense(random_ssm(np.random.default_rng(3), 9, 2, 3, gaps=gaps))
    P, Q = controllability_gramian(system), observability_gramian(system)
    # the residual of a large Gramian cannot be below its own rounding
    for A, X, rows in ((system.A, P, system.B), (system.A.T, Q, system.C.T)):
        residual = np.linalg.norm(A @ X @ A.T - X + rows @ rows.T)
        assert residual <= 1e-12 * np.linalg.norm(rows @ rows.T) + 1e-15 * X.shape[0] * np.linalg.norm(X)


def test_dense_and_diagonal_gramians_agree():
    ssm = random_ssm(np.random.default_rng(7), 5, 2, 2)
    P, closed = controllability_gramian(dense(ssm)), controllability_gramian(conjugate_closed(ssm))
    T = np.block([[np.eye(5), 1j * np.eye(5)], [np.eye(5), -1j * np.eye(5)]])
    np.testing.assert_allclose(T @ P @ adjoint(T), closed, rtol=1e-10, atol=1e-10 * abs(closed).max())


def test_refusals_name_what_is_wrong():
    with pytest.raises(UnstableSystemError, match="states 1, 2"):
        controllability_gramian(DiagonalSSM([0.5, 1.0, 1.1j], np.ones((3, 1)), np.ones((1, 3)), [[0.0]]))
    one = DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]], [[1.0]])
    with pytest.raises(NotCausalError, match="backwards"):
        observability_gramian(one)
    with pytest.raises(UnknownNameError, match="scan, textbook"):
        observability_gramian(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]), form="other")
    with pytest.raises(UnstableSystemError, match="modulus"):
        controllability_gramian(dense(DiagonalSSM([1.5], [[1.0]], [[1.0]], [[0.0]])))
