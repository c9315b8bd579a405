"""Calibrated elimination: states leave one by one at the least exact cost, and C is refitted in closed form."""

from collections.abc import Mapping

from ...calibration import Calibration
from ...models import SSMModel
from ...selection import elimination_path, elimination_scores, prune, select
from ...selection._outputs import RIDGE
from ._refit import refit


def eliminate(
    model: SSMModel,
    calibration: Calibration,
    *,
    ratio: float | None = None,
    count: int | None = None,
    orders: Mapping[str, int] | None = None,
    min_states: int = 1,
    scope: str = "layer",
    sensitivity: Mapping[str, float] | None = None,
    ridge: float = RIDGE,
    feedthrough: bool = False,
) -> SSMModel:
    """Calibrated elimination: drop the states that the data miss least, and fit the outputs of the others anew.

    `elimination_path`, `elimination_scores`, `select`, `prune` and `refit` in one call. Exactly one of `ratio`, `count`
    and `orders` is given.

    Parameters
    ----------
    model : SSMModel
    calibration : Calibration
        Of this model, every layer: `calibrate` on unlabelled data, or `calibrate_stationary` without.
    ratio : float, optional
        Share of all states to drop, in [0, 1).
    count : int, optional
        Number of states of the whole model that stay.
    orders : mapping, optional
        Number of states that stay, for every layer.
    min_states : int, default 1
        Every layer keeps at least this many.
    scope : {"layer", "system"}
        ``system``: the features of S4D keep the same number each, so that compact arrays hold them.
    sensitivity
        As in `elimination_scores`.
    ridge, feedthrough
        As in `elimination_path` and `refit`.

    Returns
    -------
    SSMModel
        Poles and B of the states that stay are as they were, bit for bit.

    Raises
    ------
    ArgumentError
        No model, or no calibration.
    UnknownLayerError, ShapeError
        A calibration of another model, or without one of its layers.
    SelectionError
        As in `select`, or a ridge below 1e-14.
    NotRepresentableError
        Outputs that the model family cannot hold.

    Examples
    --------
    >>> import numpy as np
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> u = np.random.default_rng(0).standard_normal((10, 64, 32))
    >>> small = eliminate(model, sr.calibrate(model, dict.fromkeys(model, u)), ratio=0.8)
    >>> sum(small.orders.values())
    51
    """
    path = elimination_path(model, calibration, ridge=ridge, feedthrough=feedthrough)
    scores = elimination_scores(path, scope=scope, sensitivity=sensitivity)
    selection = select(scores, ratio=ratio, count=count, orders=orders, min_states=min_states, scope=scope)
    return refit(
        prune(model, selection), calibration=calibration, ridge=ridge, feedthrough=feedthrough, reference=model
    )
