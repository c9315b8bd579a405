"""Arrays on a second device stay there: array-api-strict refuses every copy to the host and every mix of devices."""

import array_api_compat
import array_api_strict
import numpy as np
import pytest
from support.oracles import complex_normal, converted, random_ssm

import ssmreduce as sr
from ssmreduce.errors import UnstableSystemError
from ssmreduce.systems._states import take_states
from ssmreduce.systems._systems import DiagonalSSM

DEVICE = array_api_strict.Device("device1")
BATCHES = pytest.mark.parametrize("batch", [(), (2,)])
HALVES = pytest.mark.parametrize("bidirectional", [False, True])


def on_device(array):
    return array_api_strict.asarray(np.array(array), device=DEVICE)


def to_host(array):
    return np.asarray(array.to_device(array_api_strict.Device("CPU_DEVICE")))


def rooms(ssm):
    """Arrays of a system, by name."""
    return {
        name: getattr(ssm, name) for name in ("Lambda", "B", "C", "D", "C_reverse") if getattr(ssm, name) is not None
    }


def squared(factor):
    """L L^*, which does not depend on the phases of the columns."""
    xp = array_api_compat.array_namespace(factor)
    return xp.matmul(factor, xp.conj(xp.matrix_transpose(factor)))


# name -> what is computed from a system and a function that puts further arrays beside it
STAY = {
    "modal_hinf_norms": lambda ssm, put: sr.norms.modal_hinf_norms(ssm),
    "modal_h2_norms": lambda ssm, put: sr.norms.modal_h2_norms(ssm),
    "h2_norm": lambda ssm, put: sr.h2_norm(ssm),
    "controllability_gramian": lambda ssm, put: sr.norms.controllability_gramian(ssm),
    "cauchy_factor": lambda ssm, put: squared(sr.norms.cauchy_factor(ssm.Lambda, ssm.B)),
    "hinf": lambda ssm, put: sr.selection.hinf(ssm),
    "h2": lambda ssm, put: sr.selection.h2(ssm),
    "magnitude": lambda ssm, put: sr.selection.magnitude(ssm),
    "hinf_reference": lambda ssm, put: sr.selection.hinf_reference(ssm),
    "h2_reference": lambda ssm, put: sr.selection.h2_reference(ssm),
    "frequency_response": lambda ssm, put: sr.frequency_response(ssm, put([0.1, 2.0])),
    "frequency_response of a list": lambda ssm, put: sr.frequency_response(ssm, [0.1, 2.0]),
    "impulse_response": lambda ssm, put: sr.impulse_response(ssm, 5),
    "inverse_zoh": lambda ssm, put: sr.systems.inverse_zoh(ssm.Lambda, ssm.B, 0.1),
    "zoh": lambda ssm, put: sr.systems.zoh(*sr.systems.inverse_zoh(ssm.Lambda, ssm.B, 0.1), 0.1),
    "inverse_bilinear": lambda ssm, put: sr.systems.inverse_bilinear(ssm.Lambda, ssm.B, 0.1),
    "bilinear": lambda ssm, put: sr.systems.bilinear(*sr.systems.inverse_bilinear(ssm.Lambda, ssm.B, 0.1), 0.1),
    "conjugate_closed": lambda ssm, put: sr.systems.conjugate_closed(ssm),
    "take_states": lambda ssm, put: take_states(ssm, np.array([0, 2])),
}
CAUSAL = {
    "pair_hinf_norms": lambda ssm, put: sr.norms.pair_hinf_norms(ssm),
    "pair_hinf": lambda ssm, put: sr.selection.pair_hinf(ssm),
    "observability_gramian": lambda ssm, put: sr.norms.observability_gramian(ssm, form="textbook"),
    "hankel_singular_values": lambda ssm, put: sr.hankel_singular_values(ssm),
    "hankel_norm": lambda ssm, put: sr.hankel_norm(ssm),
}
# what works on the host and says so; counts and messages among them
HOST = {
    "peak_gain": sr.peak_gain,
    "hinf_norm": sr.hinf_norm,
    "finite_horizon_gain": lambda ssm: sr.norms.finite_horizon_gain(ssm, 5),
    "peak_to_peak_bounds": sr.norms.peak_to_peak_bounds,
    "certify": lambda ssm: sr.certify(ssm, ssm),
    "unstable_states": sr.systems.unstable_states,
    "to_state_space": sr.systems.to_state_space,
}


def values(result):
    """Arrays of a result, which may be a system or a tuple."""
    if isinstance(result, DiagonalSSM):
        return list(rooms(result).values())
    return list(result) if isinstance(result, tuple) else [result]


def assert_stays(function, ssm):
    found = values(function(converted(ssm, on_device), on_device))
    expected = values(function(ssm, np.asarray))
    for one, two in zip(found, expected, strict=True):
        assert one.device == DEVICE
        scale = np.abs(two).max(initial=0.0)
        np.testing.assert_allclose(to_host(one), two, rtol=1e-9, atol=1e-11 * scale)


def test_the_device_refuses_copies_and_mixtures():
    with pytest.raises(RuntimeError, match="Can't convert array"):
        np.asarray(on_device([1.0]))
    with pytest.raises(ValueError, match="two different devices"):
        on_device([1.0]) + array_api_strict.asarray([1.0])


@BATCHES
@HALVES
@pytest.mark.parametrize("name", STAY)
def test_closed_forms_stay(rng, name, batch, bidirectional):
    assert_stays(STAY[name], random_ssm(rng, 4, 2, 3, batch=batch, bidirectional=bidirectional, conj_sym=True))


@BATCHES
@pytest.mark.parametrize("name", CAUSAL)
def test_closed_forms_of_causal_systems_stay(rng, name, batch):
    assert_stays(CAUSAL[name], random_ssm(rng, 4, 2, 3, batch=batch, conj_sym=True))


@BATCHES
@HALVES
@pytest.mark.parametrize("engine", [None, "reference"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_simulation_stays(rng, batch, bidirectional, engine, dtype):
    ssm = random_ssm(rng, 4, 2, 3, batch=batch, bidirectional=bidirectional, conj_sym=True)
    u = rng.normal(size=(2, 6, int(np.prod(batch, dtype=int)) * 2)).astype(dtype)
    state = complex_normal(rng, 2, *batch, 4)
    moved = converted(ssm, on_device)
    for given in ({}, {"state": state}, {"state": state, "state_reverse": state}):
        if "state_reverse" in given and not bidirectional:
            continue
        chunk = sr.responses.simulate_chunk(
            moved, on_device(u), **{key: on_device(a) for key, a in given.items()}, engine=engine
        )
        expected = sr.responses.simulate_chunk(ssm, u, **given, engine="reference")
        for name in ("output", "state", *(["state_reverse"] if bidirectional else [])):
            one, two = getattr(chunk, name), getattr(expected, name)
            assert one.device == DEVICE
            np.testing.assert_allclose(to_host(one), two, rtol=1e-5, atol=1e-5 * np.abs(two).max())


@BATCHES
@pytest.mark.parametrize("reverse", [False, True])
def test_the_scan_stays(rng, batch, reverse):
    Lambda, inputs = 0.5 * complex_normal(rng, *batch, 3), complex_normal(rng, 2, *batch, 4, 3)
    states = sr.scan(on_device(Lambda), on_device(inputs), reverse=reverse)
    assert states.device == DEVICE
    np.testing.assert_allclose(to_host(states), sr.scan(Lambda, inputs, reverse=reverse), rtol=1e-12)


@pytest.mark.parametrize("name", HOST)
def test_what_works_on_the_host(rng, name):
    """It asks for a copy, which this device refuses; PyTorch's tensors are taken over."""
    torch = pytest.importorskip("torch")
    ssm = random_ssm(rng, 4, 2, 3, conj_sym=True)
    with pytest.raises(RuntimeError, match="Can't convert array"):
        HOST[name](converted(ssm, on_device))
    found, expected = HOST[name](converted(ssm, lambda a: torch.tensor(np.array(a)))), HOST[name](ssm)
    np.testing.assert_equal(getattr(found, "__dict__", found), getattr(expected, "__dict__", expected))


def test_unstable_systems_are_still_told(rng):
    torch = pytest.importorskip("torch")
    ssm = random_ssm(rng, 4, 2, 3, radius=(1.1, 1.2))
    with pytest.raises(UnstableSystemError, match="states 0, 1, 2, 3"):
        sr.h2_norm(converted(ssm, lambda a: torch.tensor(np.array(a))))
