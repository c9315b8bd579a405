"""The largest peak that two samples allow between them, by phase exclusion: see the theory page "Peak gain"."""

import math

from ..._support.compiled import compiled
from ._sample import UNIT

UNBOUNDED = 1e280  # priorities above this one stand for intervals without a bound yet


@compiled
def interval_bound(a: float, b: float, width: float) -> float:
    """Largest peak that the samples a and b allow between them, `width` (rad) apart in phase.

    The peak g lies at x with g cos(x / 2) <= a and g cos((width - x) / 2) <= b.
    """
    if width >= 2.0 * math.pi:
        return UNBOUNDED * width
    c = math.cos(0.5 * width)
    if b <= a * c or a <= b * c:
        return max(a, b)
    s = math.sin(0.25 * width)
    return math.sqrt((a - b) ** 2 + 4.0 * a * b * s * s) / math.sin(0.5 * width) * (1.0 + 16.0 * UNIT)


@compiled
def target(a: float, b: float, width: float, bound: float) -> float:
    """Share of the interval at which the bound would be attained."""
    if bound >= UNBOUNDED or bound <= max(a, b):
        return 0.5
    share = 2.0 * math.acos(min(1.0, a / bound)) / width
    return min(0.9, max(0.1, share))


@compiled
def place(share: float, angle: float, width: float, slope_a: float, slope_b: float) -> float:
    """Angle at which the phase has made `share` of its way: monotone rational interpolation (Gregory, Delbourgo)."""
    s, t = angle / width, share * (1.0 - share)
    d0, d1 = 1.0 / slope_a, 1.0 / slope_b
    return angle * (s * share * share + d0 * t) / (s + (d0 + d1 - 2.0 * s) * t)
