"""Selective state-space layers (Mamba-1, Mamba-2): what one layer does, and how it is reduced from moments of data."""

from ._forward import LayerState, initial_state, run, simulate, step
from ._layers import Mamba1SSM, Mamba2SSM, SelectiveSSM, random_layer
from ._moments import SelectiveMoments, relative_error, selective_moments
from ._reduce import method_steps, reduce_selective
from ._refine import Refined, refine
from ._rotation import alternate, balanced_values, rotate
from ._scores import highest, selective_scores
from ._states import absorb, silence_states, take_states
from ._surgeon import surgeon

__all__ = [
    "LayerState",
    "Mamba1SSM",
    "Mamba2SSM",
    "Refined",
    "SelectiveMoments",
    "SelectiveSSM",
    "absorb",
    "alternate",
    "balanced_values",
    "highest",
    "initial_state",
    "method_steps",
    "random_layer",
    "reduce_selective",
    "refine",
    "relative_error",
    "rotate",
    "run",
    "selective_moments",
    "selective_scores",
    "silence_states",
    "simulate",
    "step",
    "surgeon",
    "take_states",
]
