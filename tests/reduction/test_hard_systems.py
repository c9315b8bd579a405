"""Reductions of slow, nearly repeated and vanishing poles, where rounding used to win."""

import numpy as np
import pytest
from support.norm_oracles import random_ssm

from ssmreduce.errors import UnattainableError
from ssmreduce.evaluation import certify
from ssmreduce.norms import hankel_norm, hankel_singular_values, peak_gain
from ssmreduce.reduction import (
    balanced_truncation,
    h2_approximation,
    hankel_approximation,
    singular_perturbation,
)
from ssmreduce.responses import frequency_response, impulse_response
from ssmreduce.systems import DiagonalSSM, StateSpace, error_system, from_state_space


def slow_on_both_sides(gap, outputs=1, inputs=1):
    """Poles near 1 and near -1, some ten times the gap apart."""
    rng = np.random.default_rng(inputs)
    poles = np.array([1 - gap, -(1 - 1.7 * gap), 1 - 3 * gap, -(1 - 5 * gap), 0.5, -0.3])
    B, C = np.ones((6, inputs)), (1 - np.abs(poles)) * np.array([1, 0.9, 0.8, 0.7, 0.5, 0.4]) * np.ones((outputs, 1))
    B, C = B + 0.5 * rng.standard_normal(B.shape) * (inputs > 1), C * (1 + rng.standard_normal(C.shape) * (outputs > 1))
    return DiagonalSSM(poles, B, C, np.zeros((outputs, inputs)))


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("outputs", [1, 3])
def test_hankel_approximation_of_slow_poles_on_both_sides_is_optimal(gap, order, outputs):
    ssm = slow_on_both_sides(gap, outputs)
    reduction = hankel_approximation(ssm, order)
    values = hankel_singular_values(ssm, form="textbook")
    assert reduction.real_order == order
    error = error_system(ssm, reduction.ssm)
    np.testing.assert_allclose(hankel_norm(error, form="textbook"), values[order], rtol=1e-2)
    assert peak_gain(error).gain <= reduction.bound * 1.001


def test_hankel_approximation_of_a_slow_bidirectional_layer_keeps_its_bound():
    """Seven poles within 1e-6 to 1e-10 of both 1 and -1, and a reverse half."""
    rng = np.random.default_rng(3)
    gap = np.array([9.2e-8, 7.3e-7, 0.66, 5.7e-10, 3.1e-9, 4e-6, 8.8e-10])
    poles = (1 - gap) * np.array([-1.0, 1, 1, -1, 1, 1, 1])

    def normal(*shape):
        return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)

    ssm = DiagonalSSM(poles, normal(7, 1), normal(1, 7), [[0.0]], normal(1, 7))
    reduction = hankel_approximation(ssm, 3)
    gain = peak_gain(error_system(ssm, reduction.ssm)).gain
    assert gain <= reduction.bound * 1.001
    assert gain <= peak_gain(ssm).gain


def test_hankel_approximation_says_where_rounding_wins():
    ssm = slow_on_both_sides(1e-9, 2, 2)
    with pytest.raises(UnattainableError, match="lost in rounding.*1 and -1"):
        hankel_approximation(ssm, 3)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_hankel_approximation_of_slow_poles_on_one_side(side):
    gap = 10.0 ** -np.arange(2.0, 9.0, 1.5)
    ssm = DiagonalSSM(side * (1 - gap), np.ones((5, 2)) + np.eye(5, 2), (gap * np.eye(2, 5) + gap), np.zeros((2, 2)))
    values = hankel_singular_values(ssm, form="textbook")
    reduction = hankel_approximation(ssm, 2)
    error = error_system(ssm, reduction.ssm)
    np.testing.assert_allclose(hankel_norm(error, form="textbook"), values[reduction.real_order], rtol=1e-2)


@pytest.mark.parametrize("poles", [[0.0, 0.0], [0.0, 0.5], [0.0, 0.5j], [0.0, 0.0, 0.0]])
def test_h2_approximation_with_poles_at_zero(poles):
    n = len(poles)
    ssm = DiagonalSSM(poles, np.arange(1.0, n + 1)[:, None], np.ones((1, n)), [[0.0]])
    reduced = h2_approximation(ssm, 1).ssm
    h = impulse_response(ssm, 100) - impulse_response(reduced, 100)
    certificate = certify(ssm, reduced)
    np.testing.assert_allclose(certificate.h2_error, np.linalg.norm(h), rtol=1e-10, atol=1e-15)
    assert certificate.h2_error <= certify(ssm, balanced_truncation(ssm, 1).ssm).h2_error * (1 + 1e-9) + 1e-15


def test_h2_approximation_keeps_the_parts_of_real_poles_together():
    rng = np.random.default_rng(1)
    for seed in range(12):
        ssm = random_ssm(np.random.default_rng(seed), 4, 2, 1, gaps=(0.04, 0.7), reverse=True, conj_sym=False)
        poles = ssm.Lambda.real * np.sign(rng.standard_normal(4))
        real = DiagonalSSM(poles, ssm.B, ssm.C, ssm.D, ssm.C_reverse)
        for system in (ssm, real):
            reduced = h2_approximation(system, 3).ssm
            h = impulse_response(system, 2000) - impulse_response(reduced, 2000)
            np.testing.assert_allclose(certify(system, reduced).h2_error, np.linalg.norm(h), rtol=1e-9)
            at = np.flatnonzero((reduced.Lambda.imag == 0) & (np.abs(reduced.B.imag).max(axis=1) > 0))
            for i in at:
                C = np.concatenate([reduced.C, reduced.C_reverse])[:, i]
                if np.linalg.norm(C.imag) > 0:
                    ratios = [
                        np.linalg.norm(part(reduced.B[i])) / np.linalg.norm(part(C)) for part in (np.real, np.imag)
                    ]
                    np.testing.assert_allclose(ratios[0], ratios[1], rtol=1e-9)


def test_balanced_truncation_of_a_nearly_double_pole_keeps_its_bound():
    A = np.zeros((4, 4))  # a system of the tests of python-control, sampled
    A[0, [0, 2]], A[2, [0, 2]] = [0.9001625013690504, -0.09500408335292657], [0.0950040833529266, 0.9951665847219769]
    A[1, [1, 3]], A[3, [1, 3]] = [0.8143536762323635, 0.09048374180359595], [-0.09048374180359593, 0.9953211598395555]
    B = np.zeros((4, 2))
    B[[0, 2], 0], B[[1, 3], 1] = (
        [-0.09500408335292662, -0.004833415278023037],
        [0.09048374180359596, -0.00467884016044449],
    )
    ssm = from_state_space(StateSpace(A, B, [[0.0, -1.0, -1.0, 0.0]], [[0.0, 1.0]]), conj_sym=False)
    for order in (1, 2, 3):
        reduction = balanced_truncation(ssm, order)
        certificate = certify(ssm, reduction.ssm)
        assert certificate.error <= reduction.bound * 1.01 + 1e-6 * certificate.norm
        assert certificate.lower_bound <= certificate.upper


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_singular_perturbation_keeps_the_gain_at_frequency_0(order):
    rng = np.random.default_rng(7)
    for _ in range(5):
        poles = (1.0 - 10.0 ** rng.uniform(-10, -2, 5)) * rng.choice([-1.0, 1.0], 5)
        B, C = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape) for shape in ((5, 1), (1, 5)))
        ssm = DiagonalSSM(poles, B, C, [[0.0]], conj_sym=True)
        reduced = singular_perturbation(ssm, order).ssm
        gains = [frequency_response(system, [0.0])[0].real for system in (ssm, reduced)]
        np.testing.assert_allclose(gains[1], gains[0], rtol=1e-12)
