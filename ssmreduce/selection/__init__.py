"""Scores of states, the states that stay, and pruning."""

from ._calibrated import EliminationPath, LayerPath, elimination_path, elimination_scores
from ._prune import prune
from ._score import score
from ._scores import Scores, finite_horizon_h2, h2, h2_reference, hinf, hinf_reference, magnitude, pair_hinf
from ._select import Selection, select
from ._unstructured import prune_unstructured

__all__ = [
    "EliminationPath",
    "LayerPath",
    "Scores",
    "Selection",
    "elimination_path",
    "elimination_scores",
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
