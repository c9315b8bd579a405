"""Fewer states: other realisations of each system, or states that leave by their cost on data."""

from ._orders import hankel_orders
from ._reduce import METHODS, reduce
from .calibrated import (
    Search,
    SearchPoint,
    compress,
    eliminate,
    output_sensitivity,
    refit,
    refit_network,
    search,
    search_model,
    search_network,
)
from .methods import (
    Reduction,
    balanced_truncation,
    compensated_truncation,
    exchange,
    greedy_elimination,
    h2_approximation,
    hankel_approximation,
    modal_truncation,
    singular_perturbation,
)

__all__ = [
    "METHODS",
    "Reduction",
    "Search",
    "SearchPoint",
    "balanced_truncation",
    "compensated_truncation",
    "compress",
    "eliminate",
    "exchange",
    "greedy_elimination",
    "h2_approximation",
    "hankel_approximation",
    "hankel_orders",
    "modal_truncation",
    "output_sensitivity",
    "reduce",
    "refit",
    "refit_network",
    "search",
    "search_model",
    "search_network",
    "singular_perturbation",
]
