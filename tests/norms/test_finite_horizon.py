"""Finite-horizon gains against dense Toeplitz matrices, peak-to-peak gains against long impulse responses."""

import numpy as np
import pytest
from support.norm_oracles import random_ssm

from ssmreduce.errors import NonFiniteError, NotRepresentableError, OptionError, UnstableSystemError
from ssmreduce.norms._finite_horizon import finite_horizon_gain, peak_to_peak_bounds
from ssmreduce.norms.peak._peak_gain import peak_gain
from ssmreduce.responses._responses import impulse_response, simulate
from ssmreduce.systems._conversions import to_state_space
from ssmreduce.systems._systems import DiagonalSSM, StateSpace


def toeplitz(ssm, length):
    """Every column from a simulation of its unit impulse."""
    columns = [simulate(ssm, e.reshape(length, ssm.inputs)).ravel() for e in np.eye(length * ssm.inputs)]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("m", "p", "length"), [(1, 1, 1), (1, 1, 2), (1, 1, 60), (2, 3, 40)])
@pytest.mark.parametrize("growth", [0.0, 0.02])
def test_lower_bound_is_the_norm_of_the_toeplitz_matrix(reverse, m, p, length, growth):
    stable = random_ssm(np.random.default_rng(length), 5, m, p, reverse=reverse)
    Lambda = stable.Lambda.copy()
    Lambda[0] *= (1.0 + growth) / abs(Lambda[0]) if growth else 1.0
    ssm = DiagonalSSM(Lambda, stable.B, stable.C, stable.D, stable.C_reverse, conj_sym=True)
    bounds = finite_horizon_gain(ssm, length)
    exact = np.linalg.norm(toeplitz(ssm, length), 2)
    np.testing.assert_allclose(bounds.lower, exact, rtol=1e-9)
    assert exact <= bounds.upper < np.inf


def test_a_long_horizon_approaches_the_peak_gain():
    ssm = random_ssm(np.random.default_rng(1), 4, gaps=(0.05, 0.5))
    gain = peak_gain(ssm).gain
    np.testing.assert_allclose(finite_horizon_gain(ssm, 2000).lower, gain, rtol=1e-3)
    assert finite_horizon_gain(ssm, 2000).upper <= gain * 1.01


def test_silence_and_refusals():
    silent = DiagonalSSM([1.5], [[0.0]], [[1.0]], [[0.0]])
    assert finite_horizon_gain(silent, 30).lower == 0.0
    with pytest.raises(OptionError, match="horizon"):
        finite_horizon_gain(silent, 0)
    with pytest.raises(UnstableSystemError, match="state 0"):
        peak_to_peak_bounds(silent)


@pytest.mark.parametrize("reverse", [False, True])
def test_peak_to_peak_bracket(reverse):
    ssm = random_ssm(np.random.default_rng(2), 6, 2, 3, gaps=(0.01, 0.5), reverse=reverse)
    bounds = peak_to_peak_bounds(ssm)
    h = impulse_response(ssm, 6000)
    exact = np.abs(h).sum(axis=(0, 2)).max()
    np.testing.assert_allclose(bounds.lower, exact, rtol=1e-5)
    assert bounds.lower <= exact * (1 + 1e-12)
    assert exact <= bounds.upper <= bounds.lower * (1 + 1e-6)
    short = peak_to_peak_bounds(ssm, max_lags=10)
    assert short.lower <= exact <= short.upper


def test_peak_to_peak_of_a_batch():
    ssm = random_ssm(np.random.default_rng(3), 3, batch=(4,), gaps=(0.05, 0.5))
    bounds = peak_to_peak_bounds(ssm)
    one = peak_to_peak_bounds(DiagonalSSM(ssm.Lambda[2], ssm.B[2], ssm.C[2], ssm.D[2], conj_sym=True))
    np.testing.assert_allclose(bounds.lower[2], one.lower, rtol=1e-5)
    assert bounds.upper.shape == (4,)


def test_dense_systems_are_diagonalised():
    ssm = random_ssm(np.random.default_rng(3), 4, 2, 3)
    dense = to_state_space(ssm)
    np.testing.assert_allclose(finite_horizon_gain(dense, 30).lower, finite_horizon_gain(ssm, 30).lower, rtol=1e-9)
    expected = peak_to_peak_bounds(ssm)
    np.testing.assert_allclose(peak_to_peak_bounds(dense).upper, expected.upper, rtol=1e-9)
    jordan = StateSpace([[0.5, 1.0], [0.0, 0.5]], np.eye(2), np.eye(2), np.zeros((2, 2)))
    for measure in (peak_to_peak_bounds, lambda system: finite_horizon_gain(system, 3)):
        with pytest.raises(NotRepresentableError):
            measure(jordan)


@pytest.mark.parametrize("exponent", [-560, 600])
@pytest.mark.parametrize("reverse", [False, True])
def test_sizes_whose_squares_leave_the_range(exponent, reverse):
    one = DiagonalSSM([1.5, 0.3j], [[1.0], [1.0]], [[1.0, 2.0]], [[1.0]], [[1.0, 1j]] if reverse else None)
    scale = 2.0**exponent
    far = DiagonalSSM(one.Lambda, one.B, scale * one.C, scale * one.D, scale * one.C_reverse if reverse else None)
    expected, found = finite_horizon_gain(one, 100), finite_horizon_gain(far, 100)
    np.testing.assert_allclose([found.lower / scale, found.upper / scale], [expected.lower, expected.upper], rtol=1e-12)


def test_a_gain_beyond_double_precision_is_refused():
    growing = DiagonalSSM([2.0], [[1.0]], [[1.0]], [[0.0]])
    with pytest.raises(NonFiniteError, match="3000 samples"):
        finite_horizon_gain(growing, 3000)
