"""Ways to make a model smaller, one method a file."""

from ._base import Reduction
from .allocation import hankel_orders
from .balanced import balanced_truncation
from .modal import prune
from .registry import METHODS, reduce
from .unstructured import prune_unstructured

__all__ = ["METHODS", "Reduction", "balanced_truncation", "hankel_orders", "prune", "prune_unstructured", "reduce"]
