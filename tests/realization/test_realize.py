"""`realize` on kernels of known systems, its bounds against a fine grid, and bad input."""

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import errors


def system(n, slow, seed=0, batch=(), p=1, m=1):
    """n real states in n / 2 pairs with poles spread over the angles."""
    rng = np.random.default_rng([n, seed])
    pairs = n // 2
    gap = 10.0 ** rng.uniform(*((-4, -2) if slow else (-1.5, -0.5)), (*batch, pairs))
    angle = np.pi * (np.arange(pairs) + rng.uniform(0.2, 0.8, (*batch, pairs))) / pairs
    B, C = rng.standard_normal((2, *batch, pairs, max(p, m)))
    return sr.DiagonalSSM(
        (1 - gap) * np.exp(1j * angle),
        (B + 0.5j)[..., :m] * gap[..., None] ** 0.5,
        np.swapaxes(C - 0.3j, -1, -2)[..., :p, :],
        rng.standard_normal((*batch, p, m)),
        conj_sym=True,
    )


def kernel_of(ssm, length):
    return np.moveaxis(np.asarray(sr.impulse_response(ssm, length)), -3, -1)


@pytest.mark.parametrize(
    ("n", "slow", "length"), [(4, False, 256), (4, True, 256), (16, True, 2048), (64, True, 2048), (16, True, 8192)]
)
def test_known_systems_are_found(n, slow, length):
    ssm = system(n, slow)
    kernel = kernel_of(ssm, length)
    found = sr.realize(kernel)
    assert found.order == n
    assert found.upper < 1e-6 * sr.hinf_norm(ssm)
    np.testing.assert_allclose(np.sort_complex(found.ssm.Lambda), np.sort_complex(ssm.Lambda), atol=1e-6)
    np.testing.assert_allclose(found.ssm.D, ssm.D, atol=1e-6)


def test_a_numerical_order_is_said():
    k = np.arange(256)
    kernel = sum(0.5**j * (0.3 + 0.01 * j) ** k for j in range(20))[None]
    found = sr.realize(kernel)
    assert found.numerical[0]
    assert found.order[0] < 20
    assert found.upper[0] < 1e-8


def test_matrix_kernels():
    ssm = system(8, True, p=3, m=2)
    found = sr.realize(kernel_of(ssm, 1500))
    assert found.order == 8
    assert found.ssm.batch == ()
    assert (found.ssm.outputs, found.ssm.inputs) == (3, 2)
    assert found.upper < 1e-6 * sr.hinf_norm(ssm)


def test_bounds_against_a_fine_grid_and_the_next_singular_value():
    kernels = np.concatenate([kernel_of(system(24, True, seed), 1024)[0] for seed in range(6)])
    found = sr.realize(kernels, order=8)
    error = kernels - kernel_of(found.ssm, 1024)[:, 0, 0]
    gain = np.abs(np.fft.rfft(error, 2**20)).max(-1)
    assert (found.error <= gain * (1 + 1e-9)).all()
    assert (gain <= found.upper).all()
    assert (found.upper <= 1.01 * found.error).all()
    section = [np.linalg.svd(k[1 + np.add.outer(np.arange(511), np.arange(512))], compute_uv=False) for k in kernels]
    np.testing.assert_allclose(found.hankel_singular_values[:, 8], np.array(section)[:, 8], rtol=1e-6)
    assert (found.upper >= np.array(section)[:, 8]).all()


def test_large_sections_agree_with_the_dense_decomposition():
    kernel = kernel_of(system(24, True), 2048)
    dense = np.linalg.svd(kernel[0, 0][1 + np.add.outer(np.arange(1023), np.arange(1024))], compute_uv=False)
    found = sr.realize(kernel, order=12)
    np.testing.assert_allclose(found.hankel_singular_values, dense[:13], rtol=1e-4)


def test_the_tail_is_bounded():
    found = sr.realize(kernel_of(system(8, True), 256))
    response = kernel_of(found.ssm, 2**17)[0, 0, 256:]
    assert np.abs(np.fft.rfft(response, 2**18)).max() <= found.tail * (1 + 1e-9)


def test_tolerance_takes_the_least_order():
    kernel = kernel_of(system(32, True, 1), 512)
    found = sr.realize(kernel, tolerance=0.05)
    limit = 0.05 * np.abs(np.fft.rfft(kernel[0, 0], 2**18)).max()
    assert found.upper <= limit
    assert sr.realize(kernel, order=int(found.order) - 1).upper > limit


def test_filters_that_no_system_generates_stay_stable():
    rng = np.random.default_rng(0)
    found = sr.realize(rng.standard_normal((3, 200)), order=9)
    assert (np.abs(found.ssm.Lambda) < 1).all()
    assert (found.upper >= found.hankel_singular_values[:, 9]).all()


def test_zero_and_constant_terms():
    kernels = np.zeros((2, 16))
    kernels[1, 0] = 3.0
    found = sr.realize(kernels)
    assert found.order.tolist() == [0, 0]
    assert (found.upper == 0).all()
    assert found.ssm.D[1, 0, 0] == 3.0


def test_an_unattainable_tolerance():
    with pytest.raises(errors.UnattainableError, match="kernel 0"):
        sr.realize(np.random.default_rng(0).standard_normal((1, 64)), tolerance=1e-15)


def smooth_filters(length):
    """Windows and slow waves: poles of their sections come out beyond the unit circle."""
    t = np.linspace(0, 1, length)
    return np.array([np.exp(-3 * t) * np.sin(np.pi * f * t**2 + f) for f in range(2, 8)])


def test_other_residues_and_D_lower_the_peak_error():
    kernels = smooth_filters(300)
    found = sr.realize(kernels, order=4)
    gain = []
    for kernel, ssm in zip(kernels, singles(found.ssm), strict=True):
        plain = kernel[0] - 2 * (ssm.C @ ssm.B).real  # lag 0 is met without a better D
        error = kernel - kernel_of(sr.DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, plain, conj_sym=True), 300)[0, 0]
        gain.append(np.abs(np.fft.rfft(error, 2**16)).max())
    assert (np.array(gain) > 0.99 * found.upper).all()
    assert (np.array(gain) > 1.1 * found.upper).any()


def singles(ssm):
    for h in range(ssm.systems):
        yield sr.DiagonalSSM(ssm.Lambda[h], ssm.B[h], ssm.C[h], ssm.D[h], conj_sym=True)


def test_moved_poles_get_residues_of_their_own():
    k = np.arange(200)
    kernel = (1.01**k * np.cos(0.2 * k))[None]
    found = sr.realize(kernel, order=2)
    assert found.moved[0] == 1
    assert (np.abs(found.ssm.Lambda) < 1).all()
    poles, B, C = found.ssm.Lambda[0], found.ssm.B[0, :, 0], found.ssm.C[0, 0]
    residue = (1.01 * np.exp(0.2j)) ** 1 / 2 / poles  # what the growing pole had
    as_they_were = 2 * (residue * poles ** k[:, None]).sum(1).real
    assert found.upper[0] < np.abs(np.fft.rfft(kernel[0] - as_they_were, 2**14)).max()
    assert B.shape == C.shape


def test_threads_change_nothing():
    kernels = np.concatenate([kernel_of(system(24, True, seed), 1100)[0] for seed in range(3)])
    one, two = (sr.realize(kernels, order=6, threads=threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.ssm.Lambda, two.ssm.Lambda)
    np.testing.assert_array_equal(one.upper, two.upper)
    alone = sr.realize(kernels[:1], order=6)
    np.testing.assert_array_equal(one.upper[:1], alone.upper)


def test_an_order_is_numerical_only_where_states_are_left_out():
    assert not sr.realize(kernel_of(system(8, False), 256)).numerical


@pytest.mark.parametrize(
    ("kernel", "options", "error"),
    [
        (np.ones((1, 8)), {"threads": 0}, errors.OptionError),
        (np.ones(8), {}, errors.ShapeError),
        (np.ones((2, 3)), {}, errors.ShapeError),
        (np.ones((0, 8)), {}, errors.ShapeError),
        (np.full((1, 8), np.nan), {}, errors.NonFiniteError),
        (np.ones((1, 8)) * 1j, {}, errors.ArrayKindError),
        ("kernel", {}, errors.SSMReduceError),
        (np.ones((1, 8)), {"order": 0}, errors.OptionError),
        (np.ones((1, 8)), {"order": 2.5}, errors.OptionError),
        (np.ones((1, 8)), {"tolerance": -1.0}, errors.OptionError),
        (np.ones((1, 8)), {"tolerance": "small"}, errors.ArgumentError),
        (np.ones((1, 8)), {"order": 1, "tolerance": 0.1}, errors.OptionError),
        (np.ones((1, 8)), {"seed": -1}, errors.ArgumentError),
    ],
)
def test_bad_input(kernel, options, error):
    with pytest.raises(error):
        sr.realize(kernel, **options)
