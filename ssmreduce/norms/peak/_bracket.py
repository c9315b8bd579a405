"""The result of a peak gain: a proven bracket."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class PeakGain:
    """A proven bracket of the peak gain; arrays of the shape of the batch for a batch of systems.

    Attributes
    ----------
    gain : float
        Gain reached at `omega`: the peak gain, up to ``upper / gain - 1`` at most. A proven lower bound (of a
        `StateSpace` up to the rounding of its response).
    omega : float
        Where it is reached, rad/sample in [0, pi].
    upper : float
        Upper bound, proven unless the method is ``"level-set"``.
    samples : int
        Frequency samples taken.
    method : str
        ``"exclusion"``; or ``"level-set"``, whose `upper` holds up to the rounding of an eigenvalue solver, unproven.
    """

    gain: Any
    omega: Any
    upper: Any
    samples: Any
    method: str = "exclusion"
