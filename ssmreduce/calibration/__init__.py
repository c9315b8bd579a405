"""Second moments of states and inputs: what calibrated elimination works from.

`calibrate` sums them on data, `stationary_moments` computes them for a stationary input without data, and the capture
helpers run a live network and hand out what goes into its state-space layers.
"""

from ._accumulate import calibrate
from ._files import load_calibration, save_calibration
from ._moments import Calibration, Moments
from ._stationary import calibrate_stationary

__all__ = [
    "Calibration",
    "Moments",
    "calibrate",
    "calibrate_stationary",
    "load_calibration",
    "save_calibration",
]
