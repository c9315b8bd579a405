"""What a model looks like, and what a reduction cost."""

from ._certificates import Certificate, certify
from ._compare import Comparison, compare
from ._report import Inspection, inspect
from ._sweep import Sweep, SweepRow, sweep
from ._verify import Alternative, Verification, verify

__all__ = [
    "Alternative",
    "Certificate",
    "Comparison",
    "Inspection",
    "Sweep",
    "SweepRow",
    "Verification",
    "certify",
    "compare",
    "inspect",
    "sweep",
    "verify",
]
