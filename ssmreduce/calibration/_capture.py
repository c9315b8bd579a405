"""What goes into the state-space layers of a live network, batch by batch; no framework is imported before its use."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

import numpy as np

from .._optional import optional_import
from ..errors import ShapeError, UnknownLayerError

Progress = Callable[[int, int | None], None]


def torch_inputs(
    module: Any,
    batches: Iterable[Any],
    layers: Iterable[str],
    *,
    channels_first: bool = False,
    progress: Progress | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of a PyTorch network's layers, batch by batch, through forward hooks; for `calibrate`.

    Parameters
    ----------
    module : torch.nn.Module
        The live network. It is called as it is, without gradients: set ``eval()`` first.
    batches : iterable
        What the network is called with; a tuple or list is unpacked into arguments.
    layers : iterable of str
        Names of the submodules whose first argument is recorded: the layer names of the model.
    channels_first : bool, default False
        The layers take (batch, width, L), as the S4D layers of state-spaces/s4 do, instead of (batch, L, width).
    progress : callable, optional
        Called after each batch with the number of batches done and the number of all, None if not known.

    Yields
    ------
    dict
        Layer name -> float64 array, shape (batch, L, width).

    Raises
    ------
    UnknownLayerError
        A submodule that does not exist, or that the network did not call.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.GELU())
    >>> [inputs] = torch_inputs(network, [torch.zeros(2, 8, 1)], ["1"])
    >>> inputs["1"].shape
    (2, 8, 4)
    """
    found = {name: _submodule(module, name) for name in layers}
    total = len(batches) if isinstance(batches, Sized) else None
    for done, batch in enumerate(batches, start=1):
        inputs: dict[str, np.ndarray] = {}

        def hook(name: str, inputs: dict[str, np.ndarray] = inputs) -> Callable:
            def record(_: Any, args: tuple) -> None:
                u = _unmapped(args[0]).detach().cpu().double().numpy()
                inputs[name] = np.swapaxes(u, -1, -2) if channels_first else u

            return record

        with contextlib.ExitStack() as stack:
            for name, submodule in found.items():
                stack.callback(submodule.register_forward_pre_hook(hook(name)).remove)
            stack.enter_context(sys.modules["torch"].no_grad())  # a module exists, so torch has been imported
            module(*batch) if isinstance(batch, tuple | list) else module(batch)
        _require_all(inputs, found)
        yield inputs
        if progress is not None:
            progress(done, total)


def _unmapped(tensor: Any) -> Any:
    """The whole tensor where the layer is called inside torch.vmap, as by s5-pytorch, its mapped axis first."""
    functorch = sys.modules["torch"]._C._functorch
    while functorch.is_batchedtensor(tensor):
        axis = functorch.maybe_get_bdim(tensor)
        tensor = functorch.get_unwrapped(tensor).movedim(axis, 0)
    return tensor


def _submodule(module: Any, name: str) -> Any:
    try:
        return module if name == "." else module.get_submodule(name)
    except AttributeError as error:
        raise UnknownLayerError(f"the network has no submodule {name!r}: {error}") from None


def _require_all(inputs: Mapping[str, Any], wanted: Iterable[str]) -> None:
    if missing := [name for name in wanted if name not in inputs]:
        raise UnknownLayerError(f"the network did not call {', '.join(missing)}: nothing was captured there")


def flax_inputs(
    module: Any,
    variables: Mapping[str, Any],
    batches: Iterable[Any],
    layers: Iterable[str],
    *,
    prefix: str = "params/",
    progress: Progress | None = None,
    **call: Any,
) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of a Flax network's layers, batch by batch, through captured intermediates; for `calibrate`.

    Parameters
    ----------
    module : flax.linen.Module
    variables : mapping
        The first argument of ``module.apply``.
    batches : iterable
        What the network is called with; a tuple is unpacked into arguments.
    layers : iterable of str
        Layer names of the model: paths of submodules, below `prefix`.
    prefix : str, default "params/"
        What the layer names begin with.
    progress : callable, optional
        Called after each batch with the number of batches done and the number of all, None if not known.
    **call
        Keyword arguments of the call, such as ``train=False``.

    Yields
    ------
    dict
        Layer name -> float64 array, shape (batch, L, width).

    Raises
    ------
    UnknownLayerError
        A layer at whose path nothing was captured.
    ShapeError
        A layer that was called more than once.

    Notes
    -----
    The first argument of each layer's ``__call__`` is sown as an intermediate. ``nn.vmap`` drops a collection that it
    does not name: give ``variable_axes={"intermediates": 0, ...}`` there, or capture from the module inside it, one
    sequence a call.

    Examples
    --------
    >>> import flax.linen as nn, jax
    >>> network = nn.Sequential([nn.Dense(4), nn.Dense(2)])
    >>> variables = network.init(jax.random.key(0), np.zeros((2, 8, 1)))
    >>> [inputs] = flax_inputs(network, variables, [np.zeros((2, 8, 1))], ["params/layers_1"])
    >>> inputs["params/layers_1"].shape
    (2, 8, 4)
    """
    nn = optional_import("flax.linen", "jax")
    paths = {tuple(name.removeprefix(prefix).split("/")): name for name in layers}
    total = len(batches) if isinstance(batches, Sized) else None

    def record(run: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if context.method_name == "__call__" and context.module.path in paths:
            context.module.sow("intermediates", "ssm_input", args[0])
        return run(*args, **kwargs)

    for done, batch in enumerate(batches, start=1):
        arguments = batch if isinstance(batch, tuple) else (batch,)
        with nn.intercept_methods(record):
            _, state = module.apply(variables, *arguments, mutable=["intermediates"], **call)
        found = {name: _sown(state, path, name) for path, name in paths.items()}
        yield found
        if progress is not None:
            progress(done, total)


def _sown(state: Mapping[str, Any], path: tuple[str, ...], name: str) -> np.ndarray:
    node: Any = state.get("intermediates", {})
    for key in (*path, "ssm_input"):
        if key not in node:
            raise UnknownLayerError(
                f"nothing was captured at {name!r}: there is no such submodule, or nn.vmap dropped it"
            )
        node = node[key]
    if len(node) != 1:
        raise ShapeError(f"layer {name!r} was called {len(node)} times in one pass; moments need one input a layer")
    u = np.asarray(node[0], dtype=np.float64)
    return u[None] if u.ndim == 2 else u
