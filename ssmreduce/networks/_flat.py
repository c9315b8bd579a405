"""The real parameters of drop-in layers, which their adapter reads too."""

from ..adapters._flat import (
    Parts,
    Structure,
    feedthrough,
    flatten_states,
    is_diagonal,
    padded_system,
    real_parameters,
    system_of,
)

__all__ = [
    "Parts",
    "Structure",
    "feedthrough",
    "flatten_states",
    "is_diagonal",
    "padded_system",
    "real_parameters",
    "system_of",
]
