"""What a model asks of a system: how many states it has, to keep some of them, and to silence others."""

from dataclasses import replace
from functools import singledispatch
from typing import Any, Protocol

import array_api_compat
import numpy as np

from .._support.arguments import described
from .._support.arrays import Array, namespace
from ..errors import ArgumentError
from ._systems import SYSTEM_ADVICE, DiagonalSSM


class System(Protocol):
    """One layer's system, of any kind; `take_states` and `silence_states` must be registered for its type.

    A second kind of system joins models, selections and adapters with these three properties and two functions.
    """

    @property
    def batch(self) -> tuple[int, ...]:
        """Shape of the leading axes: independent systems."""

    @property
    def systems(self) -> int:
        """Number of systems: 1 without leading axes."""

    @property
    def order(self) -> int:
        """Number of stored states of each system."""


@singledispatch
def take_states(system: Any, index: np.ndarray) -> Any:
    """Keep the states at `index`, shape (r,) or, for a batch of systems, (..., r); kept entries are unchanged.

    A kind of system registers itself: see `System`.
    """
    raise ArgumentError(f"system is {described(system)}, whose states cannot be taken")


@singledispatch
def silence_states(system: Any, silent: np.ndarray) -> Any:
    """Set inputs and outputs of the states marked in `silent`, shape (..., n), bool, to zero; the order stays.

    A kind of system registers itself: see `System`.
    """
    raise ArgumentError(f"system is {described(system)}, whose states cannot be silenced")


@silence_states.register
def _(ssm: DiagonalSSM, silent: np.ndarray) -> DiagonalSSM:
    if not silent.any():
        return ssm
    rows, columns = ~silent[..., :, None], ~silent[..., None, :]
    reverse = None if ssm.C_reverse is None else ssm.C_reverse * columns
    return replace(ssm, B=ssm.B * rows, C=ssm.C * columns, C_reverse=reverse)


@take_states.register
def _(ssm: DiagonalSSM, index: np.ndarray) -> DiagonalSSM:
    xp = namespace(ssm.Lambda)
    index = xp.asarray(index, device=array_api_compat.device(ssm.Lambda))
    index = xp.broadcast_to(index, (*ssm.batch, index.shape[-1]))

    def columns(matrix: Array) -> Array:
        shape = (*ssm.batch, ssm.outputs, index.shape[-1])
        return xp.take_along_axis(matrix, xp.broadcast_to(index[..., None, :], shape), axis=-1)

    rows = xp.broadcast_to(index[..., :, None], (*index.shape, ssm.inputs))
    return DiagonalSSM(
        xp.take_along_axis(ssm.Lambda, index, axis=-1),
        xp.take_along_axis(ssm.B, rows, axis=-2),
        columns(ssm.C),
        ssm.D,
        None if ssm.C_reverse is None else columns(ssm.C_reverse),
        ssm.conj_sym,
    )


def require_system(system: Any) -> None:
    """Raise `ArgumentError` unless the value is a system of a kind that is known."""
    if take_states.dispatch(type(system)) is take_states.dispatch(object):
        raise ArgumentError(f"ssm is {described(system)}; {SYSTEM_ADVICE}")
