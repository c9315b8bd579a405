"""Live networks around the layers."""

from ._capture import flax_inputs, torch_inputs

__all__ = [
    "flax_inputs",
    "torch_inputs",
]
