"""What a model looks like, and what a reduction cost."""

from ._certificates import Certificate, certify
from ._compare import Comparison, compare
from ._report import Inspection, inspect
from ._sweep import Sweep, SweepRow, sweep

__all__ = [
    "Certificate",
    "Comparison",
    "Inspection",
    "Sweep",
    "SweepRow",
    "certify",
    "compare",
    "inspect",
    "sweep",
]
