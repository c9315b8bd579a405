"""Modal truncation: states leave, the others stay as they are."""

import numpy as np

from ...selection import hinf
from ...selection._scores import Criterion
from ...systems import DiagonalSSM
from ...systems._states import take_states
from ._base import Part, Reduction, reduce_each


def modal_truncation(ssm: DiagonalSSM, order: int, *, criterion: Criterion = hinf) -> Reduction:
    """Modal truncation of one layer: the states with the largest criterion stay, bit for bit.

    Parameters
    ----------
    ssm : DiagonalSSM
        Batch axes allowed. Unstable states are kept, and count towards the order.
    order : int
        Stored states of each system that are left.
    criterion : callable
        From a system to one value a state; by default that of LAST.

    Returns
    -------
    Reduction

    Raises
    ------
    SelectionError
        An order outside 0 ... n.

    Notes
    -----
    When to use it: as the baseline, and where nothing but whole states may change. `compensated_truncation` keeps the
    same poles and is closer. Over the layers of a model, `score`, `select` and `prune` do the same.

    Examples
    --------
    >>> modal_truncation(DiagonalSSM([0.9, 0.8], [[1.0], [1.0]], [[1.0, 0.2]], [[0.0]]), 1).ssm.Lambda
    array([0.9+0.j])
    """

    def method(one: DiagonalSSM, k: int) -> Part:
        return Part(take_states(one, strongest(criterion(one), k)))

    return reduce_each(ssm, order, method, "modal")


def strongest(values: np.ndarray, count: int) -> np.ndarray:
    """Increasing indices of the largest values, the first ones of equal values."""
    return np.sort(np.argsort(-np.asarray(values), kind="stable")[:count])
