"""Sequential recalibration: layer by layer, on what the already reduced network feeds it."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np

from ..._support.arguments import described, require_batches, require_callable, require_kind, whole_number
from ...calibration._inputs import sequences
from ...errors import ArgumentError, ShapeError, UnknownLayerError
from ...models import SSMModel
from ...models._model import MODEL_ADVICE, overwrite_states
from ...responses import simulate
from ._outputs import RIDGE
from ._refine import refine_system

LayerInputs = Callable[[SSMModel, Any], Mapping[str, np.ndarray]]
"""From a model and a batch to the inputs of its layers: layer name -> array (batch, L, width)."""


def recalibrate(
    model: SSMModel,
    reduced: SSMModel,
    batches: Sequence[Any],
    layer_inputs: LayerInputs,
    *,
    refine: int = 0,
    feedthrough: bool = False,
    ridge: float = RIDGE,
    layers: Iterable[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SSMModel:
    r"""Fit each layer of a reduced model, first to last, to the original's outputs, on the inputs it really gets.

    In the reduced network the second layer no longer sees what it was calibrated on. With :math:`u_k` the layer's
    original inputs, :math:`\hat u_k` those that the layers before it, already reduced and fitted, produce, and
    :math:`\hat x_k` the states that stay, driven by :math:`\hat u_k`,

    .. math:: \min_C \sum_k \|y(u)_k - \kappa\,\mathrm{Re}(C \hat x_k) - D \hat u_k\|^2

    is solved for each layer in turn, so that it also undoes what it can of the errors before it. With `refine` poles
    and B take part too.

    Parameters
    ----------
    model : SSMModel
        The original.
    reduced : SSMModel
        What is to be fitted: of `eliminate`, `prune`, `reduce`, ...
    batches : sequence
        Unlabelled data, each batch whatever `layer_inputs` takes; gone through twice a layer.
    layer_inputs : callable
        ``layer_inputs(model, batch)`` runs the whole network with the systems of `model` and returns the inputs of all
        its layers.
    refine : int, default 0
        Steps of L-BFGS on the poles and B of each layer: new poles instead of the best old ones. It pays where few
        states are left. The inputs and outputs of one layer are then held in memory.
    feedthrough : bool, default False
        Fit D as well; a diagonal D stays diagonal.
    ridge : float, default 1e-10
        As in `refit`, towards the weights of `reduced`.
    layers : iterable of str, optional
        By default every layer; the others stay as they are in `reduced`.
    progress : callable, optional
        Called after each layer with the number of layers done and the number of all.

    Returns
    -------
    SSMModel

    Raises
    ------
    ArgumentError
        No models, batches that can be gone through once only, or `layer_inputs` that is no function or returns no
        mapping of arrays.
    UnknownLayerError
        `reduced` or `layer_inputs` leaves out a layer, or one of `layers` does not exist.
    ShapeError
        No batches, or inputs that do not fit.
    SelectionError
        A `refine` that is negative or no whole number, or a ridge below 1e-14.
    NotRepresentableError
        A system that the model family cannot hold.

    Notes
    -----
    Layers must come in the order in which the network calls them. No labels are used.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> from networks import layer_inputs, s5_digits
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> x = np.random.default_rng(0).random((4, 64, 1))
    >>> inputs = lambda model, batch: layer_inputs(s5_digits, model, batch)
    >>> small = sr.eliminate(model, sr.calibrate(model, inputs(model, x)), ratio=0.8)
    >>> recalibrate(model, small, [x], inputs).orders == small.orders
    True
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_kind(reduced, SSMModel, "reduced", MODEL_ADVICE)
    require_batches(batches)
    require_kind(batches, Sized, "batches", "they are gone through twice a layer: give a list, such as list(batches)")
    require_callable(layer_inputs, "layer_inputs", "a function of (model, batch) is needed: layer name -> array")
    refine = whole_number(refine, "refine")
    if not len(batches):
        raise ShapeError("there is nothing to recalibrate on: give at least one batch")
    for name in model:
        reduced.require(name)
    result = reduced
    chosen = set(model if layers is None else layers)
    for name in chosen:
        model.require(name)
    for done, name in enumerate((name for name in model if name in chosen), start=1):
        data = []
        for batch in batches:
            original = _of_layer(layer_inputs(model, batch), name)
            now = _of_layer(layer_inputs(result, batch), name)
            data.append((now, simulate(model[name], original)))
        fitted = refine_system(result[name], data, steps=refine, ridge=ridge, feedthrough=feedthrough, name=name)
        result = overwrite_states(result, name, fitted)
        if progress is not None:
            progress(done, len(chosen))
    return result


def _of_layer(inputs: Mapping[str, Any], name: str) -> np.ndarray:
    require_kind(inputs, Mapping, "the result of layer_inputs", "layer name -> array (batch, L, width) is needed")
    if name not in inputs:
        raise UnknownLayerError(f"layer_inputs returned nothing for {name!r}; it returned {', '.join(inputs)}")
    if isinstance(inputs[name], list | tuple):
        raise ArgumentError(
            f"layer_inputs returned {described(inputs[name])} for {name!r}; one array (batch, L, width) a batch is "
            "needed: give sequences of different lengths in batches of their own"
        )
    [u] = sequences(inputs[name], name)
    return np.asarray(u, dtype=np.float64)
