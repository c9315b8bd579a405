"""Scores of states, the states that stay, and pruning."""

from ._prune import prune
from ._scores import Scores, finite_horizon_h2, h2, h2_reference, hinf, hinf_reference, magnitude, pair_hinf, score
from ._select import Selection, select
from ._unstructured import prune_unstructured

__all__ = [
    "Scores",
    "Selection",
    "finite_horizon_h2",
    "h2",
    "h2_reference",
    "hinf",
    "hinf_reference",
    "magnitude",
    "pair_hinf",
    "prune",
    "prune_unstructured",
    "score",
    "select",
]
