"""Closed-form norms on arrays of other namespaces: the same numbers, and gradients where the namespace has them."""

import array_api_strict
import numpy as np
import pytest
from support.norm_oracles import random_ssm

from ssmreduce.norms._gramians import cauchy_factor, controllability_gramian, observability_gramian
from ssmreduce.norms._hankel import hankel_norm, hankel_singular_values
from ssmreduce.norms._norms import h2_norm, modal_h2_norms, modal_hinf_norms
from ssmreduce.norms._pair_norms import pair_hinf_norms
from ssmreduce.norms.peak._peak_gain import hinf_norm
from ssmreduce.systems._systems import DiagonalSSM

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _double_precision_in_jax():
    with jax.enable_x64(True):
        yield


CONVERT = {
    "strict": lambda a: array_api_strict.asarray(np.array(a)),
    "torch": lambda a: torch.asarray(np.array(a)),
    "jax": lambda a: jax.numpy.asarray(a),
}
CLOSED_FORM = (
    modal_hinf_norms,
    modal_h2_norms,
    pair_hinf_norms,
    h2_norm,
    controllability_gramian,
    observability_gramian,
    hankel_singular_values,
    hankel_norm,
)


def converted(ssm, convert):
    reverse = None if ssm.C_reverse is None else convert(ssm.C_reverse)
    return DiagonalSSM(convert(ssm.Lambda), convert(ssm.B), convert(ssm.C), convert(ssm.D), reverse, ssm.conj_sym)


@pytest.mark.parametrize("name", CONVERT)
@pytest.mark.parametrize("function", CLOSED_FORM, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("batch", "m"), [((), 1), ((2, 3), 2)])
def test_same_numbers_in_the_namespace_of_the_input(name, function, batch, m):
    ssm = random_ssm(np.random.default_rng(m), 3, m, 2, batch=batch)
    expected = function(ssm)
    found = function(converted(ssm, CONVERT[name]))
    assert type(found) is type(CONVERT[name](np.ones(1)))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-10, atol=1e-12 * np.max(np.abs(expected)))


@pytest.mark.parametrize("function", [modal_hinf_norms, modal_h2_norms, h2_norm], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_bidirectional_systems_too(name, function):
    ssm = random_ssm(np.random.default_rng(5), 4, 2, 2, reverse=True)
    found = function(converted(ssm, CONVERT[name]))
    np.testing.assert_allclose(np.asarray(found), function(ssm), rtol=1e-12)


def test_the_compiled_and_the_reference_factor_agree():
    ssm = random_ssm(np.random.default_rng(6), 9, 3, 1)
    one = cauchy_factor(ssm.Lambda, ssm.B)
    two = np.asarray(cauchy_factor(torch.asarray(np.array(ssm.Lambda)), torch.asarray(np.array(ssm.B))))
    np.testing.assert_allclose(one @ one.conj().T, two @ two.conj().T, rtol=1e-11, atol=1e-12)


def test_the_h_infinity_norm_takes_device_arrays_to_the_host():
    ssm = random_ssm(np.random.default_rng(7), 4, 2, 2)
    assert hinf_norm(converted(ssm, CONVERT["torch"])) == hinf_norm(ssm)


def regularisers():
    yield "h2", h2_norm
    yield "hankel nuclear norm", lambda ssm: hankel_singular_values(ssm).sum()
    yield "third hankel singular value", lambda ssm: hankel_singular_values(ssm)[..., 2].sum()
    yield "modal l1", lambda ssm: modal_hinf_norms(ssm).sum()
    yield "modal energies", lambda ssm: (modal_h2_norms(ssm) ** 2).sum()


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize(("name", "function"), list(regularisers()), ids=[name for name, _ in regularisers()])
def test_gradients_in_torch_and_jax_are_those_of_differences(name, function, m):
    ssm = random_ssm(np.random.default_rng(8), 3, m, 2, gaps=(0.05, 0.5))
    rng = np.random.default_rng(9)
    # real parameters, as a model has them: log(1 / radius), angle, the parts of B and C
    start = {
        "decay": -np.log(np.abs(ssm.Lambda)),
        "angle": np.angle(ssm.Lambda),
        "B_re": ssm.B.real.copy(),
        "B_im": ssm.B.imag.copy(),
        "C_re": ssm.C.real.copy(),
        "C_im": ssm.C.imag.copy(),
    }
    direction = {key: rng.standard_normal(value.shape) for key, value in start.items()}

    def value(parameters, exp, zeros):
        Lambda = exp(-parameters["decay"] + 1j * parameters["angle"])
        B, C = (parameters[f"{x}_re"] + 1j * parameters[f"{x}_im"] for x in "BC")
        return function(DiagonalSSM(Lambda, B, C, zeros((2, m)), conj_sym=True))

    def moved(step):
        return {key: start[key] + step * direction[key] for key in start}

    h = 1e-5
    slope = (value(moved(h), np.exp, np.zeros) - value(moved(-h), np.exp, np.zeros)) / (2.0 * h)

    tensors = {key: torch.tensor(a, requires_grad=True) for key, a in start.items()}
    value(tensors, torch.exp, lambda shape: torch.zeros(shape, dtype=torch.float64)).backward()
    by_torch = sum(float((tensors[key].grad * torch.asarray(direction[key])).sum()) for key in start)
    np.testing.assert_allclose(by_torch, slope, rtol=1e-6)

    gradient = jax.grad(lambda parameters: value(parameters, jax.numpy.exp, jax.numpy.zeros))
    found = gradient({key: jax.numpy.asarray(a) for key, a in start.items()})
    by_jax = sum(float((found[key] * direction[key]).sum()) for key in start)
    np.testing.assert_allclose(by_jax, slope, rtol=1e-6)
