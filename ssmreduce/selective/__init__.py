"""Selective state-space layers (Mamba-1, Mamba-2): what one layer does, and how it is reduced from moments of data."""

from ._forward import LayerState, initial_state, run, simulate, step
from ._layers import Mamba1SSM, Mamba2SSM, SelectiveSSM, absorb, random_layer, silence_states, take_states

__all__ = [
    "LayerState",
    "Mamba1SSM",
    "Mamba2SSM",
    "SelectiveSSM",
    "absorb",
    "initial_state",
    "random_layer",
    "run",
    "silence_states",
    "simulate",
    "step",
    "take_states",
]
