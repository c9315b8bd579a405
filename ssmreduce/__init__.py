"""Model reduction of deep state-space models: every S4D, S5 or LRU layer seen as a discrete LTI system."""

from . import (
    adapters,
    calibration,
    errors,
    evaluation,
    models,
    networks,
    norms,
    plot,
    realization,
    reduction,
    reporting,
    responses,
    selection,
    systems,
)
from .calibration import calibrate
from .evaluation import certify, compare, inspect, sweep, verify
from .models import SSMModel, export, load, read, save
from .networks import export_c, network, replace_layers
from .norms import h2_norm, hankel_norm, hankel_singular_values, hinf_norm, peak_gain
from .realization import realize
from .reduction import compress, eliminate, reduce, refit, search
from .reporting import report
from .responses import frequency_response, impulse_response, scan, simulate
from .selection import prune, score, select
from .systems import DiagonalSSM, StateSpace

__version__ = "0.1.0"

__all__ = [
    "DiagonalSSM",
    "SSMModel",
    "StateSpace",
    "adapters",
    "calibrate",
    "calibration",
    "certify",
    "compare",
    "compress",
    "eliminate",
    "errors",
    "evaluation",
    "export",
    "export_c",
    "frequency_response",
    "h2_norm",
    "hankel_norm",
    "hankel_singular_values",
    "hinf_norm",
    "impulse_response",
    "inspect",
    "load",
    "models",
    "network",
    "networks",
    "norms",
    "peak_gain",
    "plot",
    "prune",
    "read",
    "realization",
    "realize",
    "reduce",
    "reduction",
    "refit",
    "replace_layers",
    "report",
    "reporting",
    "responses",
    "save",
    "scan",
    "score",
    "search",
    "select",
    "selection",
    "simulate",
    "sweep",
    "systems",
    "verify",
]
