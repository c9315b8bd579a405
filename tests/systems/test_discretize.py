"""Zero-order hold and bilinear transform against 50-digit arithmetic."""

import mpmath as mp
import numpy as np
import pytest
from support.oracles import complex_normal, mp_one_minus_abs

from ssmreduce._support.arrays import one_minus_abs
from ssmreduce.systems import bilinear, inverse_bilinear, inverse_zoh, zoh

EPS = np.finfo(float).eps
POLES = np.array(
    [-0.5, -3 + 40j, -1e-3 - 2j, -1e-8 + 1e-8j, -1e-12 + 3j, -1e-12, -1e-12 - 1e5j, -30 + 1j, -1e-300 + 0.5j, 1e-9j, 0],
    dtype=complex,
)
STEPS = [1.0, 0.25, 0.1]


def mp_zoh(A, B, step):
    z = mp.mpc(A) * mp.mpf(step)
    integral = mp.mpf(step) if z == 0 else mp.expm1(z) / mp.mpc(A)
    return mp.exp(z), integral * mp.mpc(B)


def mp_bilinear(A, B, step):
    half = mp.mpc(A) * mp.mpf(step) / 2
    return (1 + half) / (1 - half), mp.mpf(step) / (1 - half) * mp.mpc(B)


FORWARD = [(zoh, mp_zoh), (bilinear, mp_bilinear)]


@pytest.mark.parametrize(("transform", "exact"), FORWARD)
@pytest.mark.parametrize("step", STEPS)
def test_against_mpmath(rng, transform, exact, step):
    B = complex_normal(rng, POLES.size, 1)
    Lambda, B_bar = transform(POLES, B, step)
    expected = [exact(a, b, step) for a, b in zip(POLES, B[:, 0], strict=True)]
    angle = 1 + np.abs(POLES.imag * step)  # the rounding of A * step turns lambda
    np.testing.assert_array_less(np.abs(Lambda - [complex(pole) for pole, _ in expected]), 4 * EPS * angle)
    difference = [float(abs(mp.mpc(b) - e) / abs(e)) for b, (_, e) in zip(B_bar[:, 0], expected, strict=True)]
    np.testing.assert_array_less(difference, 8 * EPS * angle)


@pytest.mark.parametrize(("transform", "exact"), FORWARD)
@pytest.mark.parametrize("decay", [1e-3, 1e-6, 1e-9, 1e-12])
@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0, -3.1])
def test_distance_to_the_circle(transform, exact, decay, angle):
    A = np.array([-decay + 1j * angle])
    Lambda, _ = transform(A, np.ones((1, 1)), 1.0)
    gap = float(1 - abs(exact(A[0], 1.0, 1.0)[0]))
    np.testing.assert_allclose(one_minus_abs(Lambda), gap, rtol=4 * EPS / gap)  # what storing lambda in double costs
    np.testing.assert_allclose(one_minus_abs(Lambda), mp_one_minus_abs(Lambda[0]), rtol=8 * EPS)  # and no more


@pytest.mark.parametrize(("transform", "inverse"), [(zoh, inverse_zoh), (bilinear, inverse_bilinear)])
@pytest.mark.parametrize("step", STEPS)
def test_inverse(rng, transform, inverse, step):
    A = np.concatenate([-rng.uniform(0.01, 2, 20) + 1j * rng.uniform(-3, 3, 20), [-0.3, 0.2 + 1j, 1e-3, 0.0, 0.5j]])
    B = complex_normal(rng, A.size, 3)
    back_A, back_B = inverse(*transform(A, B, step), step)
    np.testing.assert_allclose(back_A, A, rtol=1e-13, atol=1e-14 / step)
    np.testing.assert_allclose(back_B, B, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("inverse", "transform"), [(inverse_zoh, zoh), (inverse_bilinear, bilinear)])
@pytest.mark.parametrize("gap", [1e-4, 1e-8, 1e-12])
def test_inverse_keeps_slow_decays(inverse, transform, gap):
    """The real part of A is as accurate as the stored pole, to full relative precision."""
    Lambda = np.array([1 - gap, (1 - gap) * np.exp(2j), -(1 - gap) * 1j])
    A, _ = inverse(Lambda, np.ones((3, 1)), 0.1)
    radius = [1 - mp.mpf(mp_one_minus_abs(pole)) for pole in Lambda]
    if transform is zoh:
        expected = [float(mp.log(r) / mp.mpf(0.1)) for r in radius]
    else:
        expected = [
            float(-2 / mp.mpf(0.1) * (1 - r**2) / abs(1 + mp.mpc(p)) ** 2) for r, p in zip(radius, Lambda, strict=True)
        ]
    np.testing.assert_allclose(A.real, expected, rtol=1e-14)


def test_inverse_takes_the_principal_logarithm():
    A, _ = inverse_zoh(np.array([-0.5 + 0j, 0.5, -0.5j]), np.ones((3, 1)), 0.5)
    np.testing.assert_allclose(A.imag * 0.5, [np.pi, 0, -np.pi / 2], rtol=1e-15)


@pytest.mark.parametrize("transform", [zoh, bilinear, inverse_zoh, inverse_bilinear])
def test_broadcasting(rng, transform):
    """A step a state, a step a system, and one for all."""
    A = -rng.uniform(0.1, 0.9, (4, 5)) + 0.1j * rng.normal(size=(4, 5))
    B = complex_normal(rng, 4, 5, 2)
    for step in (rng.uniform(0.1, 1, 5), rng.uniform(0.1, 1, (4, 1)), rng.uniform(0.1, 1, (4, 5)), 0.5):
        Lambda, B_bar = transform(A, B, step)
        assert (Lambda.shape, B_bar.shape) == ((4, 5), (4, 5, 2))
        steps = np.broadcast_to(step, (4, 5))
        one = [transform(A[i, j : j + 1], B[i, j : j + 1], steps[i, j]) for i in range(4) for j in range(5)]
        np.testing.assert_allclose(Lambda.ravel(), [pole[0] for pole, _ in one], rtol=1e-14)
        np.testing.assert_allclose(B_bar.reshape(20, 2), [b[0] for _, b in one], rtol=1e-14)


@pytest.mark.parametrize("transform", [zoh, bilinear, inverse_zoh, inverse_bilinear])
def test_other_libraries(rng, as_array, transform):
    A = -rng.uniform(0.1, 0.9, 6) + 0.5j * rng.normal(size=6)
    B, step = complex_normal(rng, 6, 2), rng.uniform(0.1, 1, 6)
    arrays = A, B, step
    for array in arrays:
        array.flags.writeable = False
    actual = transform(*(as_array(a) for a in arrays))
    for a, e in zip(actual, transform(*arrays), strict=True):
        assert type(a) is type(as_array(A))
        np.testing.assert_allclose(np.asarray(a), e, rtol=1e-13)
