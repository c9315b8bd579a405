"""Level sets against phase exclusion: two methods that share no code."""

import numpy as np
import pytest
from support.norm_oracles import ADVERSARIAL, adversarial_ssm, dense, random_ssm

from ssmreduce.errors import NonFiniteError, NotCausalError, OptionError, UnstableSystemError
from ssmreduce.norms.peak._level_set import largest_singular_triple
from ssmreduce.norms.peak._peak_gain import hinf_norm, peak_gain
from ssmreduce.systems import to_state_space
from ssmreduce.systems._systems import DiagonalSSM, StateSpace


@pytest.mark.parametrize(("n", "m", "p"), [(3, 1, 1), (8, 2, 3), (20, 4, 4)])
@pytest.mark.parametrize("gaps", [(1e-3, 0.5), (1e-6, 1e-2)])
def test_both_methods_agree(n, m, p, gaps):
    ssm = random_ssm(np.random.default_rng(n), n, m, p, gaps=gaps)
    one, two = peak_gain(ssm, method="exclusion", rtol=1e-9), peak_gain(ssm, method="level-set")
    np.testing.assert_allclose(two.gain, one.gain, rtol=1e-7)
    assert one.gain <= two.upper * (1.0 + 1e-7)
    assert (one.method, two.method) == ("exclusion", "level-set")
    np.testing.assert_allclose(hinf_norm(dense(ssm)), one.gain, rtol=1e-7)


@pytest.mark.parametrize(
    "kind", [kind for kind in ADVERSARIAL if kind not in ("bidirectional", "all_pass", "repeated")]
)
def test_adversarial_systems(kind):
    rng = np.random.default_rng(ADVERSARIAL.index(kind))
    for _ in range(10):
        ssm = adversarial_ssm(rng, kind)
        if np.min(1.0 - np.abs(ssm.Lambda)) > 1e-5:  # closer poles are rounded by the dense form
            np.testing.assert_allclose(peak_gain(ssm, method="level-set").gain, peak_gain(ssm).gain, rtol=2e-6)


def test_wide_systems_with_equal_resonances_turn_to_level_sets():
    n, m = 6, 40
    rng = np.random.default_rng(2)
    ssm = random_ssm(rng, n, m, m, gaps=(1e-4, 1e-1))
    C = ssm.C * (1.0 - np.abs(ssm.Lambda)) / np.linalg.norm(ssm.C, axis=0) / np.linalg.norm(ssm.B, axis=1)
    equal = DiagonalSSM(ssm.Lambda, ssm.B, C, np.diag(np.diag(ssm.D)), conj_sym=True)
    peak = peak_gain(equal, rtol=1e-9)
    exact = peak_gain(equal, rtol=1e-9, method="exclusion")
    assert exact.method == "exclusion"
    np.testing.assert_allclose(peak.gain, exact.gain, rtol=2e-9)


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (1, 4)])
def test_the_largest_singular_triple(shape):
    rng = np.random.default_rng(shape)
    G = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    value, u, v = largest_singular_triple(G)
    np.testing.assert_allclose(value, np.linalg.norm(G, 2), rtol=1e-14)
    np.testing.assert_allclose(G @ v, value * u, atol=1e-13)
    np.testing.assert_allclose([np.linalg.norm(u), np.linalg.norm(v)], 1.0, rtol=1e-14)


def test_order_zero_and_refusals():
    static = StateSpace(np.zeros((0, 0)), np.zeros((0, 2)), np.zeros((2, 0)), [[3.0, 0.0], [0.0, 4.0]])
    assert hinf_norm(static) == 4.0
    with pytest.raises(UnstableSystemError, match="modulus"):
        hinf_norm(StateSpace([[1.0]], [[1.0]], [[1.0]], [[0.0]]))
    one = DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]], [[1.0]])
    with pytest.raises(NotCausalError, match="level-set"):
        peak_gain(one, method="level-set")
    with pytest.raises(OptionError, match="auto, exclusion, level-set"):
        peak_gain(one, method="grid")
    with pytest.raises(OptionError, match="StateSpace"):
        peak_gain(static, method="exclusion")


def slow_wide_system(seed):
    """A few states with poles as close as 1e-12 to the circle, 33 to 48 inputs and outputs."""
    rng = np.random.default_rng([777, seed])
    n, m, p = int(rng.integers(2, 9)), int(rng.integers(33, 49)), int(rng.integers(33, 49))
    gap = 10.0 ** rng.uniform(-12, -3, n)
    poles = (1 - gap) * np.exp(1j * rng.uniform(-np.pi, np.pi, n))
    B = rng.standard_normal((n, m)) + 1j * rng.standard_normal((n, m))
    C = rng.standard_normal((p, n)) + 1j * rng.standard_normal((p, n))
    if rng.random() < 0.5:
        B *= np.sqrt(gap)[:, None]
        C *= np.sqrt(gap)
    D = rng.standard_normal((p, m)) * 10.0 ** rng.uniform(-2, 5)
    return DiagonalSSM(poles, B, C, D, conj_sym=bool(rng.random() < 0.5))


@pytest.mark.parametrize("seed", [100, 222, 12])
@pytest.mark.parametrize("method", ["auto", "level-set"])
def test_gains_of_slow_wide_systems_are_lower_bounds(seed, method):
    ssm = slow_wide_system(seed)
    proven = peak_gain(ssm, rtol=1e-12, method="exclusion")
    found = peak_gain(ssm, rtol=1e-9, method=method)
    assert found.gain <= proven.upper
    assert found.upper >= proven.gain
    if method == "auto":
        assert (found.method, found.upper <= found.gain * (1 + 2e-9)) == ("exclusion", True)


@pytest.mark.parametrize("exponent", [-560, 300, 500])
@pytest.mark.parametrize("width", [3, 40])
@pytest.mark.parametrize("D", [0.0, 1.0])
def test_level_sets_of_any_size(exponent, width, D):
    rng = np.random.default_rng(width)
    B, C = rng.standard_normal((2, width)), rng.standard_normal((width, 2))
    ssm = DiagonalSSM([0.5 + 0.3j, -0.2], B, C, D * np.eye(width))
    expected = peak_gain(ssm, rtol=1e-12, method="exclusion").gain
    scale = 2.0**exponent
    large = DiagonalSSM(ssm.Lambda, B, scale * C, scale * ssm.D)
    split = DiagonalSSM(ssm.Lambda, B / scale, scale * C, ssm.D)
    for system, factor in ((large, scale), (split, 1.0)):
        for method in ("auto", "level-set"):
            found = peak_gain(system, rtol=1e-9, method=method)
            np.testing.assert_allclose([found.gain / factor, found.upper / factor], expected, rtol=2e-9)
        found = peak_gain(to_state_space(system), rtol=1e-9)
        np.testing.assert_allclose([found.gain / factor, found.upper / factor], expected, rtol=2e-9)


def test_a_gain_beyond_double_precision_is_refused():
    huge = StateSpace([[0.5]], [[1e200]], [[1e200]], [[0.0]])
    with pytest.raises(NonFiniteError, match="beyond the range"):
        peak_gain(huge)


def test_dense_systems_of_nothing():
    zero = StateSpace([[0.5]], [[0.0]], [[1.0]], [[0.0]])
    found = peak_gain(zero)
    assert (found.gain, found.upper) == (0.0, 0.0)
