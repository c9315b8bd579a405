"""H2 norms, and what all norms say of systems they cannot measure."""

import warnings

import numpy as np
import pytest
from support.norm_oracles import dense, random_ssm

from ssmreduce.errors import PrecisionWarning, UnstableSystemError
from ssmreduce.norms._norms import h2_norm, modal_h2_norms, modal_hinf_norms
from ssmreduce.responses._responses import impulse_response
from ssmreduce.systems._systems import DiagonalSSM


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("m", "p", "conj_sym"), [(1, 1, True), (3, 2, True), (2, 2, False)])
def test_h2_norm_is_the_energy_of_the_impulse_response(reverse, m, p, conj_sym):
    ssm = random_ssm(np.random.default_rng(m), 6, m, p, gaps=(0.02, 0.6), reverse=reverse, conj_sym=conj_sym)
    np.testing.assert_allclose(h2_norm(ssm), np.linalg.norm(impulse_response(ssm, 3000)), rtol=1e-12)


@pytest.mark.parametrize("gaps", [(1e-2, 0.9), (1e-6, 1e-1)])
def test_dense_h2_norm_agrees(gaps):
    ssm = random_ssm(np.random.default_rng(1), 12, 2, 3, gaps=gaps)
    np.testing.assert_allclose(h2_norm(dense(ssm)), h2_norm(ssm), rtol=1e-9)


def test_h2_norm_of_a_slow_state_in_closed_form():
    for gap in (1e-3, 1e-9, 1e-13):
        pole = 1.0 - gap
        exact = 1.0 / np.sqrt((1.0 - pole) * (1.0 + pole))
        np.testing.assert_allclose(h2_norm(DiagonalSSM([pole], [[1.0]], [[1.0]], [[0.0]])), exact, rtol=1e-14)


def test_single_precision_poles_near_the_circle_warn():
    with pytest.warns(PrecisionWarning, match="state 1"):
        DiagonalSSM(np.array([0.5, 1.0 - 1e-6], dtype=np.complex64), np.ones((2, 1)), np.ones((1, 2)), [[0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DiagonalSSM(np.array([0.5, 0.999], dtype=np.complex64), np.ones((2, 1)), np.ones((1, 2)), [[0.0]])
        DiagonalSSM(np.array([0.5, 1.0 - 1e-9]), np.ones((2, 1)), np.ones((1, 2)), [[0.0]])


@pytest.mark.parametrize("pole", [1.0, -1.0, 1j, 1.0 + 1e-15, 2.0])
def test_poles_on_or_outside_the_circle(pole):
    ssm = DiagonalSSM([0.5, pole], np.ones((2, 1)), np.ones((1, 2)), [[0.0]])
    with pytest.raises(UnstableSystemError, match="state 1 "):
        h2_norm(ssm)
    assert modal_hinf_norms(ssm)[1] == modal_h2_norms(ssm)[1] == np.inf


@pytest.mark.parametrize("gap", [1e-5, 1e-9, 1e-15])
def test_poles_close_to_the_circle_are_finite(gap):
    ssm = DiagonalSSM([1.0 - gap], [[1.0]], [[1.0]], [[0.0]])
    np.testing.assert_allclose(modal_hinf_norms(ssm), 1.0 / (1.0 - (1.0 - gap)), rtol=1e-15)
