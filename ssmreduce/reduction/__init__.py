"""Ways to make a model smaller, one method a file."""

from ._base import Reduction
from .allocation import hankel_orders
from .balanced import balanced_truncation
from .compensated import compensate, compensated_truncation
from .greedy import greedy_elimination
from .modal import modal_truncation, prune
from .registry import METHODS, reduce
from .unstructured import prune_unstructured

__all__ = [
    "METHODS",
    "Reduction",
    "balanced_truncation",
    "compensate",
    "compensated_truncation",
    "greedy_elimination",
    "hankel_orders",
    "modal_truncation",
    "prune",
    "prune_unstructured",
    "reduce",
]
