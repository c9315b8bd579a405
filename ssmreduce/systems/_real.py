"""The real system behind stored states: its coordinates, and both halves of a bidirectional one as outputs."""

import numpy as np

from ._systems import DiagonalSSM


def output_rows(ssm: DiagonalSSM) -> np.ndarray:
    """Output matrix of a single system; both halves of a bidirectional one stacked, as they share the states."""
    return ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=-2)


def widening(ssm: DiagonalSSM) -> float:
    """Largest gain of a system over that of its halves stacked: both may add up, for one input in quadrature."""
    if not ssm.bidirectional:
        return 1.0
    return float(np.sqrt(2.0)) if ssm.inputs == 1 else 2.0


def with_outputs(ssm: DiagonalSSM, Lambda: np.ndarray, B: np.ndarray, C: np.ndarray) -> DiagonalSSM:
    """The system with other states; `C` as from `output_rows`."""
    p = ssm.outputs
    reverse = C[p:] if ssm.bidirectional else None
    return DiagonalSSM(Lambda, B, C[:p], ssm.D, reverse, ssm.conj_sym)


def real_inputs(B: np.ndarray) -> np.ndarray:
    r"""Input matrix in the coordinates :math:`\sqrt2 (\mathrm{Re}\,x, \mathrm{Im}\,x)`."""
    return np.sqrt(2.0) * np.concatenate([B.real, B.imag], axis=-2)


def real_outputs(C: np.ndarray, kappa: float) -> np.ndarray:
    r"""Output matrix of :math:`\kappa\,\mathrm{Re}(C x)` in the same coordinates."""
    return kappa / np.sqrt(2.0) * np.concatenate([C.real, -C.imag], axis=-1)


def advance(Lambda: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Product of the real A, which is two by two blocks, with a matrix (2 n, k)."""
    n = Lambda.size
    top, bottom = states[:n], states[n:]
    a, b = Lambda.real[:, None], Lambda.imag[:, None]
    return np.concatenate([a * top - b * bottom, b * top + a * bottom])
