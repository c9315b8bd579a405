"""Ways to make a model smaller, one method a file."""

from ._base import Reduction
from .allocation import hankel_orders
from .balanced import balanced_truncation
from .calibrated_balanced import balance_calibrated
from .compensated import compensate, compensated_truncation
from .compress import compress
from .elimination import EliminationPath, LayerPath, eliminate, elimination_path, elimination_scores
from .exchange import exchange
from .greedy import greedy_elimination
from .h2_optimal import h2_approximation
from .hankel_optimal import hankel_approximation
from .modal import modal_truncation, prune
from .perturbation import singular_perturbation
from .refit import refit
from .registry import METHODS, reduce
from .sensitivity import output_sensitivity
from .sequential import recalibrate
from .unstructured import prune_unstructured

__all__ = [
    "METHODS",
    "EliminationPath",
    "LayerPath",
    "Reduction",
    "balance_calibrated",
    "balanced_truncation",
    "compensate",
    "compensated_truncation",
    "compress",
    "eliminate",
    "elimination_path",
    "elimination_scores",
    "exchange",
    "greedy_elimination",
    "h2_approximation",
    "hankel_approximation",
    "hankel_orders",
    "modal_truncation",
    "output_sensitivity",
    "prune",
    "prune_unstructured",
    "recalibrate",
    "reduce",
    "refit",
    "singular_perturbation",
]
