"""The numbers of one layer that the report draws; each is taken from the room that computes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..evaluation._certificates import Original
from ..models import SSMModel
from ..norms import modal_hinf_norms
from ..responses._gains import frequencies, singular_values
from ..selection import LayerPath
from ..selection._scores import CRITERIA
from ..systems import DiagonalSSM, error_system
from ..systems._systems import on_host

SHOWN_CRITERIA = {"H-infinity": "hinf", "H2": "h2", "magnitude": "magnitude"}
_WORK = 5e11  # floating point operations of all gain curves together: about a minute
_LEAST = 16  # frequencies of a gain curve that is worth drawing
_ENTRIES = 4e6  # of the responses that are held at once
_HANKEL = 512  # states beyond which singular values are shown only where the certificates have computed them


@dataclass(frozen=True)
class LayerNumbers:
    """One layer of the original.

    Attributes
    ----------
    poles : ndarray, shape (n,), complex128
        Of the states that are left.
    importance : mapping
        Criterion -> one value a state.
    hankel : mapping
        Half ("causal", "reverse") -> Hankel singular values of the stable part; empty where they cost too much.
    omega : ndarray, shape (w,)
        Frequencies; none where the response costs too much.
    gain : ndarray, shape (w,)
    errors : mapping
        Label -> gain of the error system, shape (w,).
    calibrated : ndarray, shape (n + 1,), or None
        Relative output error on the calibration's data, by the number of states eliminated.
    """

    poles: np.ndarray
    importance: Mapping[str, np.ndarray]
    hankel: Mapping[str, np.ndarray]
    omega: np.ndarray
    gain: np.ndarray
    errors: Mapping[str, np.ndarray]
    calibrated: np.ndarray | None


def poles_of(model: SSMModel, name: str) -> np.ndarray:
    """Poles of the states that are left."""
    return on_host(model[name]).Lambda.ravel()[model.state_index(name)[1].ravel()]


def layer_numbers(
    model: SSMModel, name: str, candidates: Mapping[str, SSMModel], original: Original, path: LayerPath | None
) -> LayerNumbers:
    """Everything that is drawn of a layer."""
    ssm, left = on_host(model[name]), model.state_index(name)[1].ravel()
    importance = {label: CRITERIA[key](ssm).ravel()[left] for label, key in SHOWN_CRITERIA.items()}
    others = {label: candidate[name] for label, candidate in candidates.items()}
    omega = _grid(ssm, _count(ssm, len(model) * (1 + len(others))))
    return LayerNumbers(
        poles=poles_of(model, name),
        importance=importance,
        hankel=original.hankel() if original.has_hankel or ssm.order <= _HANKEL else {},
        omega=omega,
        gain=_largest(ssm, omega),
        errors={label: _largest(error_system(ssm, other), omega) for label, other in others.items()},
        calibrated=None if path is None else _path_errors(path),
    )


def _count(ssm: DiagonalSSM, curves: int) -> int:
    """Frequencies of each curve within the work of all of them, at most 160."""
    n, m, p = ssm.order, ssm.inputs, ssm.outputs
    each = ssm.systems * (8.0 * n * m * p + 50.0 * min(m, p) ** 2 * max(m, p)) + 1.0
    count = int(min(160.0, 40_000 / curves, _WORK / (curves * each)))
    return count if count >= _LEAST else 0


def _grid(ssm: DiagonalSSM, count: int) -> np.ndarray:
    """Frequencies down to the slowest pole, and those of the strongest resonances."""
    if count == 0:
        return np.zeros(0)
    norms = modal_hinf_norms(ssm).ravel()
    strongest = np.argsort(-np.where(np.isfinite(norms), norms, 0.0), kind="stable")[: count // 4]
    angles = np.abs(np.angle(ssm.Lambda.ravel()[strongest]))
    regular = frequencies(ssm, count - strongest.size)
    return np.unique(np.concatenate([regular, angles[angles > regular[0]]]))


def _largest(ssm: DiagonalSSM, omega: np.ndarray) -> np.ndarray:
    """Largest singular value at each frequency; 0 of a system without states and feedthrough."""
    return np.array([value for part in _parts(ssm, omega) for value in singular_values(ssm, part).max(axis=1)])


def _parts(ssm: DiagonalSSM, omega: np.ndarray) -> Iterable[np.ndarray]:
    entries = ssm.systems * max(ssm.inputs, ssm.order, 1) * ssm.outputs
    return np.array_split(omega, max(1, int(np.ceil(omega.size * entries / _ENTRIES)))) if omega.size else []


def _path_errors(path: LayerPath) -> np.ndarray:
    """Relative error after each elimination, the cheapest state of all systems of the layer first."""
    priority = np.maximum.accumulate(path.cost, axis=1)
    steps = np.broadcast_to(np.arange(path.cost.shape[1]), path.cost.shape)
    order = np.lexsort((steps.ravel(), priority.ravel()))
    total = np.concatenate([[0.0], np.cumsum(path.cost.ravel()[order])])
    return np.sqrt(np.clip(total, 0.0, None) / path.energy) if path.energy > 0 else total
