"""How much the output of a whole network minds the error of each of its layers, by finite differences."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._support.arguments import require_batches, require_callable
from ..._support.arrays import to_numpy
from ...calibration import Calibration
from ...errors import NonFiniteError
from ...models import SSMModel
from ...selection import prune, select
from ._elimination import LayerPath, elimination_path, elimination_scores
from ._refit import refit
from ._sequential import LayerInputs, recalibrate

Outputs = Callable[[SSMModel, Any], np.ndarray]
"""From a model and a batch to what the whole network returns: an array of any shape."""


def output_sensitivity(
    model: SSMModel,
    calibration: Calibration,
    batches: Sequence[Any],
    layer_inputs: LayerInputs,
    outputs: Outputs,
    *,
    ratio: float,
    scope: str = "layer",
    feedthrough: bool = False,
) -> dict[str, float]:
    r"""Squared error of a network's output for a squared error of 1 at the output of each layer.

    One layer at a time loses the states that `eliminate` would take from it at this ratio; the layers after it are
    fitted anew on what they now get (`recalibrate`), so that an error that they can undo does not count, and the
    outputs :math:`z` of the network are compared,

    .. math:: s_l = \sum \|z - \hat z_l\|^2 \,/\, \sum_k \|y_k - \hat y_{l,k}\|^2 .

    Parameters
    ----------
    model : SSMModel
    calibration : Calibration
        Of this model, every layer.
    batches : sequence
        Unlabelled data, each batch whatever `layer_inputs` and `outputs` take.
    layer_inputs : callable
        As in `recalibrate`.
    outputs : callable
        ``outputs(model, batch)`` runs the whole network with the systems of `model` and returns its output.
    ratio : float
        Share of all states to drop, in [0, 1).
    scope, feedthrough
        As in `eliminate`.

    Returns
    -------
    dict
        Layer name -> float, for the argument `sensitivity` of `eliminate`. The data of `calibration` and `batches`
        should be the same.

    Raises
    ------
    ArgumentError, UnknownLayerError, ShapeError, SelectionError
        As in `eliminate` and `recalibrate`; `outputs` that is no function.
    NonFiniteError
        Outputs that are not finite.

    Notes
    -----
    Costs half as much as one `recalibrate` a layer.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> from networks import layer_inputs, s5_digits
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> x = np.random.default_rng(0).random((4, 64, 1))
    >>> inputs = lambda model, batch: layer_inputs(s5_digits, model, batch)
    >>> calibration = sr.calibrate(model, inputs(model, x))
    >>> sensitivity = output_sensitivity(model, calibration, [x], inputs, s5_digits, ratio=0.9)
    >>> sr.eliminate(model, calibration, ratio=0.9, sensitivity=sensitivity).orders.keys() == sensitivity.keys()
    True
    """
    require_batches(batches)
    require_callable(outputs, "outputs", "a function of (model, batch) is needed: the output of the whole network")
    path = elimination_path(model, calibration, feedthrough=feedthrough)
    scores = elimination_scores(path, scope=scope)
    orders = select(scores, ratio=ratio, scope=scope).orders
    reference = [_finite(outputs(model, batch)) for batch in batches]
    result = {}
    for i, (name, full) in enumerate(model.orders.items()):
        systems = len(path[name].order)
        alone = {**model.orders, name: max(systems, min(orders[name], full - systems))}  # at least one state leaves
        selection = select(scores, orders=alone, scope=scope)
        small = prune(model, selection)
        small = refit(small, calibration, layers=[name], feedthrough=feedthrough, reference=model)
        later = tuple(model)[i + 1 :]
        small = recalibrate(model, small, batches, layer_inputs, layers=later, feedthrough=feedthrough)
        change = sum(
            float(np.sum((_finite(outputs(small, batch)) - z) ** 2))
            for batch, z in zip(batches, reference, strict=True)
        )
        error = _cost(path[name], selection.keep[name])
        result[name] = change / error if error > 0 else 0.0
    return result


def _cost(layer: LayerPath, keep: np.ndarray) -> float:
    """Squared error of a layer without the states that are not in `keep`, flat indices."""
    left = np.zeros(layer.order.shape, dtype=bool)
    left.ravel()[keep] = True
    return float(layer.cost[~np.take_along_axis(left, layer.order, axis=1)].sum())


def _finite(outputs: Any) -> np.ndarray:
    z = to_numpy(outputs).astype(np.float64)
    if not np.isfinite(z).all():
        raise NonFiniteError("the network's outputs contain NaN or infinity; compare finite ones, such as logits")
    return z
