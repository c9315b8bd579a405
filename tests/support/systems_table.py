"""One system of every kind that a reduction meets."""

import numpy as np

import ssmreduce as sr
from ssmreduce.systems._systems import conjugate_closed
from support.norm_oracles import random_ssm


def slow_siso(rng):
    """One input and output, poles down to 1e-6 from the circle."""
    return random_ssm(rng, 12, gaps=(1e-6, 1e-1))


def clustered(rng):
    """Ten poles within 1e-3 rad."""
    angles = 0.7 + 1e-3 * rng.random(10)
    B, C = rng.standard_normal((10, 1)), rng.standard_normal((1, 10))
    return sr.DiagonalSSM(0.95 * np.exp(1j * angles), B, C, [[0.3]], conj_sym=True)


def repeated(rng):
    """Every pole twice."""
    ssm = random_ssm(rng, 4, 2, 2)
    twice = np.repeat(ssm.Lambda, 2)
    return sr.DiagonalSSM(twice, random_ssm(rng, 8, 2, 2).B, random_ssm(rng, 8, 2, 2).C, ssm.D, conj_sym=True)


def real_poles(rng):
    """All poles stored, and real."""
    poles = rng.uniform(-0.95, 0.95, 8)
    return sr.DiagonalSSM(poles, rng.standard_normal((8, 2)), rng.standard_normal((3, 8)), np.zeros((3, 2)))


def with_unstable(rng):
    """Two poles on or outside the circle."""
    ssm = random_ssm(rng, 8, 2, 2)
    Lambda = ssm.Lambda.copy()
    Lambda[[1, 4]] = 1.001j, -1.0
    return sr.DiagonalSSM(Lambda, ssm.B, ssm.C, ssm.D, conj_sym=True)


def silent_inputs(rng):
    """No input reaches a state."""
    ssm = random_ssm(rng, 6, 2, 2)
    return sr.DiagonalSSM(ssm.Lambda, 0 * ssm.B, ssm.C, ssm.D, conj_sym=True)


SYSTEMS = {
    "siso": lambda rng: random_ssm(rng, 8),
    "mimo": lambda rng: random_ssm(rng, 10, 4, 3),
    "wide": lambda rng: random_ssm(rng, 6, 12, 10),
    "one-output": lambda rng: random_ssm(rng, 6, 3, 1),
    "all-stored": lambda rng: random_ssm(rng, 8, 2, 2, conj_sym=False),
    "conjugates-stored": lambda rng: conjugate_closed(random_ssm(rng, 4, 2, 2)),
    "bidirectional": lambda rng: random_ssm(rng, 8, 2, 2, reverse=True),
    "bidirectional-siso": lambda rng: random_ssm(rng, 6, reverse=True, conj_sym=False),
    "batch": lambda rng: random_ssm(rng, 6, batch=(3,)),
    "bidirectional-batch": lambda rng: random_ssm(rng, 5, 2, 1, batch=(2, 2), reverse=True),
    "slow-siso": slow_siso,
    "clustered": clustered,
    "repeated": repeated,
    "real": real_poles,
    "unstable": with_unstable,
    "silent": silent_inputs,
    "single": lambda rng: random_ssm(rng, 1, 2, 2),
}
