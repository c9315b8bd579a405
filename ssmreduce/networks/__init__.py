"""Live networks: the whole thing around the layers, run and rebuilt in the user's own framework."""

from ._capture import flax_inputs, torch_inputs
from ._protocol import NETWORK_ADVICE, Gradients, Network, Pullback, network, register

__all__ = [
    "NETWORK_ADVICE",
    "Gradients",
    "Network",
    "Pullback",
    "flax_inputs",
    "network",
    "register",
    "torch_inputs",
]
