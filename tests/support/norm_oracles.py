"""Oracles of whole-system norms: hard systems, multi-precision and extended-precision responses, fixtures."""

import json

import mpmath
import numpy as np

from ssmreduce._support.arrays import one_minus_abs
from ssmreduce.systems._systems import DiagonalSSM, StateSpace
from support import oracles
from support.paths import FIXTURES


def random_ssm(rng, n, m=1, p=1, *, gaps=(1e-3, 0.5), batch=(), conj_sym=True, D=True, reverse=False):
    """Random stable system with 1 - abs(Lambda) spread log-uniformly over `gaps`."""

    def normal(*shape):
        return rng.standard_normal((*batch, *shape)) + 1j * rng.standard_normal((*batch, *shape))

    gap = 10.0 ** rng.uniform(*np.log10(gaps), (*batch, n))
    Lambda = (1.0 - gap) * np.exp(1j * rng.uniform(0.0, np.pi, (*batch, n)))
    feedthrough = rng.standard_normal((*batch, p, m)) if D else np.zeros((*batch, p, m))
    return DiagonalSSM(
        Lambda, normal(n, m), normal(p, n), feedthrough, normal(p, n) if reverse else None, conj_sym=conj_sym
    )


def dense(ssm: DiagonalSSM) -> StateSpace:
    """Textbook form with real matrices, in the coordinates (Re x, Im x)."""
    return StateSpace(*oracles.dense(ssm))


def gain_mp(ssm: DiagonalSSM, omega, digits: int = 40):
    """Largest singular value of G(e^{j omega}) of a single system with one input and one output, `digits` digits."""
    with mpmath.workdps(digits):
        z = mpmath.expj(omega)
        total = mpmath.mpf(float(ssm.D[0, 0]))
        half = mpmath.mpf(ssm.kappa) / 2
        for i in range(ssm.order):
            pole, b, c = (mpmath.mpc(complex(v)) for v in (ssm.Lambda[i], ssm.B[i, 0], ssm.C[0, i]))
            total += half * (c * b / (1 - pole / z) + mpmath.conj(c * b) / (1 - mpmath.conj(pole) / z))
            if ssm.C_reverse is not None:
                c = mpmath.mpc(complex(ssm.C_reverse[0, i]))
                total += half * (c * b / (1 - pole * z) + mpmath.conj(c * b) / (1 - mpmath.conj(pole) * z))
        return abs(total)


def hankel_fixtures():
    """Name, system and 25-digit Hankel singular values of each case of fixtures/hankel.json."""
    for name, case in json.loads((FIXTURES / "hankel.json").read_text()).items():

        def column(key, case=case):
            return np.array([complex(float.fromhex(a), float.fromhex(b)) for a, b in case[key]])

        ssm = DiagonalSSM(column("Lambda"), column("B")[:, None], column("C")[None], [[0.0]], conj_sym=True)
        yield name, ssm, np.array([float(v) for v in case["hankel"]])


def adversarial_ssm(rng, kind, p=1, m=1):
    """A small system that is hard for norm computations; `kind` is one of ADVERSARIAL."""
    n = int(rng.integers(1, 9))
    gap = 10.0 ** rng.uniform(-9.0, -0.05, n)
    angle = rng.uniform(0.0, np.pi, n)
    B = rng.standard_normal((n, m)) + 1j * rng.standard_normal((n, m))
    C = rng.standard_normal((p, n)) + 1j * rng.standard_normal((p, n))
    D = rng.standard_normal((p, m)) * (rng.random() < 0.5)
    reverse = None
    if kind == "real":
        angle = np.pi * rng.integers(0, 2, n)
    if kind == "repeated":
        gap[:], angle[:] = gap[0], angle[0]
    if kind == "clustered":
        gap = gap[0] * (1.0 + 0.1 * rng.random(n))
        angle = angle[0] + gap * rng.standard_normal(n)
    Lambda = (1.0 - gap) * np.exp(1j * angle)
    if kind == "real":
        Lambda = Lambda.real + 0j
    if kind == "zero":
        Lambda[0] = 0.0
    if kind == "dominant_D":
        D = 1e6 * rng.standard_normal((p, m))
    if kind == "equal_heights":
        C = C / np.linalg.norm(C, axis=0) / np.linalg.norm(B, axis=1) * gap
    if kind == "tiny_residues":
        C = C * 10.0 ** rng.uniform(-12, 0, n)
    if kind == "bidirectional":
        reverse = rng.standard_normal((p, n)) + 1j * rng.standard_normal((p, n))
    if kind == "all_pass":
        n = min(n, 4)
        spread = np.pi * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / n
        return all_pass(rng.uniform(0.5, 0.9, n) * np.exp(1j * spread))
    return DiagonalSSM(Lambda, B, C, D, reverse, conj_sym=bool(rng.random() < 0.7))


ADVERSARIAL = (
    "plain",
    "real",
    "repeated",
    "clustered",
    "zero",
    "dominant_D",
    "equal_heights",
    "tiny_residues",
    "bidirectional",
    "all_pass",
)


def all_pass(Lambda):
    """Product of (1 - conj(a) z) / (z - a) over the poles and their conjugates, of gain 1 at every frequency."""
    n = len(Lambda)
    poles = np.concatenate([Lambda, np.conj(Lambda)])

    def factor(z, k):
        return (1 - np.conj(poles[k]) * z) / (z - poles[k])

    residues = np.empty(n, dtype=complex)
    for i in range(n):
        others = [factor(poles[i], k) for k in range(2 * n) if k != i]
        residues[i] = (1 - abs(poles[i]) ** 2) * np.prod(others)
    # r / (z - a) = (r / a) (z / (z - a) - 1)
    C = residues / poles[:n]
    value_at_infinity = np.prod(-np.conj(poles)).real
    D = value_at_infinity - 2.0 * np.sum(C.real)
    return DiagonalSSM(poles[:n], np.ones((n, 1)), C[None], [[D]], conj_sym=True)


def response_extended(ssm, omega):
    """G(e^{j omega}) of a single system; angles in extended precision (np.longdouble), radii from the accurate gap."""
    Lambda = ssm.Lambda.astype(np.clongdouble)
    gap = one_minus_abs(ssm.Lambda).astype(np.longdouble)
    theta = np.arctan2(Lambda.imag, Lambda.real)
    total = np.broadcast_to(ssm.D.astype(np.clongdouble), (omega.size, *ssm.D.shape)).copy()
    halves = [(ssm.C, 1)] + ([] if ssm.C_reverse is None else [(ssm.C_reverse, -1)])
    for C, sign in halves:
        for conj, turn in ((np.asarray, 1), (np.conj, -1)):
            angle = sign * omega[:, None] - turn * theta
            terms = 1.0 / (gap + (1.0 - gap) * (2.0 * np.sin(angle / 2) ** 2 + 1j * np.sin(angle)))
            B, left = (conj(a).astype(np.clongdouble) for a in (ssm.B, C))
            total += ssm.kappa / 2.0 * np.einsum("pn,wn,nm->wpm", left, terms, B)
    return total.astype(np.complex128)


def gain_on_grids(ssm, count=400):
    """Largest gain on a uniform grid and on grids around each pole angle that resolve its width, refined at the best.

    In extended precision, since an angle in double precision is too coarse where 1 - abs(Lambda) is 1e-9.
    """
    Lambda = ssm.Lambda.astype(np.clongdouble)
    angles, gaps = np.arctan2(np.abs(Lambda.imag), Lambda.real), 1.0 - np.abs(Lambda)
    spread = np.sinh(np.linspace(-6.0, 6.0, 61))
    pi = np.arctan2(np.longdouble(0.0), np.longdouble(-1.0))
    omega = np.concatenate([np.linspace(0.0, 1.0, count) * pi, (angles[:, None] + gaps[:, None] * spread).ravel()])
    omega = np.unique(np.clip(omega, 0.0, pi))

    def gains(points):
        return np.linalg.svd(response_extended(ssm, points), compute_uv=False)[..., 0]

    for _ in range(6):
        values = gains(omega)
        k = int(np.argmax(values))
        low, high = omega[max(k - 1, 0)], omega[min(k + 1, len(omega) - 1)]
        omega = np.unique(np.concatenate([[omega[k]], np.linspace(low, high, 21)]))
    return float(gains(omega).max())


def peak_mp(ssm, omega, digits=40):
    """Local peak near omega of a system with one input and one output, by golden section in multi-precision."""
    with mpmath.workdps(digits):
        step = mpmath.mpf(float(np.min(1.0 - np.abs(ssm.Lambda)))) / 4
        omega, value = mpmath.mpf(omega), gain_mp(ssm, omega, digits)
        low, high = omega - step, omega + step
        ratio = (mpmath.sqrt(5) - 1) / 2
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        fa, fb = gain_mp(ssm, a, digits), gain_mp(ssm, b, digits)
        for _ in range(60):
            if fa > fb:
                high, b, fb = b, a, fa
                a = high - ratio * (high - low)
                fa = gain_mp(ssm, a, digits)
            else:
                low, a, fa = a, b, fb
                b = low + ratio * (high - low)
                fb = gain_mp(ssm, b, digits)
        return float(max(value, fa, fb))
