"""Unstructured random pruning: the control of the LAST paper, not a way to make a model smaller."""

from dataclasses import replace

import numpy as np

from .._support.arguments import random_numbers, require_kind, share
from ..errors import SelectionError
from ..models import SSMModel, replace_system
from ..models._model import MODEL_ADVICE
from ..systems import DiagonalSSM


def prune_unstructured(model: SSMModel, *, ratio: float, seed: int = 0) -> SSMModel:
    """Zero a random share of the single entries of B and C of every layer.

    Parameters
    ----------
    model : SSMModel
    ratio : float
        Share of the complex entries of B and C (and C_reverse), in [0, 1), that become zero: floor(ratio * entries) of
        each matrix of each layer.
    seed : int

    Returns
    -------
    SSMModel
        Every state is still there; the poles and D are unchanged.

    Raises
    ------
    SelectionError
        A ratio outside [0, 1).

    Notes
    -----
    The control "unstructured random" of Gwak et al., NeurIPS 2024. Zeroed entries cost as much as others, so nothing
    becomes smaller or faster.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> B = prune_unstructured(model, ratio=0.5)["layers.0.seq"].B
    >>> float((B == 0).mean())
    0.5
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    ratio = share(ratio, "ratio", zero=True, error=SelectionError)
    rng = random_numbers(seed)
    for name, ssm in model.items():
        model = replace_system(model, name, _thinned(ssm, ratio, rng))
    return model


def _thinned(ssm: DiagonalSSM, ratio: float, rng: np.random.Generator) -> DiagonalSSM:
    def thinned(matrix: np.ndarray) -> np.ndarray:
        matrix = matrix.copy()
        gone = rng.permutation(matrix.size)[: int(ratio * matrix.size + 1e-9)]
        matrix.reshape(-1)[gone] = 0
        return matrix

    reverse = None if ssm.C_reverse is None else thinned(ssm.C_reverse)
    return replace(ssm, B=thinned(ssm.B), C=thinned(ssm.C), C_reverse=reverse)
