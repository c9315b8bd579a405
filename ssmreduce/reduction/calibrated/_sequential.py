"""Sequential refit: layer by layer, on what the already reduced network feeds it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from ..._support.arguments import described, require_kind, whole_number
from ...calibration._accumulate import layer_moments
from ...calibration._inputs import sequences
from ...errors import ArgumentError, SelectionError, UnknownLayerError
from ...models import SSMModel
from ...models._model import MODEL_ADVICE, write_states
from ...networks import Network, network
from ...responses import simulate
from ...selection._outputs import RIDGE, OutputFit, with_weights
from ...systems import DiagonalSSM
from ._network_data import Part, batch_list, recorded, summed
from ._refine import refine_system


def refit_network(
    network_: Any,
    reduced: SSMModel,
    batches: Iterable[Any],
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
    network_ : Network, or what `network` takes
        The original.
    reduced : SSMModel
        What is to be fitted: of `eliminate`, `prune`, `reduce`, ...
    batches : iterable
        Unlabelled data, each batch whatever the network takes. The original runs once per batch, the reduced network
        once per batch and layer.
    refine : int, default 0
        Steps of L-BFGS on the poles and B of each layer: new poles instead of the best old ones. It pays where few
        states are left.
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
        No network, no model, or one array for a list of batches.
    UnknownLayerError
        `reduced` or the network's layer inputs leave out a layer, or one of `layers` does not exist.
    ShapeError
        No batches, or inputs that do not fit.
    SelectionError
        A `refine` that is negative or no whole number, a ridge below 1e-14, or `refine` with padded batches.

    Notes
    -----
    Layers must come in the order in which the network calls them. No labels are used.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> net = sr.network(sr.networks.s5_digits, model=sr.models.example())
    >>> x = np.random.default_rng(0).random((4, 64, 1))
    >>> small = sr.eliminate(net.model, sr.calibrate(net.model, net.layer_inputs(net.model, x)), ratio=0.8)
    >>> refit_network(net, small, [x]).orders == small.orders
    True
    """
    net = network(network_)
    require_kind(reduced, SSMModel, "reduced", MODEL_ADVICE)
    refine = whole_number(refine, "refine")
    return refit_parts(
        net,
        reduced,
        recorded(net, batch_list(batches)),
        refine=refine,
        feedthrough=feedthrough,
        ridge=ridge,
        layers=layers,
        progress=progress,
    )


def refit_parts(
    net: Network,
    reduced: SSMModel,
    parts: Sequence[Part],
    *,
    refine: int = 0,
    feedthrough: bool = False,
    ridge: float = RIDGE,
    layers: Iterable[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SSMModel:
    """`refit_network` on batches of which the original's layer inputs are known."""
    chosen = set(net.model if layers is None else layers)
    for name in net.model:
        reduced.require(name)
    for name in chosen:
        net.model.require(name)
    result = reduced
    parts = [part for part in parts if part.inputs]
    for done, name in enumerate((name for name in net.model if name in chosen), start=1):
        data = []
        for part in parts:
            now = layer_input(net.layer_inputs(result, part.batch), name)
            target = simulate(net.model[name], layer_input(part.inputs, name))
            data.append((now, target, net.mask(part.batch, now.shape[1])))
        fitted = _fitted(result[name], data, refine=refine, ridge=ridge, feedthrough=feedthrough, name=name)
        result = write_states(result, name, fitted)
        if progress is not None:
            progress(done, len(chosen))
    return result


def _fitted(
    ssm: DiagonalSSM,
    data: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | None]],
    *,
    refine: int,
    ridge: float,
    feedthrough: bool,
    name: str,
) -> DiagonalSSM:
    if refine:
        if any(mask is not None for _, _, mask in data):
            raise SelectionError(
                "refine takes no padded batches: give refine=0, or sequences of one length without mask"
            )
        pairs = [(u, y) for u, y, _ in data]
        return refine_system(ssm, pairs, steps=refine, ridge=ridge, feedthrough=feedthrough, name=name)
    moments = summed({name: layer_moments(ssm, u, target=y, mask=mask, name=name)} for u, y, mask in data)[name]
    fit = OutputFit(ssm, moments, ridge=ridge, feedthrough=feedthrough)
    everything = np.ones((ssm.systems, ssm.order), dtype=bool)
    return with_weights(ssm, *fit.solve(everything))


def layer_input(inputs: Any, name: str) -> np.ndarray:
    """Input of one layer in double precision, (batch, L, width)."""
    if name not in inputs:
        raise UnknownLayerError(f"the network gives no input of layer {name!r}; it gives {', '.join(inputs)}")
    if isinstance(inputs[name], list | tuple):
        raise ArgumentError(
            f"the network gives {described(inputs[name])} as input of {name!r}; one array (batch, L, width) is "
            "needed: give sequences of different lengths in batches of their own, or padded with mask=..."
        )
    [u] = sequences(inputs[name], name)
    return np.asarray(u, dtype=np.float64)
