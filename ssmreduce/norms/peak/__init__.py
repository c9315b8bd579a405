"""The certified peak gain: its methods and its compiled search."""

from ._bracket import PeakGain
from ._peak_gain import hinf_norm, peak_gain

__all__ = [
    "PeakGain",
    "hinf_norm",
    "peak_gain",
]
