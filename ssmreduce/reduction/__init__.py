"""Ways to make a model smaller, one method a file."""

from .calibrated_balanced import balance_calibrated
from .elimination import (
    EliminationPath,
    LayerPath,
    eliminate,
    elimination_path,
    elimination_scores,
)
from .modal import prune
from .refit import refit
from .sequential import recalibrate
from .unstructured import prune_unstructured

__all__ = [
    "EliminationPath",
    "LayerPath",
    "balance_calibrated",
    "eliminate",
    "elimination_path",
    "elimination_scores",
    "prune",
    "prune_unstructured",
    "recalibrate",
    "refit",
]
