"""Systems taken apart and put together: batches, stable parts, sums and differences."""

from dataclasses import replace

import numpy as np

from .._support.arrays import to_numpy
from ._states import take_states
from ._systems import DiagonalSSM, unstable_states

_PADDING_POLE = 0.5  # of the silent states that give the systems of a batch one order


def single_systems(ssm: DiagonalSSM) -> list[DiagonalSSM]:
    """The systems of a batch, row-major, as host arrays."""
    count = ssm.systems

    def flat(value: object) -> np.ndarray:
        value = to_numpy(value)
        return value.reshape(count, *value.shape[len(ssm.batch) :])

    Lambda, B, C, D = (flat(a) for a in (ssm.Lambda, ssm.B, ssm.C, ssm.D))
    reverse = [None] * count if ssm.C_reverse is None else flat(ssm.C_reverse)
    return [DiagonalSSM(*one, ssm.conj_sym) for one in zip(Lambda, B, C, D, reverse, strict=True)]


def stable_part(ssm: DiagonalSSM) -> DiagonalSSM:
    """A single system without its unstable states."""
    apart = unstable_states(ssm)
    return take_states(ssm, np.setdiff1d(np.arange(ssm.order), apart)) if apart.size else ssm


def joined(first: DiagonalSSM, second: DiagonalSSM) -> DiagonalSSM:
    """States of both, the feedthrough of the first."""
    reverse = None
    if first.C_reverse is not None and second.C_reverse is not None:
        reverse = np.concatenate([first.C_reverse, second.C_reverse], axis=-1)
    return replace(
        first,
        Lambda=np.concatenate([first.Lambda, second.Lambda], axis=-1),
        B=np.concatenate([first.B, second.B], axis=-2),
        C=np.concatenate([first.C, second.C], axis=-1),
        C_reverse=reverse,
    )


def difference(ssm: DiagonalSSM, reduced: DiagonalSSM) -> DiagonalSSM:
    """The error system with all states of both."""
    reverse = None if reduced.C_reverse is None else -reduced.C_reverse
    error = joined(ssm, replace(reduced, C=-reduced.C, C_reverse=reverse))
    return replace(error, D=ssm.D - reduced.D)


def batched(systems: list[DiagonalSSM], like: DiagonalSSM) -> DiagonalSSM:
    """One batch of single systems, filled up with silent states to one order."""
    if not like.batch:
        return systems[0]
    if not systems:
        return take_states(like, np.arange(0))
    order = max(ssm.order for ssm in systems)
    systems = [joined(ssm, _silent(ssm, order - ssm.order)) for ssm in systems]

    def stacked(name: str) -> np.ndarray:
        arrays = np.stack([getattr(ssm, name) for ssm in systems])
        return arrays.reshape(*like.batch, *arrays.shape[1:])

    reverse = stacked("C_reverse") if like.bidirectional else None
    return DiagonalSSM(stacked("Lambda"), stacked("B"), stacked("C"), stacked("D"), reverse, like.conj_sym)


def _silent(ssm: DiagonalSSM, count: int) -> DiagonalSSM:
    outputs = np.zeros((ssm.outputs, count))
    reverse = outputs if ssm.bidirectional else None
    poles = np.full(count, _PADDING_POLE)
    return DiagonalSSM(poles, np.zeros((count, ssm.inputs)), outputs, ssm.D, reverse, ssm.conj_sym)
