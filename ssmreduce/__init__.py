"""Model reduction of deep state-space models: every S4D, S5 or LRU layer seen as a discrete LTI system."""

from . import adapters, errors, plot
from .calibration import (
    Calibration,
    Moments,
    calibrate,
    calibrate_stationary,
    flax_inputs,
    load_calibration,
    save_calibration,
    torch_inputs,
)
from .certificates import Certificate, certify, error_system
from .conversions import from_control, from_dlti, from_state_space, to_control, to_dlti, to_state_space
from .discretize import bilinear, inverse_bilinear, inverse_zoh, zoh
from .finite_horizon import GainBounds, finite_horizon_gain, peak_to_peak_bounds
from .gramians import cauchy_factor, controllability_gramian, observability_gramian
from .hankel import hankel_norm, hankel_singular_values
from .loading import load, read, save
from .model import SSMModel, export, replace_system
from .norms import h2_norm, modal_h2_norms, modal_hinf_norms
from .pair_norms import pair_hinf_norms
from .peak_gain import PeakGain, hinf_norm, peak_gain
from .reduction import (
    EliminationPath,
    LayerPath,
    Reduction,
    balance_calibrated,
    balanced_truncation,
    compensate,
    compensated_truncation,
    compress,
    eliminate,
    elimination_path,
    elimination_scores,
    exchange,
    greedy_elimination,
    h2_approximation,
    hankel_approximation,
    hankel_orders,
    modal_truncation,
    output_sensitivity,
    prune,
    prune_unstructured,
    recalibrate,
    reduce,
    refit,
    singular_perturbation,
)
from .report import Comparison, Inspection, compare, inspect
from .responses import Chunk, frequency_response, impulse_response, simulate, simulate_chunk
from .scan import scan
from .scores import Scores, h2, h2_reference, hinf, hinf_reference, magnitude, pair_hinf, score
from .search import Search, SearchPoint, search
from .selection import Selection, select
from .sweep import Sweep, sweep
from .systems import DiagonalSSM, StateSpace, conjugate_closed, unstable_states
from .trees import flatten, unflatten

__version__ = "0.1.0"

__all__ = [
    "Calibration",
    "Certificate",
    "Chunk",
    "Comparison",
    "DiagonalSSM",
    "EliminationPath",
    "GainBounds",
    "Inspection",
    "LayerPath",
    "Moments",
    "PeakGain",
    "Reduction",
    "SSMModel",
    "Scores",
    "Search",
    "SearchPoint",
    "Selection",
    "StateSpace",
    "Sweep",
    "adapters",
    "balance_calibrated",
    "balanced_truncation",
    "bilinear",
    "calibrate",
    "calibrate_stationary",
    "cauchy_factor",
    "certify",
    "compare",
    "compensate",
    "compensated_truncation",
    "compress",
    "conjugate_closed",
    "controllability_gramian",
    "eliminate",
    "elimination_path",
    "elimination_scores",
    "error_system",
    "errors",
    "exchange",
    "export",
    "finite_horizon_gain",
    "flatten",
    "flax_inputs",
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
    "hankel_norm",
    "hankel_orders",
    "hankel_singular_values",
    "hinf",
    "hinf_norm",
    "hinf_reference",
    "impulse_response",
    "inspect",
    "inverse_bilinear",
    "inverse_zoh",
    "load",
    "load_calibration",
    "magnitude",
    "modal_h2_norms",
    "modal_hinf_norms",
    "modal_truncation",
    "observability_gramian",
    "output_sensitivity",
    "pair_hinf",
    "pair_hinf_norms",
    "peak_gain",
    "peak_to_peak_bounds",
    "plot",
    "prune",
    "prune_unstructured",
    "read",
    "recalibrate",
    "reduce",
    "refit",
    "replace_system",
    "save",
    "save_calibration",
    "scan",
    "score",
    "search",
    "select",
    "simulate",
    "simulate_chunk",
    "singular_perturbation",
    "sweep",
    "to_control",
    "to_dlti",
    "to_state_space",
    "torch_inputs",
    "unflatten",
    "unstable_states",
    "zoh",
]
