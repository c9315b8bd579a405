"""Which states leave as the ratio grows: what `select` keeps at each position of the slider."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import SelectionError
from ..models import SSMModel
from ..selection import EliminationPath, Scores, elimination_scores, score, select

RATIOS = tuple(i / 20 for i in range(20))
METHODS = {"LAST": "last", "AIRE": "aire", "LAMP": "lamp"}
CALIBRATED = "calibrated"


@dataclass(frozen=True)
class Leaving:
    """The states of a model under one method.

    Attributes
    ----------
    steps : mapping
        Layer name -> at how many of the ratios each state stays, int64, shape (n,): it leaves at that position.
    counts : mapping
        Layer name -> states that stay at each ratio.
    """

    steps: Mapping[str, np.ndarray]
    counts: Mapping[str, list[int]]


def leaving_by_method(model: SSMModel, path: EliminationPath | None) -> dict[str, Leaving]:
    """Label -> what leaves when; nothing where the model cannot be scored, having been pruned to ragged layers."""
    try:
        scores = {label: score(model, method) for label, method in METHODS.items()}
    except SelectionError:
        return {}
    if path is not None:
        scores[CALIBRATED] = elimination_scores(path)
    return {label: _leaving(values) for label, values in scores.items()}


def _leaving(scores: Scores) -> Leaving:
    steps = {name: np.zeros(values.size, dtype=np.int64) for name, values in scores.items()}
    counts: dict[str, list[int]] = {name: [] for name in scores}
    for ratio in RATIOS:
        try:
            selection = select(scores, ratio=ratio)
        except SelectionError:  # every layer keeps a state: the largest ratios may be out of reach
            break
        for name, indices in selection.keep.items():
            # The kept sets of these methods are nested, so that a count says which ratios keep a state.
            steps[name][indices] += 1
            counts[name].append(int(indices.size))
    return Leaving(steps, counts)
