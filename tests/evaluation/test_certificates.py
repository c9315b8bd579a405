"""Certificates against brute-force grids, the Lyapunov equation and each other."""

import numpy as np
import pytest
from support.norm_oracles import ADVERSARIAL, adversarial_ssm, gain_on_grids, random_ssm
from support.oracles import dense_h2_norm, system_at

import ssmreduce as sr
from ssmreduce.evaluation._certificates import certify
from ssmreduce.norms._hankel import hankel_singular_values
from ssmreduce.systems._error import error_system
from ssmreduce.systems._states import take_states


def kept(ssm, count):
    return take_states(ssm, np.arange(count))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("conj_sym", [False, True])
def test_error_system_is_the_difference(rng, conj_sym, reverse):
    ssm = random_ssm(rng, 6, 3, 2, conj_sym=conj_sym, reverse=reverse)
    other = random_ssm(rng, 4, 3, 2, reverse=reverse)
    omega = np.linspace(0, np.pi, 50)
    expected = sr.frequency_response(ssm, omega) - sr.frequency_response(other, omega)
    got = sr.frequency_response(error_system(ssm, other), omega)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_common_states_cancel_and_repeated_ones_pair_one_to_one(rng):
    ssm = random_ssm(rng, 6, 2, 2, batch=(3,))
    assert error_system(ssm, ssm).order == 0
    assert error_system(ssm, kept(ssm, 4)).order == 2
    twice = take_states(ssm, np.array([0, 0, 1]))
    once = take_states(ssm, np.array([0, 1]))
    omega = np.linspace(0, np.pi, 20)
    expected = sr.frequency_response(twice, omega) - sr.frequency_response(once, omega)
    np.testing.assert_allclose(sr.frequency_response(error_system(twice, once), omega), expected, atol=1e-9)
    assert error_system(twice, once).order == 1


def test_common_states_of_two_conventions(rng):
    """All states stored once, with C twice as large, is the same system as half of each pair."""
    ssm = random_ssm(rng, 4, 2, 2)
    doubled = sr.DiagonalSSM(ssm.Lambda, ssm.B, 2 * ssm.C, ssm.D)
    assert error_system(ssm, doubled).order == 0
    assert error_system(doubled, kept(ssm, 3)).order == 1


@pytest.mark.parametrize("reverse", [False, True])
def test_errors_against_grids_and_the_lyapunov_equation(rng, reverse):
    ssm = random_ssm(rng, 8, 3, 2, reverse=reverse, gaps=(1e-2, 0.5))
    certificate = certify(ssm, kept(ssm, 5), rtol=1e-8)
    dropped = take_states(ssm, np.arange(5, 8))
    dropped = sr.DiagonalSSM(dropped.Lambda, dropped.B, dropped.C, 0 * ssm.D, dropped.C_reverse, True)
    np.testing.assert_allclose(certificate.error, gain_on_grids(dropped), rtol=1e-7)
    np.testing.assert_allclose(certificate.h2_error, dense_h2_norm(dropped), rtol=1e-9)
    np.testing.assert_allclose(certificate.norm, gain_on_grids(ssm), rtol=1e-7)
    np.testing.assert_allclose(certificate.h2_norm, dense_h2_norm(ssm), rtol=1e-9)
    assert certificate.real_order == 10


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_lower_bound_certified_error_and_grids_on_hard_systems(kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind))
    for _ in range(15):
        ssm = adversarial_ssm(rng, kind, *rng.integers(1, 3, 2))
        reduced = kept(ssm, int(rng.integers(0, ssm.order)))
        c = certify(ssm, reduced)
        assert c.lower_bound <= c.upper * (1 + 1e-12) + 1e-13 * c.norm
        assert c.error <= c.upper
        grid = gain_on_grids(error_system(ssm, reduced))
        assert grid <= c.upper * (1 + 1e-9) + 1e-13 * c.norm


def test_h2_error_keeps_its_digits_where_two_systems_nearly_agree(rng):
    ssm = random_ssm(rng, 5, 2, 2, D=False)
    for size in (1e-3, 1e-9):
        moved = sr.DiagonalSSM(ssm.Lambda, ssm.B * (1 + size), ssm.C, ssm.D, conj_sym=True)
        np.testing.assert_allclose(certify(ssm, moved).h2_error, size * sr.h2_norm(ssm), rtol=1e-5)


def test_a_layer_of_many_systems_has_the_largest_gain_and_the_total_energy(rng):
    ssm = random_ssm(rng, 5, 1, 1, batch=(4,))
    reduced = kept(ssm, 3)
    whole = certify(ssm, reduced)
    each = [certify(system_at(ssm, (k,)), system_at(reduced, (k,))) for k in range(4)]
    for name in ("error", "upper", "lower_bound", "a_priori", "norm"):
        assert getattr(whole, name) == pytest.approx(max(getattr(c, name) for c in each), rel=1e-9)
    np.testing.assert_allclose(whole.h2_error, np.linalg.norm([c.h2_error for c in each]))


def test_unstable_states_cancel_or_make_the_error_infinite():
    ssm = sr.DiagonalSSM([1.01, 0.5, 0.2], np.ones((3, 1)), np.ones((1, 3)), [[0.0]])
    shared = certify(ssm, kept(ssm, 2))
    np.testing.assert_allclose(shared.error, 1 / 0.8)
    np.testing.assert_allclose(shared.norm, 1 / 0.5 + 1 / 0.8)
    assert np.isinf(certify(ssm, take_states(ssm, np.array([1, 2]))).error)


def test_a_changed_feedthrough_uses_the_bound_of_the_later_lags():
    ssm = sr.DiagonalSSM([0.5, -0.3], [[1.0], [0.1]], [[1.0, 0.5]], [[0.0]])
    reduced = sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.05]])
    c = certify(ssm, reduced)
    np.testing.assert_allclose(c.lower_bound, hankel_singular_values(ssm, form="textbook")[1])


def test_refusals(rng):
    with pytest.raises(sr.errors.ShapeError, match="must be the same"):
        certify(random_ssm(rng, 4, 2, 1), random_ssm(rng, 4, 1, 1))
