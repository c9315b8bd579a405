"""Recurrent mode of live networks."""

from typing import Any

from .._support.arguments import require_kind
from ._stepper import Stepper
from ._torch import TorchNetwork, is_module

STEPPER_ADVICE = "a torch.nn.Module, such as compress returns, or sr.network(module) is needed"


def stepper(network: Any, *, width: int | None = None, streams: int = 1, state_dtype: str = "single") -> Stepper:
    """Recurrent mode of a network: its output for each sample as it comes.

    Norms, activations, gates, linear maps and states of the whole network run in one compiled function where its
    operations are known; otherwise the network is called for each sample, with layers that carry their states. Either
    form is compared with the network on a short sequence first.

    Parameters
    ----------
    network : torch.nn.Module or TorchNetwork
        Causal. Its weights are copied: make another stepper after they changed.
    width : int, optional
        Numbers of a sample, where the first linear map of the network does not take them as they are.
    streams : int, default 1
        Sequences that move together, multiplied by the matrices at once.
    state_dtype : {"single", "double"}
        In which the states are kept; all else is in single precision.

    Returns
    -------
    Stepper

    Raises
    ------
    ArgumentError
        No PyTorch network.
    NotCausalError
        A bidirectional layer.
    EvaluationError
        A network that looks at several samples outside of its state-space layers.

    Examples
    --------
    >>> import numpy as np, torch, ssmreduce as sr
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer, torch.nn.GELU())
    >>> step = sr.networks.stepper(module)
    >>> step(np.zeros(1)).shape
    (32,)
    >>> saved = step.state
    >>> step.run(np.ones((5, 1))).shape
    (5, 32)
    >>> step.state = saved
    """
    require_torch(network)
    from ._torch_stepper import module_stepper

    return module_stepper(network, width, streams, state_dtype)


def require_torch(network: Any) -> None:
    """Raise `ArgumentError` unless it is a PyTorch network."""
    if not is_module(network):
        require_kind(network, TorchNetwork, "network", STEPPER_ADVICE)
