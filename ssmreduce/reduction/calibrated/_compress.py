"""The whole of calibrated elimination in one call, where the network can be run."""

from collections.abc import Callable, Sequence
from typing import Any

from ..._support.arguments import require_batches, require_callable, require_kind
from ...calibration import calibrate
from ...errors import ShapeError
from ...models import SSMModel
from ...models._model import MODEL_ADVICE
from ._elimination import eliminate
from ._sensitivity import Outputs, output_sensitivity
from ._sequential import LayerInputs, recalibrate


def compress(
    model: SSMModel,
    batches: Sequence[Any],
    layer_inputs: LayerInputs,
    outputs: Outputs,
    *,
    ratio: float,
    scope: str = "layer",
    refine: int = 60,
    progress: Callable[[int, int], None] | None = None,
) -> SSMModel:
    """Smaller model from unlabelled data, by the steps that lose least on trained networks.

    `calibrate`, `output_sensitivity`, `eliminate` with the orders that it allots, and `recalibrate` with refinement; C
    and D are fitted throughout.

    Parameters
    ----------
    model : SSMModel
    batches : sequence
        Unlabelled data, a few hundred sequences, each batch whatever `layer_inputs` and `outputs` take.
    layer_inputs : callable
        ``layer_inputs(model, batch)`` runs the whole network with the systems of `model` and returns the inputs of all
        its layers: layer name -> array (batch, L, width).
    outputs : callable
        ``outputs(model, batch)`` returns the output of the whole network, such as the logits.
    ratio : float
        Share of all states to drop, in [0, 1).
    scope : {"layer", "system"}
        As in `eliminate`.
    refine : int, default 60
        As in `recalibrate`.
    progress : callable, optional
        As in `recalibrate`.

    Returns
    -------
    SSMModel

    Raises
    ------
    ShapeError
        No batches.
    ArgumentError, UnknownLayerError, SelectionError, NonFiniteError, NotRepresentableError
        As in the functions that it calls.

    Examples
    --------
    >>> import numpy as np
    >>> import ssmreduce as sr
    >>> from networks import layer_inputs, s5_digits
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> x = np.random.default_rng(0).random((4, 64, 1))
    >>> inputs = lambda model, batch: layer_inputs(s5_digits, model, batch)
    >>> small = compress(model, [x], inputs, s5_digits, ratio=0.9, refine=2)
    >>> sum(small.orders.values())
    25
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    require_batches(batches)
    require_callable(layer_inputs, "layer_inputs", "a function of (model, batch) is needed: layer name -> array")
    if not len(batches):
        raise ShapeError("there is nothing to calibrate on: give at least one batch")
    calibration = calibrate(model, (layer_inputs(model, batch) for batch in batches))
    sensitivity = output_sensitivity(
        model, calibration, batches, layer_inputs, outputs, ratio=ratio, scope=scope, feedthrough=True
    )
    small = eliminate(model, calibration, ratio=ratio, scope=scope, sensitivity=sensitivity, feedthrough=True)
    return recalibrate(model, small, batches, layer_inputs, refine=refine, feedthrough=True, progress=progress)
