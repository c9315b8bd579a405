"""Norms of single states as real systems, against the certified peak gain of each state alone."""

import numpy as np
import pytest
from support.norm_oracles import random_ssm

from ssmreduce.norms._norms import modal_hinf_norms
from ssmreduce.norms._pair_norms import pair_hinf_norms
from ssmreduce.norms.peak._peak_gain import hinf_norm, peak_gain
from ssmreduce.systems._states import take_states
from ssmreduce.systems._systems import DiagonalSSM

KINDS = (
    "plain",
    "near 1",
    "near -1",
    "real",
    "real input",
    "imaginary residue",
    "equal singular values",
    "opposite",
    "zero pole",
)


def states(rng, kind, n, p, m):
    gap, angle = 10.0 ** rng.uniform(-9, -0.01, n), rng.uniform(-np.pi, np.pi, n)
    if kind == "near 1":
        angle = 10.0 ** rng.uniform(-9, 0, n) * rng.choice([-1, 1], n)
    if kind == "near -1":
        angle = np.pi - 10.0 ** rng.uniform(-9, 0, n)
    Lambda = (1.0 - gap) * np.exp(1j * angle)
    if kind == "real":
        Lambda = (1.0 - gap) * rng.choice([-1, 1], n) + 0j
    if kind == "zero pole":
        Lambda = 0.0 * Lambda
    B = rng.standard_normal((n, m)) + 1j * rng.standard_normal((n, m))
    C = rng.standard_normal((p, n)) + 1j * rng.standard_normal((p, n))
    if kind == "real input":
        B = B.real + 0j
    if kind == "imaginary residue":
        B, C = 1j * B.real, C.real + 0j
    if kind in ("equal singular values", "opposite") and min(p, m) > 1:
        B[:, 1], C[1] = 1j * B[:, 0], (1j if kind == "opposite" else -1j) * C[0]
    return DiagonalSSM(Lambda, B, C, np.zeros((p, m)), conj_sym=True)


def alone(ssm):
    """A batch of systems of one state each."""
    D = np.zeros((ssm.order, ssm.outputs, ssm.inputs))
    reverse = None if ssm.C_reverse is None else ssm.C_reverse.T[:, :, None]
    return DiagonalSSM(ssm.Lambda[:, None], ssm.B[:, None, :], ssm.C.T[:, :, None], D, reverse, ssm.conj_sym)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("p", "m"), [(1, 1), (2, 2), (4, 3), (1, 5)])
def test_closed_form_is_the_certified_norm_of_the_pair(kind, p, m):
    ssm = states(np.random.default_rng(KINDS.index(kind)), kind, 200, p, m)
    peak = peak_gain(alone(ssm), rtol=1e-12)
    norms = pair_hinf_norms(ssm)
    np.testing.assert_allclose(norms, peak.gain, rtol=1e-12, atol=1e-14 * peak.gain.max() if min(p, m) == 1 else 0)
    assert np.all(norms <= peak.upper)


@pytest.mark.parametrize(("p", "m"), [(1, 1), (3, 2), (6, 5)])
def test_bidirectional_states_have_their_exact_peak_gain(p, m):
    ssm = random_ssm(np.random.default_rng(p), 30, m, p, gaps=(1e-6, 0.9), reverse=True)
    norms = pair_hinf_norms(ssm, threads=2)
    np.testing.assert_allclose(norms, peak_gain(alone(ssm), rtol=1e-12).gain, rtol=1e-11)
    assert np.all(norms <= ssm.kappa * modal_hinf_norms(ssm) * (1.0 + 1e-12))


def test_between_the_modal_norm_and_twice_it():
    ssm = random_ssm(np.random.default_rng(3), 50, 3, 3, conj_sym=True)
    ratio = pair_hinf_norms(ssm) / modal_hinf_norms(ssm)
    assert np.all(ratio <= 2.0 + 1e-12)
    np.testing.assert_allclose(pair_hinf_norms(DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]], conj_sym=True)), [4.0])


def test_the_triangle_inequality_over_states_bounds_the_layer():
    ssm = random_ssm(np.random.default_rng(4), 12, 2, 2, D=False)
    assert hinf_norm(ssm) <= pair_hinf_norms(ssm).sum()
    dropped = take_states(ssm, np.array([0, 5, 7]))
    assert hinf_norm(dropped) <= pair_hinf_norms(ssm)[[0, 5, 7]].sum()


def test_batches_and_scaling():
    ssm = random_ssm(np.random.default_rng(5), 4, 2, 3, batch=(2, 3))
    norms = pair_hinf_norms(ssm)
    one = DiagonalSSM(ssm.Lambda[1, 2], ssm.B[1, 2], ssm.C[1, 2], ssm.D[1, 2], conj_sym=True)
    np.testing.assert_allclose(norms[1, 2], pair_hinf_norms(one), rtol=1e-14)
    half = DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, ssm.D)  # without conj_sym the output is half as loud
    np.testing.assert_allclose(pair_hinf_norms(half), norms / 2.0, rtol=1e-14)


@pytest.mark.parametrize("reverse", [None, np.ones((1, 3))])
def test_unstable_states_are_infinite_unless_nothing_touches_them(reverse):
    ssm = DiagonalSSM([0.5, 1.0, 1.2j], [[1.0], [1.0], [0.0]], np.ones((1, 3)), [[0.0]], reverse)
    norms = pair_hinf_norms(ssm)
    assert np.isfinite(norms[0])
    np.testing.assert_array_equal(norms[1:], [np.inf, 0.0])
