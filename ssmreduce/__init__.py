"""Model reduction of deep state-space models: every S4D, S5 or LRU layer seen as a discrete LTI system."""

from . import adapters, errors, plot
from .certificates import Certificate, certify, error_system
from .conversions import from_control, from_dlti, from_state_space, to_control, to_dlti, to_state_space
from .discretize import bilinear, inverse_bilinear, inverse_zoh, zoh
from .loading import load, read, save
from .model import SSMModel, export, replace_system
from .norms import h2_norm, modal_h2_norms, modal_hinf_norms
from .reduction import (
    Reduction,
    balanced_truncation,
    compensate,
    compensated_truncation,
    exchange,
    greedy_elimination,
    h2_approximation,
    hankel_approximation,
    hankel_orders,
    modal_truncation,
    prune,
    prune_unstructured,
    reduce,
    singular_perturbation,
)
from .report import Comparison, Inspection, compare, inspect
from .responses import Chunk, frequency_response, impulse_response, simulate, simulate_chunk
from .scores import Scores, h2, h2_reference, hinf, hinf_reference, magnitude, score
from .selection import Selection, select
from .sweep import Sweep, sweep
from .systems import DiagonalSSM, StateSpace, unstable_states
from .trees import flatten, unflatten

__version__ = "0.1.0"

__all__ = [
    "Certificate",
    "Chunk",
    "Comparison",
    "DiagonalSSM",
    "Inspection",
    "Reduction",
    "SSMModel",
    "Scores",
    "Selection",
    "StateSpace",
    "Sweep",
    "adapters",
    "balanced_truncation",
    "bilinear",
    "certify",
    "compare",
    "compensate",
    "compensated_truncation",
    "error_system",
    "errors",
    "exchange",
    "export",
    "flatten",
    "frequency_response",
    "from_control",
    "from_dlti",
    "from_state_space",
    "greedy_elimination",
    "h2",
    "h2_approximation",
    "h2_norm",
    "h2_reference",
    "hankel_approximation",
    "hankel_orders",
    "hinf",
    "hinf_reference",
    "impulse_response",
    "inspect",
    "inverse_bilinear",
    "inverse_zoh",
    "load",
    "magnitude",
    "modal_h2_norms",
    "modal_hinf_norms",
    "modal_truncation",
    "plot",
    "prune",
    "prune_unstructured",
    "read",
    "reduce",
    "replace_system",
    "save",
    "score",
    "select",
    "simulate",
    "simulate_chunk",
    "singular_perturbation",
    "sweep",
    "to_control",
    "to_dlti",
    "to_state_space",
    "unflatten",
    "unstable_states",
    "zoh",
]
