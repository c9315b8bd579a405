"""The states of a layer one after the other, in real parameters: what the drop-in layers of every framework hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._support.arguments import require_kind
from .._support.arrays import one_minus_abs
from ..errors import ShapeError
from ..systems import DiagonalSSM
from ..systems._systems import require_diagonal

_LEAST_UNIT = 1e-3  # rad: angles of slower poles would be too sensitive to train
_LOG_ZERO = 6.5  # log rate of a pole at 0: exp(-exp(6.5)) is 0 in double precision


@dataclass(frozen=True)
class Structure:
    r"""What a drop-in layer knows besides its parameters; plain numbers, so that a file can hold it.

    Attributes
    ----------
    counts : tuple of int
        States of each system of the batch; one number for a layer that is one system.
    inputs, outputs : int
        Of each system.
    bidirectional : bool
    diagonal : bool
        D is held as a vector.
    unit : tuple of float
        Width :math:`\delta_i` of each pole, in which its angle is measured (rad).
    side : tuple of float
        1 for poles inside the unit circle, -1 for the others.
    """

    counts: tuple[int, ...]
    inputs: int
    outputs: int
    bidirectional: bool
    diagonal: bool
    unit: tuple[float, ...]
    side: tuple[float, ...]

    @property
    def systems(self) -> int:
        """Number of systems."""
        return len(self.counts)

    @property
    def states(self) -> int:
        """Number of states of all systems."""
        return sum(self.counts)

    @property
    def owner(self) -> np.ndarray:
        """System of each state, shape (N,), int64."""
        return np.repeat(np.arange(self.systems), self.counts)


Parts = tuple[Structure, Mapping[str, np.ndarray]]
"""A drop-in layer: what it knows, and its real parameters."""


def real_parameters(ssm: DiagonalSSM, valid: np.ndarray | None = None) -> tuple[Structure, dict[str, np.ndarray]]:
    r"""Structure and real parameters of a system.

    .. math:: \lambda_i = e^{-s_i e^{\nu_i} + j \theta_i \delta_i}

    Parameters
    ----------
    ssm : DiagonalSSM
        Host arrays.
    valid : ndarray, shape (s, n), bool, optional
        Which states of each system of a batch there are. By default those with an input and an output.

    Returns
    -------
    structure : Structure
    parameters : dict
        ``log_rate`` :math:`\nu` and ``angle`` :math:`\theta` (N,), ``B`` (N, m, 2), ``C`` and ``C_reverse`` (N, p, 2)
        with :math:`\kappa` in them, ``D`` (s * m,) where it is diagonal, else (s, p, m); all float64. N is the number
        of all states, those of a batch one system after the other; the last axis is (re, im).
    """
    require_diagonal(ssm)
    flat = flatten_states(ssm, valid)
    Lambda = flat["Lambda"]
    systems = ssm.systems
    structure = Structure(
        tuple(np.bincount(flat["owner"], minlength=systems).tolist()),
        ssm.inputs,
        ssm.outputs,
        ssm.bidirectional,
        is_diagonal(ssm),
        tuple(_unit(Lambda).tolist()),
        tuple(_side(Lambda).tolist()),
    )
    values = {
        "log_rate": np.log(np.maximum(np.abs(_log_radius(Lambda)), 1e-12)),
        "angle": np.angle(Lambda) / _unit(Lambda),
    }
    for name in ("B", "C", "C_reverse") if ssm.bidirectional else ("B", "C"):
        values[name] = np.stack([flat[name].real, flat[name].imag], axis=-1)
    return structure, {**values, "D": feedthrough(ssm)}


def system_of(structure: Structure, parameters: Mapping[str, Any]) -> DiagonalSSM:
    """The system of real parameters in double precision, the systems of a batch padded with silent states.

    Its factor kappa is in C: ``conj_sym`` is False.
    """
    p = {name: np.asarray(value, dtype=np.float64) for name, value in parameters.items()}
    unit, side = np.array(structure.unit), np.array(structure.side)
    flat = {
        "owner": structure.owner,
        "Lambda": np.exp(-side * np.exp(p["log_rate"]) + 1j * p["angle"] * unit),
        "B": p["B"] @ [1, 1j],
        "C": p["C"] @ [1, 1j],
        "C_reverse": p["C_reverse"] @ [1, 1j] if structure.bidirectional else None,
    }
    return padded_system(flat, p["D"], structure.systems, structure.inputs, structure.outputs)


def flatten_states(ssm: DiagonalSSM, valid: np.ndarray | None = None) -> dict[str, Any]:
    """States of all systems one after the other.

    Returns
    -------
    dict
        ``owner`` and ``slot`` (N,), ``Lambda`` (N,), ``B`` (N, m), ``C`` (N, p) times kappa, ``C_reverse`` or None.
    """
    s, n = ssm.systems, ssm.order
    B = np.asarray(ssm.B).reshape(s, n, ssm.inputs)
    halves = [ssm.C] if ssm.C_reverse is None else [ssm.C, ssm.C_reverse]
    outputs = [ssm.kappa * np.asarray(C).reshape(s, ssm.outputs, n).swapaxes(1, 2) for C in halves]
    if valid is None:
        heard = np.any([np.abs(C).any(axis=2) for C in outputs], axis=0)
        valid = (np.abs(B).any(axis=2) & heard) if ssm.batch else np.ones((s, n), dtype=bool)
    require_kind(valid, np.ndarray, "valid", "an array of True and False of shape (systems, states) is needed")
    if valid.shape != (s, n):
        raise ShapeError(f"valid has shape {valid.shape}, expected {(s, n)}")
    owner, slot = np.nonzero(valid)
    return {
        "owner": owner,
        "slot": slot,
        "Lambda": np.asarray(ssm.Lambda).reshape(s, n)[owner, slot],
        "B": B[owner, slot],
        "C": outputs[0][owner, slot],
        "C_reverse": outputs[1][owner, slot] if len(outputs) > 1 else None,
    }


def padded_system(flat: dict[str, Any], D: np.ndarray, systems: int, inputs: int, outputs: int) -> DiagonalSSM:
    """The inverse of `flatten_states`, with silent states (pole 0.5) where a system has fewer than the largest."""
    owner = flat["owner"]
    counts = np.bincount(owner, minlength=systems)
    slot = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    n = int(counts.max(initial=0))

    def placed(values: np.ndarray, fill: complex = 0.0) -> np.ndarray:
        result = np.full((systems, n, *values.shape[1:]), fill, dtype=complex)
        result[owner, slot] = values
        return result

    Lambda, B, C = placed(flat["Lambda"], 0.5), placed(flat["B"]), placed(flat["C"]).swapaxes(1, 2)
    reverse = None if flat["C_reverse"] is None else placed(flat["C_reverse"]).swapaxes(1, 2)
    if D.ndim == 1:
        D = D[:, None, None] if inputs == 1 and systems > 1 else np.stack([np.diag(d) for d in D.reshape(systems, -1)])
    if systems == 1:
        return DiagonalSSM(Lambda[0], B[0], C[0], D[0], None if reverse is None else reverse[0])
    return DiagonalSSM(Lambda, B, C, D, reverse)


def is_diagonal(ssm: DiagonalSSM) -> bool:
    """Whether the feedthrough is diagonal."""
    if ssm.inputs != ssm.outputs:
        return False
    off = ~np.eye(ssm.inputs, dtype=bool)
    return not np.asarray(ssm.D)[..., off].any()


def feedthrough(ssm: DiagonalSSM) -> np.ndarray:
    """D as a layer holds it: the diagonals (s * m,), or in full (s, p, m)."""
    D = np.asarray(ssm.D).reshape(-1, ssm.outputs, ssm.inputs)
    return np.einsum("sii->si", D).ravel() if is_diagonal(ssm) else D


def _log_radius(Lambda: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.maximum(np.log1p(-one_minus_abs(Lambda)), -np.exp(_LOG_ZERO))


def _side(Lambda: np.ndarray) -> np.ndarray:
    return np.where(_log_radius(Lambda) < 0, 1.0, -1.0)


def _unit(Lambda: np.ndarray) -> np.ndarray:
    return np.clip(np.abs(_log_radius(Lambda)), _LEAST_UNIT, 1.0)
