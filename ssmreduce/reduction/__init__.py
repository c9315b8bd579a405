"""Ways to make a model smaller, one method a file."""

from .modal import prune
from .unstructured import prune_unstructured

__all__ = ["prune", "prune_unstructured"]
