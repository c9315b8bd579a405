"""Drop-in layers for the systems of a model, in a live module."""

from typing import Any

from .._support.arguments import described, require_kind
from ..errors import ArgumentError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ._protocol import network
from ._torch import TorchNetwork, is_module


def replace_layers(module: Any, model: SSMModel, *, inplace: bool = False, batch: Any = None, **options: Any) -> Any:
    """Put the systems of a model into the live network that the model was read from, as drop-in layers.

    Parameters
    ----------
    module : torch.nn.Module, flax.linen.Module or equinox.Module
        The network that ``model`` was read from.
    model : SSMModel
        What `prune`, `reduce`, `eliminate`, ... made of ``read(module)``. Layers that it did not change stay.
    inplace : bool, default False
        Change the module itself (PyTorch) instead of a copy.
    batch : Any, optional
        What the network is called with. The drop-ins of the full systems are compared with the layers on it before
        anything changes; without one, each layer alone is compared on noise.
    **options
        Of `network`, such as ``channels_first``.

    Returns
    -------
    object
        The network with the smaller layers, of the same kind; they can be trained.

    Raises
    ------
    ArgumentError
        An object that is no live network, or one whose layers cannot be swapped.
    UnknownLayerError
        A model of other layers.
    EvaluationError
        A layer that computes something else than the system that was read from it.

    Examples
    --------
    >>> import ssmreduce as sr, torch
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer)
    >>> model = sr.network(module).model
    >>> small = replace_layers(module, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5)))
    >>> small[1]
    SSMLayer(states=32, inputs=32, outputs=32)
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    net = network(module, adapter=model.adapter, **options)
    if not is_module(module):
        if inplace:
            raise ArgumentError(f"module is {described(module)}, which cannot be changed in place: leave out inplace")
        if batch is not None:
            net.outputs(net.model, batch)
        return net.rebuild(model)
    assert isinstance(net, TorchNetwork)
    net.check(batch) if batch is not None else net.check_layers()
    if not inplace:
        return net.rebuild(model)
    changed = net.replace_in(module, model)
    if changed is not module:
        raise ArgumentError("the module is the layer itself and cannot be replaced in place: leave out inplace")
    return module
