"""What goes into the state-space layers of a live network, batch by batch; no framework is imported before its use."""

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import array_api_compat
import numpy as np

from .._support.arguments import described, require_batches
from .._support.optional import optional_import
from ..errors import ArgumentError, CaptureWarning, ShapeError, UnknownLayerError, printable

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
        The live network. It is called as it is, without gradients, and its mode is not changed: call ``eval()`` first.
    batches : iterable
        What the network is called with; a tuple or list is unpacked into arguments. No labels.
    layers : iterable of str
        Names of the submodules to record, the layer names of the model: the first of their arguments, positional or
        by keyword, that is a tensor. What a layer that is called several times in one pass (shared weights) is fed
        counts as that many sequences.
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
    ArgumentError
        No module, an array for a list of batches, text for a list of layers, or a layer called without a tensor.
    UnknownLayerError
        A submodule that does not exist, or that the network did not call.
    ShapeError
        A layer that is called with sequences of different lengths in one pass.

    Warns
    -----
    CaptureWarning
        A network in training mode, in which dropout and batch norm feed the layers something else than at inference,
        and batch norm changes its statistics.

    Examples
    --------
    >>> import torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(1, 4), torch.nn.GELU()).eval()
    >>> [inputs] = torch_inputs(network, [torch.zeros(2, 8, 1)], ["1"])
    >>> inputs["1"].shape
    (2, 8, 4)
    """
    if not hasattr(module, "get_submodule"):
        raise ArgumentError(f"module is {described(module)}; a torch.nn.Module is needed, the live network")
    require_batches(batches)
    found = {name: _submodule(module, name) for name in _names(layers)}
    _warn_of_training(module)
    total = len(batches) if isinstance(batches, Sized) else None
    for done, batch in enumerate(batches, start=1):
        calls: dict[str, list[np.ndarray]] = {name: [] for name in found}

        def hook(name: str, calls: dict[str, list[np.ndarray]] = calls) -> Callable:
            def record(_: Any, args: tuple, kwargs: dict) -> None:
                tensor = _first(args, kwargs, array_api_compat.is_torch_array, name)
                u = _unmapped(tensor).detach().cpu().double().numpy()
                calls[name].append(np.swapaxes(u, -1, -2) if channels_first else u)

            return record

        with contextlib.ExitStack() as stack:
            for name, submodule in found.items():
                stack.callback(submodule.register_forward_pre_hook(hook(name), with_kwargs=True).remove)
            stack.enter_context(sys.modules["torch"].no_grad())  # a module exists, so torch has been imported
            module(*batch) if isinstance(batch, tuple | list) else module(batch)
        if missing := [name for name in found if not calls[name]]:
            raise UnknownLayerError(f"the network did not call {', '.join(missing)}: nothing was captured there")
        yield {name: _joined(arrays, name) for name, arrays in calls.items()}
        if progress is not None:
            progress(done, total)


def _names(layers: Iterable[str]) -> Iterable[str]:
    if isinstance(layers, str):
        raise ArgumentError(f"layers must be several names, got {layers!r}; give [{layers!r}], or the model")
    return layers


def _warn_of_training(module: Any) -> None:
    training = [name or "the network" for name, part in module.named_modules() if part.training]
    if training:
        more = f" and {len(training) - 1} more" if len(training) > 1 else ""
        warnings.warn(
            f"{printable(training[0])}{more} in training mode: dropout and batch norm will feed the layers something "
            "else than at inference; call eval() on the network first",
            CaptureWarning,
            stacklevel=3,
        )


def _first(args: tuple, kwargs: dict, is_array: Callable[[Any], bool], name: str) -> Any:
    """The first argument of a layer that is an array, positional ones before keywords."""
    for value in (*args, *kwargs.values()):
        if is_array(value):
            return value
    given = ", ".join([*map(described, args), *(f"{key}={described(value)}" for key, value in kwargs.items())])
    raise ArgumentError(f"layer {name!r} was called without an array: ({given}); nothing can be recorded there")


def _joined(calls: Sequence[np.ndarray], name: str) -> np.ndarray:
    """What a layer was fed in one pass, one sequence after the other along the first axis."""
    arrays = [u[None] if u.ndim == 2 else u for u in calls]
    if len({u.shape[1:] for u in arrays}) > 1:
        shapes = ", ".join(str(u.shape) for u in arrays)
        raise ShapeError(
            f"layer {name!r} was called {len(arrays)} times in one pass, of shapes {shapes}; sequences of one "
            "length are needed"
        )
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


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
        Layer names of the model: paths of submodules, below `prefix`. The first of their arguments, positional or by
        keyword, that is an array is recorded; what a layer that is called several times in one pass (shared weights)
        is fed counts as that many sequences.
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
    ArgumentError
        No module, an array for a list of batches, text for a list of layers, or a layer called without an array.
    UnknownLayerError
        A layer at whose path nothing was captured.
    ShapeError
        A layer that is called with sequences of different lengths in one pass.

    Notes
    -----
    The argument of each layer's ``__call__`` is sown as an intermediate. ``nn.vmap`` drops a collection that it
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
    if not isinstance(module, nn.Module):
        raise ArgumentError(f"module is {described(module)}; a flax.linen.Module is needed, the network's definition")
    require_batches(batches)
    paths = {tuple(name.removeprefix(prefix).split("/")): name for name in _names(layers)}
    total = len(batches) if isinstance(batches, Sized) else None

    def record(run: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if context.method_name == "__call__" and context.module.path in paths:
            array = _first(args, kwargs, array_api_compat.is_array_api_obj, paths[context.module.path])
            context.module.sow("intermediates", "ssm_input", array)
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
    return _joined([np.asarray(u, dtype=np.float64) for u in node], name)
