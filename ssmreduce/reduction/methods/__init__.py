"""Reductions of one system at a time."""

from ._balanced import balanced_truncation
from ._base import Reduction
from ._compensated import compensated_truncation
from ._exchange import exchange
from ._greedy import greedy_elimination
from ._h2 import h2_approximation
from ._hankel import hankel_approximation
from ._modal import modal_truncation
from ._perturbation import singular_perturbation

__all__ = [
    "Reduction",
    "balanced_truncation",
    "compensated_truncation",
    "exchange",
    "greedy_elimination",
    "h2_approximation",
    "hankel_approximation",
    "modal_truncation",
    "singular_perturbation",
]
