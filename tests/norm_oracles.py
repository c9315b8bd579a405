"""Slow, independent answers: dense realifications, multi-precision frequency responses, fixtures."""

import json
from pathlib import Path

import mpmath
import numpy as np

from ssmreduce.systems import DiagonalSSM, StateSpace

FIXTURES = Path(__file__).parent / "fixtures"


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
    a, b = ssm.Lambda.real, ssm.Lambda.imag
    A = np.block([[np.diag(a), -np.diag(b)], [np.diag(b), np.diag(a)]])
    B = np.vstack([ssm.B.real, ssm.B.imag])
    C = ssm.kappa * np.hstack([ssm.C.real, -ssm.C.imag])
    return StateSpace(A, B, C @ A, ssm.D + C @ B)


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
