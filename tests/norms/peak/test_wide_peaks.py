"""Wide systems: the small system of a level against the whole one, and the brackets against direct phase exclusion."""

import numpy as np
import pytest
from support.norm_oracles import ADVERSARIAL, adversarial_ssm, random_ssm, response_extended

from ssmreduce.norms.peak._exclusion import exclusion_peak_gain, scaled
from ssmreduce.norms.peak._peak_gain import peak_gain
from ssmreduce.norms.peak._wide import _SmallSystems, wide_peak_gain
from ssmreduce.responses._responses import frequency_response
from ssmreduce.systems._systems import DiagonalSSM


def equal_heights(ssm):
    """All resonances as high as one another, and no higher than D: the response is nearly flat."""
    C = ssm.C * (1.0 - np.abs(ssm.Lambda)) / np.linalg.norm(ssm.C, axis=0) / np.linalg.norm(ssm.B, axis=1)
    return DiagonalSSM(ssm.Lambda, ssm.B, C, ssm.D, conj_sym=ssm.conj_sym)


def gains(ssm, omega):
    return np.linalg.norm(frequency_response(ssm, omega), 2, axis=(-2, -1))


@pytest.mark.parametrize(
    ("m", "p", "reverse", "conj_sym"),
    [(20, 20, False, True), (13, 30, False, False), (30, 13, True, True), (40, 5, False, True), (9, 40, True, False)],
)
def test_the_small_system_is_below_a_level_where_the_whole_one_is(m, p, reverse, conj_sym):
    ssm = random_ssm(np.random.default_rng(m), 3, m, p, gaps=(1e-2, 0.5), reverse=reverse, conj_sym=conj_sym)
    omega = np.linspace(0.0, np.pi, 400)
    whole = gains(ssm, omega)
    small_systems = _SmallSystems(scaled(ssm)[0])
    scale = np.ldexp(1.0, scaled(ssm)[1][0])
    for level in np.quantile(whole, [0.2, 0.5, 0.9, 0.99]):
        if level < np.linalg.norm(ssm.D, 2):  # no level of the feedthrough alone
            continue
        poles, B, C, D, half = small_systems.at(level / scale)
        small = DiagonalSSM(poles[0], B[0], C[0], D[0], None if half is None else half[0], conj_sym=True)
        below = gains(small, omega) * scale < level
        assert small.outputs == min(p, 6 * (1 + reverse))
        assert small.inputs == min(m, 6)
        np.testing.assert_array_equal(below, whole < level)
        assert 0 < np.count_nonzero(below) < len(omega)


@pytest.mark.parametrize("kind", ["plain", "equal", "reverse", "complex", "no feedthrough", "real poles", "repeated"])
@pytest.mark.parametrize(("n", "m", "p"), [(1, 48, 48), (3, 50, 20), (6, 64, 70)])
def test_bracket_against_direct_exclusion(kind, n, m, p):
    rng = np.random.default_rng([n, m])
    ssm = random_ssm(
        rng,
        n,
        m,
        p,
        gaps=(1e-7, 0.3),
        reverse=kind == "reverse",
        conj_sym=kind != "complex",
        D=kind != "no feedthrough",
    )
    if kind == "equal":
        ssm = equal_heights(ssm)
    if kind in ("real poles", "repeated"):
        Lambda = ssm.Lambda.real if kind == "real poles" else np.full(n, ssm.Lambda[0])
        ssm = DiagonalSSM(Lambda, ssm.B, ssm.C, ssm.D, conj_sym=True)
    rtol = 1e-5 if kind == "equal" else 1e-7  # a flat response needs N / sqrt(rtol) samples
    wide, direct = wide_peak_gain(ssm, rtol, 100_000), exclusion_peak_gain(ssm, rtol, 100_000, 1)
    np.testing.assert_allclose(wide.gain, direct.gain, rtol=1e-13 + rtol**2)
    assert max(wide.gain, direct.gain) <= wide.upper <= wide.gain * (1.0 + rtol)
    response = response_extended(ssm, np.array([direct.omega], dtype=np.longdouble))[0]
    assert np.linalg.norm(response.astype(complex), 2) <= wide.upper * (1.0 + 1e-9)  # the angle is rounded


@pytest.mark.parametrize("kind", [kind for kind in ADVERSARIAL if kind != "all_pass"])  # which has one input
def test_brackets_of_adversarial_systems_overlap(kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind))
    for _ in range(5):
        p, m = rng.integers(12, 40, 2)
        ssm = adversarial_ssm(rng, kind, p, m)
        wide, direct = wide_peak_gain(ssm, 1e-7, 100_000), exclusion_peak_gain(ssm, 1e-7, 100_000, 1)
        assert wide.gain <= min(wide.upper, direct.upper)
        assert direct.gain <= wide.upper <= wide.gain * (1.0 + 1e-7)


def test_peak_gain_takes_the_cheaper_way():
    ssm = random_ssm(np.random.default_rng(1), 4, 64, 64)
    wide = peak_gain(ssm)
    assert (wide.method, wide.samples) == ("exclusion", wide_peak_gain(ssm, 1e-6, 10_000).samples)
    np.testing.assert_allclose(wide.gain, peak_gain(ssm, method="exclusion").gain, rtol=1e-13)


def test_an_exhausted_budget_leaves_an_honest_bracket():
    ssm = equal_heights(random_ssm(np.random.default_rng(2), 6, 60, 60))
    short, exact = wide_peak_gain(ssm, 1e-6, 20), exclusion_peak_gain(ssm, 1e-4, 100_000, 1)
    assert short.gain <= exact.upper
    assert exact.gain <= short.upper < np.inf
    assert short.upper > short.gain * (1.0 + 1e-3)


def test_tolerances_beyond_rounding_are_left_to_the_direct_search():
    ssm = random_ssm(np.random.default_rng(3), 4, 48, 48)
    wide = wide_peak_gain(ssm, 1e-15, 10_000)
    assert wide is None or wide.upper > wide.gain * (1.0 + 1e-15)
    peak = peak_gain(ssm, rtol=1e-11)
    assert peak.gain <= peak.upper <= peak.gain * (1.0 + 1e-11)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e250])
def test_gains_scale_with_the_system(scale):
    ssm = random_ssm(np.random.default_rng(4), 2, 48, 48)
    louder = DiagonalSSM(ssm.Lambda, ssm.B, scale * ssm.C, scale * ssm.D, conj_sym=True)
    np.testing.assert_allclose(peak_gain(louder).gain / scale, peak_gain(ssm).gain, rtol=1e-12)
    silent = DiagonalSSM(ssm.Lambda, ssm.B, 0.0 * ssm.C, 0.0 * ssm.D, conj_sym=True)
    assert (peak_gain(silent).gain, peak_gain(silent).upper) == (0.0, 0.0)


def test_states_without_inputs_leave_the_feedthrough():
    ssm = random_ssm(np.random.default_rng(5), 2, 50, 50)
    static = DiagonalSSM(ssm.Lambda, 0.0 * ssm.B, ssm.C, ssm.D, conj_sym=True)
    np.testing.assert_allclose(peak_gain(static).gain, np.linalg.norm(ssm.D, 2), rtol=1e-13)
    nothing = DiagonalSSM(np.zeros(0), np.zeros((0, 50)), np.zeros((50, 0)), ssm.D)
    np.testing.assert_allclose(peak_gain(nothing).gain, np.linalg.norm(ssm.D, 2), rtol=1e-13)
