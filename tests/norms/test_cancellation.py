"""Norms of systems whose states nearly cancel, and of systems of the test suites of peers, against multi-precision."""

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest

from ssmreduce.evaluation import certify
from ssmreduce.norms import h2_norm, hankel_norm, hankel_singular_values
from ssmreduce.reduction import balanced_truncation, exchange
from ssmreduce.systems import DiagonalSSM

PEERS = json.loads((Path(__file__).parents[1] / "data" / "peer_systems.json").read_text())


def peer_system(case):
    def matrix(name):
        return np.array([[complex(*map(float.fromhex, z)) for z in row] for row in case[name]])

    return DiagonalSSM(matrix("Lambda")[0], matrix("B"), matrix("C"), matrix("D").real, conj_sym=True)


def _exact(matrix):
    return mp.matrix([[mp.mpc(complex(z)) for z in row] for row in np.atleast_2d(matrix)])


def _closed(ssm, C):
    """Poles, B and C (C Lambda^0) of all states in multi-precision, conjugates and factors included."""
    poles = [mp.mpc(complex(z)) for z in ssm.Lambda]
    B, C = _exact(ssm.B), _exact(C) * ssm.kappa / 2
    n = len(poles)
    rows = mp.matrix(2 * n, ssm.inputs)
    columns = mp.matrix(C.rows, 2 * n)
    for i in range(n):
        for j in range(ssm.inputs):
            rows[i, j], rows[n + i, j] = B[i, j], mp.conj(B[i, j])
        for j in range(C.rows):
            columns[j, i], columns[j, n + i] = C[j, i], mp.conj(C[j, i])
    return poles + [mp.conj(z) for z in poles], rows, columns


def exact_h2_norm(ssm, digits=100):
    """From all pairs of states."""
    with mp.workdps(digits):
        lag0, total = _exact(ssm.D), mp.mpf(0)
        for half in (ssm.C,) if ssm.C_reverse is None else (ssm.C, ssm.C_reverse):
            poles, B, C = _closed(ssm, half)
            lag0 = lag0 + C * B
            inputs, outputs = B * B.H, C.H * C
            for i, a in enumerate(poles):
                for j, b in enumerate(poles):
                    total += (inputs[i, j] * outputs[j, i] * a * mp.conj(b) / (1 - a * mp.conj(b))).real
        return float(mp.sqrt(total + sum(abs(z) ** 2 for z in lag0)))


def exact_hankel_values(ssm, digits=120):
    """Roots of the eigenvalues of L^* Q L with P = L L^*, scan form."""
    with mp.workdps(digits):
        poles, B, C = _closed(ssm, ssm.C)
        P, Q = B * B.H, C.H * C
        for i, a in enumerate(poles):
            for j, b in enumerate(poles):
                P[i, j] /= 1 - a * mp.conj(b)
                Q[i, j] /= 1 - mp.conj(a) * b
        squares, V = mp.eighe(P)
        L = V * mp.diag([mp.sqrt(max(mp.mpf(0), z)) for z in squares])
        found = [mp.sqrt(max(mp.mpf(0), z)) for z in mp.eighe(L.H * Q * L, eigvals_only=True)]
        return np.array(sorted((float(v) for v in found), reverse=True))


def nearly_cancelling(rng, m, p, distance, *, reverse=False):
    """Two pairs of nearly equal states of opposite sign, with outputs inverse to their distance."""
    poles = np.array([0.5 + 0.3j, 0.5 + 0.3j + distance, 0.9, 0.9 + 1j * distance])
    B = rng.standard_normal((4, m)) + 1j * rng.standard_normal((4, m))
    B[1], B[3] = B[0], B[2] + distance * B[3]
    C = rng.standard_normal((p, 4)) + 1j * rng.standard_normal((p, 4))
    C[:, 1], C[:, 3] = -C[:, 0], -C[:, 2]
    C /= distance
    return DiagonalSSM(poles, B, C, np.zeros((p, m)), 1e-3 * C if reverse else None)


@pytest.mark.parametrize("case", PEERS, ids=[case["source"].split("::")[-1] for case in PEERS])
def test_systems_of_peers(case):
    ssm, exact = peer_system(case), np.array([float(v) for v in case["hankel"]])
    np.testing.assert_allclose(h2_norm(ssm), float(case["h2"]), rtol=1e-12)
    values = hankel_singular_values(ssm, form="textbook")
    np.testing.assert_allclose(values, exact, rtol=0, atol=1e-12 * exact[0])
    if min(ssm.inputs, ssm.outputs) == 1:
        values = hankel_singular_values(ssm, form="textbook", accuracy="relative")
        np.testing.assert_allclose(values, exact, rtol=1e-11, atol=1e-30 * exact[0])


@pytest.mark.parametrize("distance", [1e-2, 1e-3, 1e-5, 1e-7, 1e-10])
@pytest.mark.parametrize(("m", "p", "reverse"), [(1, 1, False), (2, 3, False), (3, 2, True)])
def test_states_that_nearly_cancel(m, p, reverse, distance):
    ssm = nearly_cancelling(np.random.default_rng(m), m, p, distance, reverse=reverse)
    np.testing.assert_allclose(h2_norm(ssm), exact_h2_norm(ssm), rtol=1e-12)
    if not reverse:
        exact = exact_hankel_values(ssm)
        np.testing.assert_allclose(hankel_singular_values(ssm), exact, rtol=0, atol=1e-12 * exact[0])
        if m == 1:
            values = hankel_singular_values(ssm, accuracy="relative")
            np.testing.assert_allclose(values, exact, rtol=1e-11)


@pytest.mark.parametrize("distance", [1e-4, 1e-6, 1e-8])
def test_a_double_pole_that_was_split(distance):
    ssm = DiagonalSSM([0.5, 0.5 + distance], [[1.0], [1.0]], [[-1 / distance, 1 / distance]], [[0.0]])
    np.testing.assert_allclose(h2_norm(ssm), exact_h2_norm(ssm), rtol=1e-14)
    exact = exact_hankel_values(ssm)
    np.testing.assert_allclose(hankel_singular_values(ssm)[:2], exact[:2], rtol=1e-13)
    np.testing.assert_allclose(hankel_norm(ssm), exact[0], rtol=1e-13)


def test_states_that_cancel_exactly_leave_nothing():
    ssm = DiagonalSSM([0.5, 0.5, 0.9j], [[1.0], [2.0], [0.0]], [[2e8, -1e8, 1e8]], [[0.0]])
    assert h2_norm(ssm) == 0.0
    for accuracy in ("absolute", "relative"):
        np.testing.assert_array_equal(hankel_singular_values(ssm, accuracy=accuracy), 0.0)


def test_a_batch_of_ordinary_and_cancelling_systems():
    rng = np.random.default_rng(3)
    systems = [nearly_cancelling(rng, 2, 2, distance) for distance in (0.1, 1e-8, 1e-3, 1e-6)]

    def stacked(name):
        return np.stack([getattr(ssm, name) for ssm in systems]).reshape(2, 2, *getattr(systems[0], name).shape)

    batch = DiagonalSSM(*(stacked(name) for name in ("Lambda", "B", "C", "D")))
    exact = np.reshape([exact_h2_norm(ssm) for ssm in systems], (2, 2))
    np.testing.assert_allclose(h2_norm(batch), exact, rtol=1e-12)
    exact = np.reshape([exact_hankel_values(ssm) for ssm in systems], (2, 2, 8))
    errors = np.abs(hankel_singular_values(batch) - exact).max(axis=-1)
    np.testing.assert_array_less(errors, 1e-12 * exact[..., 0])
    np.testing.assert_allclose(hankel_singular_values(batch, accuracy="relative")[0, 0], exact[0, 0], rtol=1e-10)


@pytest.mark.parametrize("exponent", [-560, -100, 510])
def test_sizes_far_from_one(exponent):
    scale = 2.0**exponent
    ssm = nearly_cancelling(np.random.default_rng(5), 2, 2, 1e-3)
    scaled = DiagonalSSM(ssm.Lambda, ssm.B * [[scale], [1.0 / scale], [1.0], [1.0]], ssm.C, ssm.D)
    same = DiagonalSSM(scaled.Lambda, scaled.B, ssm.C * [1.0 / scale, scale, 1.0, 1.0], ssm.D)
    np.testing.assert_allclose(h2_norm(same), h2_norm(ssm), rtol=1e-13)
    np.testing.assert_allclose(hankel_singular_values(same), hankel_singular_values(ssm), rtol=1e-10)
    small = DiagonalSSM(ssm.Lambda, ssm.B * scale, ssm.C, ssm.D)
    np.testing.assert_allclose(h2_norm(small) / scale, h2_norm(ssm), rtol=1e-13)
    np.testing.assert_allclose(hankel_singular_values(small) / scale, hankel_singular_values(ssm), rtol=1e-10)


def test_real_poles_with_complex_residues_have_no_spurious_values():
    """Their real and imaginary parts move together: the Gramian of one input has half its rank."""
    rng = np.random.default_rng(8)
    poles = 1.0 - 10.0 ** rng.uniform(-9, -2, 5)
    poles[1::2] *= -1.0
    B = rng.standard_normal((5, 1)) + 1j * rng.standard_normal((5, 1))
    C = rng.standard_normal((3, 5)) + 1j * rng.standard_normal((3, 5))
    ssm = DiagonalSSM(poles, B, C, np.zeros((3, 1)), conj_sym=True)
    exact = exact_hankel_values(ssm)
    np.testing.assert_allclose(hankel_singular_values(ssm), exact, rtol=0, atol=1e-13 * exact[0])


def test_small_values_of_one_input_and_output_are_accurate():
    """Two nearly equal states cancel in the residue of a third that is far larger."""
    near = 0.8005211105529829 - 0.5985080182458025j
    b, c = -0.8652373331509123 - 1.1472194167457743j, 0.2187417831027965 + 0.569031306014793j
    poles = [near, near + 1.1e-16, 0.34176032353644775 + 0.9396825940668192j]
    B, C = [[b], [b], [0.44086406241373577 - 0.5462305427641932j]], [[-c, c, 0.029494494921014625 - 1.100948519016844j]]
    ssm = DiagonalSSM(poles, B, C, [[0.1]], conj_sym=True)
    exact = exact_hankel_values(ssm, 160)
    assert exact[4] < 1e-12 * exact[0]
    values = hankel_singular_values(ssm, accuracy="relative")
    np.testing.assert_allclose(values, exact, rtol=1e-11)


def test_other_namespaces_lose_half_of_what_cancels():
    torch = pytest.importorskip("torch")
    ssm = nearly_cancelling(np.random.default_rng(2), 2, 2, 1e-6)
    arrays = [torch.from_numpy(np.array(a)) for a in (ssm.Lambda, ssm.B, ssm.C, ssm.D)]
    C = arrays[2].requires_grad_(True)
    norm = h2_norm(DiagonalSSM(*arrays))
    np.testing.assert_allclose(norm.detach(), exact_h2_norm(ssm), rtol=1e-7)
    norm.backward()
    assert torch.isfinite(C.grad.abs()).all()


def test_certificates_of_slow_real_poles_are_consistent():
    """A lower bound above the proven error means that a Hankel singular value is wrong."""
    rng = np.random.default_rng(0)
    for _ in range(25):
        n, p = int(rng.integers(3, 8)), int(rng.integers(1, 4))
        poles = (1.0 - 10.0 ** rng.uniform(-9.5, -1, n)) * rng.choice([-1.0, 1.0], n)
        B = rng.standard_normal((n, 1)) + 1j * rng.standard_normal((n, 1))
        C = rng.standard_normal((p, n)) + 1j * rng.standard_normal((p, n))
        ssm = DiagonalSSM(poles, B, C, rng.standard_normal((p, 1)), conj_sym=True)
        for reduced in (exchange(ssm, n - 1).ssm, balanced_truncation(ssm, n - 1).ssm):
            certificate = certify(ssm, reduced)
            assert certificate.lower_bound <= certificate.upper
            np.testing.assert_allclose(certificate.h2_norm, exact_h2_norm(ssm, 60), rtol=1e-11)
