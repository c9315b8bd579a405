"""Ways to make a model smaller, one method a file."""

from ._base import Reduction
from .allocation import hankel_orders
from .balanced import balanced_truncation
from .compensated import compensate, compensated_truncation
from .exchange import exchange
from .greedy import greedy_elimination
from .h2_optimal import h2_approximation
from .hankel_optimal import hankel_approximation
from .modal import modal_truncation, prune
from .perturbation import singular_perturbation
from .registry import METHODS, reduce
from .unstructured import prune_unstructured

__all__ = [
    "METHODS",
    "Reduction",
    "balanced_truncation",
    "compensate",
    "compensated_truncation",
    "exchange",
    "greedy_elimination",
    "h2_approximation",
    "hankel_approximation",
    "hankel_orders",
    "modal_truncation",
    "prune",
    "prune_unstructured",
    "reduce",
    "singular_perturbation",
]
