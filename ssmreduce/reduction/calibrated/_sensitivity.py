"""How much the output of a whole network minds the error of each of its layers, by finite differences."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..._support.arrays import to_numpy
from ...calibration import Calibration
from ...errors import NonFiniteError
from ...networks import Network, network
from ...selection import LayerPath, elimination_path, elimination_scores, prune, select
from ._network_data import Part, batch_list, recorded
from ._refit import refit
from ._sequential import refit_parts


def output_sensitivity(
    network_: Any,
    calibration: Calibration,
    batches: Iterable[Any],
    *,
    ratio: float,
    scope: str = "layer",
    feedthrough: bool = False,
) -> dict[str, float]:
    r"""Squared error of a network's output for a squared error of 1 at the output of each layer.

    One layer at a time loses the states that `eliminate` would take from it at this ratio; the layers after it are
    fitted anew on what they now get (`refit_network`), so that an error that they can undo does not count, and the
    outputs :math:`z` of the network are compared,

    .. math:: s_l = \sum \|z - \hat z_l\|^2 \,/\, \sum_k \|y_k - \hat y_{l,k}\|^2 .

    Parameters
    ----------
    network_ : Network, or what `network` takes
        The original.
    calibration : Calibration
        Of its model, every layer.
    batches : iterable
        Unlabelled data, each batch whatever the network takes.
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
        As in `eliminate` and `refit_network`.
    NonFiniteError
        Outputs that are not finite.

    Notes
    -----
    Costs half as much as one `refit_network` per layer.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> net = sr.network(sr.networks.s5_digits, model=sr.models.example())
    >>> x = np.random.default_rng(0).random((4, 64, 1))
    >>> calibration = sr.calibrate(net.model, net.layer_inputs(net.model, x))
    >>> sensitivity = output_sensitivity(net, calibration, [x], ratio=0.9)
    >>> sr.eliminate(net.model, calibration, ratio=0.9, sensitivity=sensitivity).orders.keys() == sensitivity.keys()
    True
    """
    net = network(network_)
    parts = recorded(net, batch_list(batches))
    return sensitivity_of_parts(net, calibration, parts, ratio=ratio, scope=scope, feedthrough=feedthrough)


def sensitivity_of_parts(
    net: Network,
    calibration: Calibration,
    parts: Sequence[Part],
    *,
    ratio: float,
    scope: str = "layer",
    feedthrough: bool = False,
) -> dict[str, float]:
    """`output_sensitivity` on batches of which the original's outputs and layer inputs are known."""
    model = net.model
    path = elimination_path(model, calibration, feedthrough=feedthrough)
    scores = elimination_scores(path, scope=scope)
    orders = select(scores, ratio=ratio, scope=scope).orders
    result = {}
    for i, (name, full) in enumerate(model.orders.items()):
        systems = len(path[name].order)
        alone = {**model.orders, name: max(systems, min(orders[name], full - systems))}  # at least one state leaves
        selection = select(scores, orders=alone, scope=scope)
        small = prune(model, selection)
        small = refit(small, calibration=calibration, layers=[name], feedthrough=feedthrough, reference=model)
        later = tuple(model)[i + 1 :]
        small = refit_parts(net, small, parts, layers=later, feedthrough=feedthrough)
        change = sum(float(np.sum((_finite(net.outputs(small, part.batch)) - part.outputs) ** 2)) for part in parts)
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
