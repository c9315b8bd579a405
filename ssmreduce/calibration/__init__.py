"""Second moments of states and inputs: what calibrated elimination works from.

`calibrate` sums them on data, `stationary_moments` computes them for a stationary input without data, and the capture
helpers run a live network and hand out what goes into its state-space layers.
"""

from ..networks import flax_inputs, torch_inputs
from ._accumulate import calibrate, layer_moments
from ._files import load_calibration, save_calibration
from ._inputs import sequences
from ._moments import CALIBRATION_ADVICE, Calibration, Moments
from ._stationary import calibrate_stationary

__all__ = [
    "CALIBRATION_ADVICE",
    "Calibration",
    "Moments",
    "calibrate",
    "calibrate_stationary",
    "flax_inputs",
    "layer_moments",
    "load_calibration",
    "save_calibration",
    "sequences",
    "torch_inputs",
]
