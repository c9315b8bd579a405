import control
import numpy as np
import pytest
import scipy.signal
from support.oracles import random_ssm

import ssmreduce as sr
from ssmreduce.errors import NotRepresentableError, PrecisionWarning, ShapeError

OMEGA = np.linspace(0.0, np.pi, 17)


def textbook_response(system, omega):
    eye = np.eye(system.A.shape[0])
    return np.stack([system.C @ np.linalg.solve(np.exp(1j * w) * eye - system.A, system.B) + system.D for w in omega])


def assert_same_map(actual, expected):
    np.testing.assert_allclose(
        sr.frequency_response(actual, OMEGA), sr.frequency_response(expected, OMEGA), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("conj_sym", [True, False])
def test_dense_form_has_the_same_transfer_function(rng, conj_sym):
    ssm = random_ssm(rng, 6, 3, 2, conj_sym=conj_sym)
    dense = sr.systems.to_state_space(ssm)
    assert dense.A.shape == (12, 12)
    np.testing.assert_allclose(textbook_response(dense, OMEGA), sr.frequency_response(ssm, OMEGA), rtol=1e-10)


def test_dense_form_simulates_alike(rng):
    ssm = random_ssm(rng, 4, 2, 3, conj_sym=True)
    u = rng.standard_normal((50, 2))
    _, y, _ = scipy.signal.dlsim(sr.systems.to_dlti(ssm), u)
    np.testing.assert_allclose(y, sr.simulate(ssm, u), rtol=1e-10, atol=1e-12)


def test_real_states_with_real_inputs_stay_one_state():
    ssm = sr.DiagonalSSM([0.5, 0.3 + 0.4j, -0.2], [[1.0], [1.0], [1j]], [[1.0, 1.0, 1.0]], [[0.0]], conj_sym=True)
    dense = sr.systems.to_state_space(ssm)
    assert dense.A.shape == (5, 5)  # 1 + 2 + 2: the last one has an imaginary input
    np.testing.assert_allclose(textbook_response(dense, OMEGA), sr.frequency_response(ssm, OMEGA), rtol=1e-12)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("conj_sym", [True, False])
def test_diagonalising_returns_the_system(rng, conj_sym, stored):
    ssm = random_ssm(rng, 5, 2, 2, conj_sym=conj_sym)
    back = sr.systems.from_state_space(sr.systems.to_state_space(ssm), conj_sym=stored)
    assert back.conj_sym is stored
    assert back.order == (5 if stored else 10)
    assert_same_map(back, ssm)


def test_real_poles_are_one_stored_state_with_half_c():
    back = sr.systems.from_state_space(sr.StateSpace(np.diag([0.5, -0.25]), [[1.0], [1.0]], [[2.0, 1.0]], [[0.5]]))
    assert back.order == 2
    np.testing.assert_allclose(
        sr.frequency_response(back, OMEGA)[:, 0, 0],
        0.5 + 2 / (np.exp(1j * OMEGA) - 0.5) + 1 / (np.exp(1j * OMEGA) + 0.25),
        rtol=1e-12,
    )


def test_scipy_round_trip_in_every_form(rng):
    ssm = random_ssm(rng, 3, 1, 1, conj_sym=True)
    system = sr.systems.to_dlti(ssm, dt=0.1)
    assert system.dt == 0.1
    for form in (system, system.to_tf(), system.to_zpk()):
        assert_same_map(sr.systems.from_dlti(form), ssm)


def test_control_round_trip(rng):
    ssm = random_ssm(rng, 4, 2, 3, conj_sym=True)
    system = sr.systems.to_control(ssm)
    assert system.isdtime(strict=True)
    np.testing.assert_allclose(
        np.moveaxis(system.frequency_response(OMEGA).complex, -1, 0), sr.frequency_response(ssm, OMEGA), rtol=1e-9
    )
    assert_same_map(sr.systems.from_control(system), ssm)


def test_what_cannot_be_converted_is_refused(rng):
    with pytest.raises(NotRepresentableError, match="one causal system"):
        sr.systems.to_state_space(random_ssm(rng, 3, batch=(2,)))
    with pytest.raises(NotRepresentableError, match="one causal system"):
        sr.systems.to_dlti(random_ssm(rng, 3, bidirectional=True))
    with pytest.raises(NotRepresentableError, match="pole at 0"):
        sr.systems.from_state_space(sr.StateSpace([[0.0]], [[1.0]], [[1.0]], [[0.0]]))
    jordan = sr.StateSpace([[0.5, 1.0], [0.0, 0.5]], [[0.0], [1.0]], [[1.0, 0.0]], [[0.0]])
    with pytest.raises(NotRepresentableError, match="diagonalised"):
        sr.systems.from_state_space(jordan)
    with pytest.raises(NotRepresentableError, match="discrete-time"):
        sr.systems.from_control(control.ss([[-1.0]], [[1.0]], [[1.0]], [[0.0]]))
    with pytest.raises(NotRepresentableError, match="discrete-time"):
        sr.systems.from_dlti(scipy.signal.lti([1.0], [1.0, 1.0]))


@pytest.mark.parametrize("name", ["A", "B", "C", "D"])
def test_dense_shapes_are_checked(name):
    matrices = {"A": np.eye(2), "B": np.ones((2, 1)), "C": np.ones((3, 2)), "D": np.ones((3, 1))}
    sr.StateSpace(**matrices)
    with pytest.raises(ShapeError, match=r"A \(n, n\)"):
        sr.StateSpace(**{**matrices, name: np.ones((5, 4))})
    with pytest.raises(ShapeError, match=r"A \(n, n\)"):
        sr.StateSpace(**{**matrices, name: np.ones(2)})


@pytest.mark.parametrize("delays", [1, 2])
def test_a_pole_at_0_is_noticed_behind_rounding(rng, delays):
    poles = np.diag([0.5, 0.3, -0.2, 0.0])
    if delays == 2:
        poles = np.zeros((4, 4))
        poles[:2, :2], poles[2, 3] = np.diag([0.5, 0.3]), 1.0
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    system = sr.StateSpace(Q @ poles @ Q.T, rng.standard_normal((4, 1)), rng.standard_normal((1, 4)), [[0.0]])
    with pytest.raises(NotRepresentableError, match="pole at 0|pole close to 0|diagonalised"):
        sr.systems.from_state_space(system)


def test_static_gains_have_no_states():
    ssm = sr.systems.from_dlti(scipy.signal.dlti([2.0], [1.0]))
    assert ssm.order == 0
    assert sr.systems.to_state_space(ssm).A.shape == (0, 0)
    np.testing.assert_array_equal(ssm.D, [[2.0]])


def test_poles_that_round_inside_the_circle_warn():
    turned = np.array([[np.cos(1.0), -np.sin(1.0)], [np.sin(1.0), np.cos(1.0)]])
    system = sr.StateSpace(turned * (1.0 - 3e-16), [[1.0], [0.0]], [[1.0, 0.0]], [[0.0]])
    for call in (sr.systems.from_state_space, sr.h2_norm, sr.hinf_norm):
        with pytest.warns(PrecisionWarning, match="on the unit circle to working precision"):
            call(system)
