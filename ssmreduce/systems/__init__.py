"""The types of systems, their discretisations, conversions and transformations."""

from ._conversions import from_control, from_dlti, from_state_space, to_control, to_dlti, to_state_space
from ._discretize import bilinear, inverse_bilinear, inverse_zoh, zoh
from ._error import error_system
from ._states import System
from ._systems import DiagonalSSM, StateSpace, conjugate_closed, unstable_states

__all__ = [
    "DiagonalSSM",
    "StateSpace",
    "System",
    "bilinear",
    "conjugate_closed",
    "error_system",
    "from_control",
    "from_dlti",
    "from_state_space",
    "inverse_bilinear",
    "inverse_zoh",
    "to_control",
    "to_dlti",
    "to_state_space",
    "unstable_states",
    "zoh",
]
