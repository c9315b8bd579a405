"""Calibrated scores: what each state costs on the data when states leave one by one at the least exact cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._support.arguments import require_kind
from .._support.frozen import LayerMapping
from ..calibration import Calibration
from ..calibration._moments import CALIBRATION_ADVICE
from ..errors import SelectionError, UnknownLayerError, UnknownNameError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ._outputs import RIDGE, OutputFit, check_moments
from ._path import elimination_order
from ._scores import Scores


@dataclass(frozen=True, eq=False)
class LayerPath:
    """The elimination of one layer's states down to none.

    Attributes
    ----------
    order : ndarray, shape (s, n), int64
        For each of the s systems, its states in the order in which they leave.
    cost : ndarray, shape (s, n), float64
        Increase of the squared output error, summed over the calibration data, at each step.
    energy : float
        Squared outputs of the layer, summed over the calibration data.
    units : ndarray, shape (s, n), int64, optional
        Which states stay or go together in smaller arrays (`SSMModel.units`); None where every state stands alone.
    """

    order: np.ndarray
    cost: np.ndarray
    energy: float
    units: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class EliminationPath(LayerMapping[LayerPath]):
    """Elimination paths by layer; made by `elimination_path`."""

    whole = "the path"
    by_layer: Mapping[str, LayerPath]


def elimination_path(
    model: SSMModel, calibration: Calibration, *, ridge: float = RIDGE, feedthrough: bool = False
) -> EliminationPath:
    r"""Order in which the states of every layer leave, and the exact cost of each step.

    With real coordinates :math:`r_k` of the states, weights :math:`W` (the output is :math:`W r_k + D u_k`) and second
    moments :math:`S = \sum_k r_k r_k^T`, the error that is left when only the states :math:`K` stay and their weights
    are fitted anew is a Schur complement,

    .. math:: \min_V \sum_k \|W r_k - V r_{K,k}\|^2 = \mathrm{tr}\, W (S - S_{:K} S_{KK}^{-1} S_{K:}) W^T .

    State :math:`i` (a block of 2 coordinates, 4 in bidirectional layers) adds
    :math:`\mathrm{tr}(w_i [(S^{-1})_{ii}]^{-1} w_i^T)` when it leaves; the cheapest one does, weights and inverse are
    down-dated, and so on.

    Parameters
    ----------
    model : SSMModel
    calibration : Calibration
        Of this model, every layer.
    ridge : float, default 1e-10
        Noise added to each coordinate, as a share of its state's power. It makes nearly collinear states safe.
    feedthrough : bool, default False
        Let D be fitted as well: where it is not diagonal, the inputs are projected out of the states first.

    Returns
    -------
    EliminationPath

    Raises
    ------
    ArgumentError
        No model, or no calibration.
    UnknownLayerError
        A layer without calibration.
    ShapeError
        A calibration of other systems.
    SelectionError
        A ridge below 1e-14, or data on which every layer's output is 0.

    Notes
    -----
    Costs are those of the problem with the ridge. O(n^3 + p (n + m)^2) a system, and
    O(m^3 + m n^2) more where a full D is fitted.

    Optimal brain surgeon (Hassibi and Stork, NeurIPS 1992) with a state in place of a weight; for one layer's
    least-squares error its quadratic form is exact.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> u = np.random.default_rng(0).standard_normal((10, 64, 32))
    >>> path = elimination_path(model, sr.calibrate(model, dict.fromkeys(model, u)))
    >>> path["layers.0.seq"].order.shape
    (1, 64)
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_kind(calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    paths = {}
    for name, ssm in model.items():
        check_moments(ssm, calibration[name], name)
        problem = OutputFit(ssm, calibration[name], ridge=ridge, feedthrough=feedthrough).problem
        order, cost = elimination_order(problem.second, problem.cross, problem.width)
        paths[name] = LayerPath(order, cost, float(problem.energy.sum()), model.units(name))
    if not any(path.energy > 0 for path in paths.values()):
        raise SelectionError("the calibration says nothing: every layer's output is 0 on its data")
    return EliminationPath(paths)


def elimination_scores(
    path: EliminationPath, *, scope: str = "layer", sensitivity: Mapping[str, float] | None = None
) -> Scores:
    r"""Scores of the states from their place in one greedy elimination over all layers.

    At each step the system whose next state costs least, relative to the output energy of its layer, loses that state.
    The score is the step: the state that leaves first scores 0.

    Parameters
    ----------
    path : EliminationPath
    scope : {"layer", "system"}
        ``system``: all systems of a batch (the features of S4D) lose a state together, so that `select` with the same
        scope keeps equal counts.
    sensitivity : mapping, optional
        Layer name -> what a squared error of the layer costs (`output_sensitivity`), in place of 1 / energy.

    Returns
    -------
    Scores
        For `select`, with the allocation ``global``.

    Raises
    ------
    ArgumentError
        Anything but a path.
    UnknownLayerError
        A sensitivity that leaves out a layer.
    SelectionError
        One that is negative or not finite.
    UnknownNameError
        Another scope.

    Examples
    --------
    >>> order, cost = np.array([[1, 0, 2]]), np.array([[0.1, 0.2, 5.0]])
    >>> elimination_scores(EliminationPath({"a": LayerPath(order, cost, 10.0)}))["a"]
    array([1., 0., 2.])
    """
    require_kind(path, EliminationPath, "path", "elimination_path(model, calibration) makes one")
    if scope not in ("layer", "system"):
        raise UnknownNameError(f"there is no scope {scope!r}; choose from layer, system")
    values, queues = {}, []
    for name, layer in path.items():
        values[name] = np.zeros(layer.order.shape)
        cost = layer.cost * _weight(name, layer, sensitivity)
        groups = [np.arange(len(cost))] if scope == "system" else [np.array([s]) for s in range(len(cost))]
        for group in groups:
            # A cheap state behind a dear one is free once that one has left: the queue's priority never falls.
            queues.append((name, group, np.maximum.accumulate(cost[group].sum(axis=0))))
    steps = np.concatenate([np.arange(len(priority)) for *_, priority in queues])
    owner = np.concatenate([np.full(len(priority), i) for i, (*_, priority) in enumerate(queues)])
    ranking = np.lexsort((steps, np.concatenate([priority for *_, priority in queues])))
    for rank, (i, step) in enumerate(zip(owner[ranking], steps[ranking], strict=True)):
        name, group, _ = queues[i]
        values[name][group, path[name].order[group, step]] = rank
    shaped = {name: value[0] if len(value) == 1 else value for name, value in values.items()}
    units = {name: layer.units for name, layer in path.items() if layer.units is not None}
    return Scores(shaped, "calibrated", "global", units=units)


def _weight(name: str, layer: LayerPath, sensitivity: Mapping[str, float] | None) -> float:
    if sensitivity is None:
        return 1.0 / layer.energy if layer.energy > 0 else 1.0
    if name not in sensitivity:
        raise UnknownLayerError(f"there is no sensitivity of layer {name!r}; those given are {', '.join(sensitivity)}")
    weight = float(sensitivity[name])
    if not (np.isfinite(weight) and weight >= 0):
        raise SelectionError(f"the sensitivity of layer {name!r} must be a finite number of at least 0, got {weight}")
    return weight
