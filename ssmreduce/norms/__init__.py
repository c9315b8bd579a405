"""Norms of states, of pairs and of systems: H2, H-infinity, Hankel, Gramians, finite horizons."""

from ._finite_horizon import GainBounds, finite_horizon_gain, peak_to_peak_bounds
from ._gramians import cauchy_factor, controllability_gramian, observability_gramian
from ._hankel import hankel_norm, hankel_singular_values
from ._norms import h2_norm, modal_h2_norms, modal_hinf_norms
from ._pair_norms import pair_hinf_norms
from .peak import PeakGain, hinf_norm, peak_gain

__all__ = [
    "GainBounds",
    "PeakGain",
    "cauchy_factor",
    "controllability_gramian",
    "finite_horizon_gain",
    "h2_norm",
    "hankel_norm",
    "hankel_singular_values",
    "hinf_norm",
    "modal_h2_norms",
    "modal_hinf_norms",
    "observability_gramian",
    "pair_hinf_norms",
    "peak_gain",
    "peak_to_peak_bounds",
]
