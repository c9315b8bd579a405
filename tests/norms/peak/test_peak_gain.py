"""Peak gain: the bracket against extended-precision grids, the value against 40-digit peaks, budgets, batches, laws."""

import numpy as np
import pytest
from support.norm_oracles import (
    ADVERSARIAL,
    adversarial_ssm,
    all_pass,
    gain_on_grids,
    peak_mp,
    random_ssm,
    response_extended,
)

from ssmreduce._support.exact import two_product, two_sum
from ssmreduce.errors import NonFiniteError, NotCausalError, OptionError, UnstableSystemError
from ssmreduce.norms.peak._bounds import interval_bound
from ssmreduce.norms.peak._circle import angle_between, direction, turn
from ssmreduce.norms.peak._peak_gain import hinf_norm, peak_gain
from ssmreduce.norms.peak._phases import phases
from ssmreduce.responses._responses import frequency_response
from ssmreduce.systems._systems import DiagonalSSM, conjugate_closed


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_bracket_holds_on_adversarial_systems(kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind))
    for _ in range(200):
        siso = kind == "all_pass" or rng.random() < 0.6
        p, m = (1, 1) if siso else rng.integers(1, 5, 2)
        ssm = adversarial_ssm(rng, kind, p, m)
        rtol = 1e-4 if kind == "all_pass" else 1e-6  # a flat response needs N / sqrt(rtol) samples
        peak = peak_gain(ssm, rtol=rtol)
        below = gain_on_grids(ssm)
        # the grids' own error: angles of 1e-19 rad against gaps of 1e-9
        assert below <= peak.upper * (1.0 + 1e-9)
        assert below <= peak.gain * (1.0 + rtol)
        assert peak.gain <= peak.upper <= peak.gain * (1.0 + rtol)


@pytest.mark.parametrize("kind", ADVERSARIAL)
def test_value_is_that_of_the_40_digit_peak(kind):
    rng = np.random.default_rng(100 + ADVERSARIAL.index(kind))
    for _ in range(4):
        ssm = adversarial_ssm(rng, kind)
        peak = peak_gain(ssm, rtol=1e-5 if kind == "all_pass" else 1e-12)
        exact = peak_mp(ssm, peak.omega)
        np.testing.assert_allclose(peak.gain, exact, rtol=1e-13)
        assert exact <= peak.upper


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_a_lone_state_has_its_modal_norm(gap):
    ssm = DiagonalSSM([1.0 - gap], [[2.0]], [[3.0]], [[0.0]])
    gap = 1.0 - (1.0 - gap)
    peak = peak_gain(ssm)
    np.testing.assert_allclose(peak.gain, 6.0 / gap, rtol=2e-15)
    assert peak.omega == 0.0
    assert peak.upper >= 6.0 / gap


@pytest.mark.parametrize(("n", "m", "p"), [(8, 1, 3), (8, 4, 1), (32, 4, 4), (64, 16, 8), (5, 24, 24)])
@pytest.mark.parametrize("reverse", [False, True])
def test_many_inputs_and_outputs(n, m, p, reverse):
    ssm = random_ssm(np.random.default_rng(n), n, m, p, gaps=(1e-6, 0.5), reverse=reverse)
    peak = peak_gain(ssm, rtol=1e-8)
    below = gain_on_grids(ssm)
    assert below * (1.0 - 1e-11) <= peak.upper <= peak.gain * (1.0 + 1e-8)
    response = response_extended(ssm, np.array([peak.omega], dtype=np.longdouble))[0]
    np.testing.assert_allclose(np.linalg.norm(response, 2), peak.gain, rtol=1e-8)


def test_feedthrough_counts_in_the_scan_form():
    ssm = DiagonalSSM([-0.5], [[1.0]], [[1.0]], [[1.0]])  # G = 1 + z / (z + 0.5): 3 at z = -1; textbook D' is 2
    np.testing.assert_allclose(hinf_norm(ssm), 3.0, rtol=2e-15)
    zero_pole = DiagonalSSM([0.0], [[1.0]], [[1.0]], [[-3.0]])  # a direct term, not a delay
    np.testing.assert_allclose(hinf_norm(zero_pole), 2.0, rtol=2e-15)


def test_laws():
    rng = np.random.default_rng(3)
    ssm = random_ssm(rng, 9, 3, 2)
    gain = hinf_norm(ssm)
    order = rng.permutation(9)
    shuffled = DiagonalSSM(ssm.Lambda[order], ssm.B[order], ssm.C[:, order], ssm.D, conj_sym=True)
    np.testing.assert_allclose(hinf_norm(shuffled), gain, rtol=1e-13)
    scale = rng.standard_normal(9) + 1j
    similar = DiagonalSSM(ssm.Lambda, ssm.B * scale[:, None], ssm.C / scale, ssm.D, conj_sym=True)
    np.testing.assert_allclose(hinf_norm(similar), gain, rtol=1e-13)
    np.testing.assert_allclose(hinf_norm(conjugate_closed(ssm)), gain, rtol=1e-13)
    orthogonal = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turned = DiagonalSSM(ssm.Lambda, ssm.B @ orthogonal, ssm.C, ssm.D @ orthogonal, conj_sym=True)
    np.testing.assert_allclose(hinf_norm(turned), gain, rtol=1e-13)
    louder = DiagonalSSM(ssm.Lambda, ssm.B, 5.0 * ssm.C, 5.0 * ssm.D, conj_sym=True)
    np.testing.assert_allclose(hinf_norm(louder), 5.0 * gain, rtol=1e-13)
    adjoint = DiagonalSSM(ssm.Lambda, ssm.C.T, ssm.B.T, ssm.D.T, conj_sym=True)
    np.testing.assert_allclose(hinf_norm(adjoint), gain, rtol=1e-13)


def test_reversed_time_has_the_same_gain():
    ssm = random_ssm(np.random.default_rng(4), 6, 2, 2, reverse=True)
    backwards = DiagonalSSM(ssm.Lambda, ssm.B, ssm.C_reverse, ssm.D, ssm.C, conj_sym=True)
    np.testing.assert_allclose(peak_gain(backwards).gain, peak_gain(ssm).gain, rtol=1e-13)
    only = DiagonalSSM(ssm.Lambda, ssm.B, 0.0 * ssm.C, ssm.D, ssm.C, conj_sym=True)
    causal = DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, ssm.D, conj_sym=True)
    np.testing.assert_allclose(peak_gain(only).gain, hinf_norm(causal), rtol=1e-13)


def test_a_batch_is_its_systems_whatever_the_threads():
    ssm = random_ssm(np.random.default_rng(5), 7, batch=(3, 4))
    one, two = peak_gain(ssm, threads=1), peak_gain(ssm, threads=2)
    np.testing.assert_array_equal(one.gain, two.gain)
    np.testing.assert_array_equal(one.upper, two.upper)
    single = DiagonalSSM(ssm.Lambda[1, 2], ssm.B[1, 2], ssm.C[1, 2], ssm.D[1, 2], conj_sym=True)
    assert peak_gain(single).gain == one.gain[1, 2]
    assert one.samples.shape == hinf_norm(ssm).shape == (3, 4)


@pytest.mark.parametrize("budget", [1, 3, 10, 40, 150])
def test_an_exhausted_budget_leaves_an_honest_bracket(budget):
    ssm = random_ssm(np.random.default_rng(6), 64)
    peak = peak_gain(ssm, max_samples=budget)
    exact = peak_gain(ssm)
    assert peak.gain <= exact.gain * (1.0 + 1e-15)
    assert exact.gain <= peak.upper < np.inf
    assert peak.samples <= budget + 80


def test_budget_of_a_flat_response_is_reported_as_a_wider_bracket():
    ssm = all_pass(0.8 * np.exp(1j * np.linspace(0.2, 2.9, 5)))
    peak = peak_gain(ssm, rtol=1e-13, max_samples=3000)
    np.testing.assert_allclose(peak.gain, 1.0, rtol=1e-12)
    assert 1.0 <= peak.upper < 1.0 + 1e-3


def test_rounding_that_cannot_be_beaten_is_part_of_the_bracket():
    # residues that cancel to 1e-8 of their size: the response has no sixteen digits
    pole = 0.9 * np.exp(0.5j)
    ssm = DiagonalSSM([pole, pole * (1 + 1e-9)], [[1.0], [1.0]], [[1e8, -1e8]], [[0.0]], conj_sym=True)
    peak = peak_gain(ssm, rtol=1e-15)
    exact = peak_mp(ssm, peak.omega)
    assert peak.gain <= exact <= peak.upper
    assert 1e-12 < peak.upper / peak.gain - 1.0 < 1e-3


def test_tight_tolerances_cost_little():
    ssm = random_ssm(np.random.default_rng(7), 128)
    assert peak_gain(ssm, rtol=1e-10).samples < 1.3 * peak_gain(ssm, rtol=1e-2).samples


def test_trivial_systems():
    nothing = DiagonalSSM(np.zeros(0), np.zeros((0, 2)), np.zeros((3, 0)), np.ones((3, 2)))
    np.testing.assert_allclose(hinf_norm(nothing), np.sqrt(6.0), rtol=1e-14)
    silent = DiagonalSSM([0.5, 0.3j], np.zeros((2, 1)), np.ones((1, 2)), [[0.0]])
    peak = peak_gain(silent)
    assert (peak.gain, peak.upper) == (0.0, 0.0)


def test_refusals():
    ssm = DiagonalSSM([0.5, 1.0, -1.1], np.ones((3, 1)), np.ones((1, 3)), [[0.0]])
    with pytest.raises(UnstableSystemError, match="states 1, 2"):
        peak_gain(ssm)
    both = DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]], [[1.0]])
    with pytest.raises(NotCausalError, match="H-infinity"):
        hinf_norm(both)
    np.testing.assert_allclose(peak_gain(both).gain, 4.0, rtol=1e-14)
    with pytest.raises(OptionError, match="positive"):
        peak_gain(both, rtol=0.0)


def test_interval_bound_is_the_peak_of_the_comparison_cosine():
    rng = np.random.default_rng(8)
    for _ in range(300):
        width, peak = rng.uniform(1e-6, 6.2), rng.uniform(0.1, 10.0)
        at = rng.uniform(0.0, width)
        if max(at, width - at) < np.pi:
            a, b = peak * np.cos(at / 2.0), peak * np.cos((width - at) / 2.0)
            np.testing.assert_allclose(interval_bound(a, b, width), peak, rtol=1e-9)


def test_phase_exclusion_on_dense_samples():
    # the theorem itself: sigma(omega) >= g cos((Phi(omega) - Phi(peak)) / 2) within half a turn of phase
    ssm = random_ssm(np.random.default_rng(9), 6, 2, 2, gaps=(1e-2, 0.5))
    peak = peak_gain(ssm, rtol=1e-12)
    omega = np.linspace(0.0, np.pi, 20001)
    poles = conjugate_closed(ssm).Lambda

    def phase(w):
        z = np.exp(1j * np.atleast_1d(w))[:, None]
        return np.sum(np.angle(z) + 2.0 * np.angle(1.0 - poles / z), axis=-1)

    away = np.abs(phase(omega) - phase(peak.omega))
    near = away <= np.pi
    sigma = np.linalg.norm(frequency_response(ssm, omega[near]), 2, axis=(-2, -1))
    assert np.all(sigma >= peak.gain * np.cos(away[near] / 2.0) * (1.0 - 1e-12))
    assert np.count_nonzero(near) > 100


def test_equal_poles_and_silent_ones_add_no_phase():
    pole, low = 0.3 + 0.4j, 0.3 + 0.2j
    poles = np.array([[pole, 0.5, low, np.conj(pole), 0.0, 0.5, pole, -0.6]])
    weights = np.array([[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0]])
    counts, anchors, angles, numbers = phases(poles, weights)
    assert counts[0, 1] + counts[0, 5] == 1  # one real pole
    assert counts[0, 0] + counts[0, 3] + counts[0, 6] == counts[0, 2] == 2  # and two pairs
    assert counts.sum() == 5
    assert numbers[0] == 2
    np.testing.assert_array_equal(anchors[0, :2], [low, pole])
    np.testing.assert_allclose(angles[0, :2], np.angle([low, pole]), rtol=1e-15)


def test_points_of_the_circle_keep_relative_angles():
    point = direction(complex(0.3, 0.4))
    for angle in (1e-3, 1e-9, 1e-17, 1e-25):
        np.testing.assert_allclose(angle_between(point, turn(point, angle)), angle, rtol=1e-7)
    assert two_sum(1.0, 1e-20) == (1.0, 1e-20)
    product, error = two_product(1.0 + 2.0**-30, 1.0 + 2.0**-30)
    assert (product, error) == (1.0 + 2.0**-29, 2.0**-60)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e-90, 1e-20, 1e90, 1e150, 1e290])
def test_gains_scale_with_the_system(scale):
    poles, B, C = [0.9, 0.5j], [[1, 0.5], [0.3, 2]], np.array([[1.0, 2.0], [0.1, 1.0]])
    D = np.array([[0.3, 0.0], [0.0, 0.1]])
    one = peak_gain(DiagonalSSM(poles, B, C, D))
    other = peak_gain(DiagonalSSM(poles, B, scale * C, scale * D))
    np.testing.assert_allclose([other.gain / scale, other.upper / scale], [one.gain, one.upper], rtol=1e-12)


def test_systems_of_a_batch_have_scales_of_their_own():
    scales = np.array([1e-200, 1.0, 1e100])[:, None, None]
    batch = DiagonalSSM(np.full((3, 2), 0.5), np.ones((3, 2, 1)) * scales, np.ones((3, 1, 2)), np.zeros((3, 1, 1)))
    np.testing.assert_allclose(peak_gain(batch).gain, 4 * scales.ravel(), rtol=1e-12)


def test_a_gain_beyond_double_precision_is_refused():
    with pytest.raises(NonFiniteError, match="beyond the range"):
        peak_gain(DiagonalSSM([0.5, 0.9], [[1e200], [1.0]], [[1e200, 1.0]], [[0.0]]))
