"""One pass through the blocks of a live network, its selective mixers replaced on the way.

Two streams run side by side: that of the original network, and that of the network whose earlier mixers are reduced
already. Each block is run once per batch and stream, so that the time grows with the depth and not with its square.
"""

import contextlib
import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._support.arguments import require_batches
from .._support.optional import optional_import
from ..errors import NotRepresentableError
from ..selective import SelectiveSSM
from ._selective import mixer_layer, selective_mixers, set_mixer


@dataclass(frozen=True, eq=False)
class Visit:
    """A mixer on its turn.

    Attributes
    ----------
    name : str
    layer : Mamba1SSM or Mamba2SSM
        As it is in the original network.
    inputs : list of ndarray, shape (b, L, d), float32
        What reaches it in the network whose earlier mixers are reduced, batch by batch.
    targets : list of ndarray, shape (b, L, d), float32
        What it returns in the original network.
    """

    name: str
    layer: SelectiveSSM
    inputs: list[np.ndarray]
    targets: list[np.ndarray]


def walk(
    module: Any, batches: Iterable[Any], visit: Callable[[Visit], SelectiveSSM], *, progress: Any = None
) -> tuple[Any, dict[str, SelectiveSSM]]:
    """Replace each selective mixer by what `visit` makes of it, from the first block to the last.

    Parameters
    ----------
    module : torch.nn.Module
        Not changed. Its mixers stand in blocks, which are called one after the other, each with the output of the one
        before as its first argument (all models of transformers with Mamba layers).
    batches : iterable
        What the network is called with: an array of ids, a tuple of arguments, or a mapping of keyword arguments.
    visit : callable
        Takes a `Visit`, returns the new layer.
    progress : callable, optional
        Called after each mixer with the number of mixers done and the number of all.

    Returns
    -------
    smaller : torch.nn.Module
    layers : dict
        Name of mixer -> new layer.

    Raises
    ------
    NotRepresentableError
        There are no selective mixers, or the blocks are not called as is said above.

    Examples
    --------
    >>> import torch
    >>> from ssmreduce.networks import SelectiveMixer, walk
    >>> from ssmreduce.selective import random_layer, take_states
    >>> net = torch.nn.Sequential(*(SelectiveMixer(random_layer("mamba2", width=8, order=4)) for _ in range(2)))
    >>> small, layers = walk(net, [torch.ones(1, 5, 8)], lambda visit: take_states(visit.layer, [0, 1]))
    >>> list(layers), small[1].order
    (['0', '1'], 2)
    """
    torch = optional_import("torch", "torch")
    require_batches(batches)
    names = list(selective_mixers(module))
    path, blocks = block_list(module, names)
    batches = list(batches)
    smaller, layers = copy.deepcopy(module), {}
    with evaluating(module, smaller), torch.no_grad():
        calls = _recorded(module, blocks, batches)
        streams = [[call.first for call in calls] for _ in range(2)]
        for k, block in enumerate(blocks):
            inside = [name for name in names if _is_inside(name, path, k)]
            reduced_block = smaller.get_submodule(f"{path}.{k}" if path else str(k))
            streams[0], targets = _run(block, k, calls, streams[0], {n: module.get_submodule(n) for n in inside})
            for name in inside:
                mixer = smaller.get_submodule(name)
                inputs = [
                    _input_of(mixer, reduced_block, call, k, x) for call, x in zip(calls, streams[1], strict=True)
                ]
                layers[name] = visit(Visit(name, mixer_layer(mixer), inputs, targets[name]))
                set_mixer(smaller, name, layers[name])
                if progress is not None:
                    progress(len(layers), len(names))
            reduced_block = smaller.get_submodule(f"{path}.{k}" if path else str(k))
            streams[1], _ = _run(reduced_block, k, calls, streams[1], {})
    return smaller, layers


def block_list(module: Any, names: list[str]) -> tuple[str, list[Any]]:
    """The list of blocks that holds all selective mixers, and its path; the outermost one that does.

    Raises
    ------
    NotRepresentableError
    """
    if not names:
        raise NotRepresentableError("the network has no Mamba-1 or Mamba-2 mixers that are known here")
    import torch

    parts = names[0].split(".")
    for k, part in enumerate(parts):
        path = ".".join(parts[:k])
        container = module.get_submodule(path) if path else module
        is_list = isinstance(container, torch.nn.ModuleList | torch.nn.Sequential) and part.isdigit()
        if is_list and all(name.startswith(f"{path}." if path else "") for name in names):
            return path, list(container)
    raise NotRepresentableError("the selective mixers of the network do not stand in one list of blocks")


def _is_inside(name: str, path: str, k: int) -> bool:
    block = f"{path}.{k}" if path else str(k)
    return name == block or name.startswith(block + ".")


@dataclass(frozen=True, eq=False)
class _Call:
    """How the blocks are called in one pass: what goes into the first, and the other arguments of each."""

    first: Any
    others: list[tuple[tuple[Any, ...], dict[str, Any]]]


def _recorded(module: Any, blocks: list[Any], batches: list[Any]) -> list[_Call]:
    calls = []
    for number, batch in enumerate(batches):
        seen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

        def hook(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any], seen: list = seen) -> None:
            kwargs = dict(kwargs)
            hidden = args[0] if args else kwargs.pop("hidden_states")
            seen.append((hidden, args[1:], kwargs))

        with contextlib.ExitStack() as stack:
            for block in blocks:
                stack.callback(block.register_forward_pre_hook(hook, with_kwargs=True).remove)
            call_network(module, batch)
        if len(seen) != len(blocks):
            raise NotRepresentableError(
                f"the network has {len(blocks)} blocks and called {len(seen)} of them in one pass"
            )
        if number == 0:
            _require_chain(blocks, seen)
        calls.append(_Call(seen[0][0], [(args, kwargs) for _, args, kwargs in seen]))
    return calls


def _require_chain(blocks: list[Any], seen: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> None:
    """Raise unless each block is called with what the one before returned."""
    for k in range(len(blocks) - 1):
        hidden, args, kwargs = seen[k]
        output, following = _first_of(blocks[k](hidden, *args, **kwargs)), seen[k + 1][0]
        if output.shape != following.shape or not output.allclose(following, rtol=1e-3, atol=1e-4):
            raise NotRepresentableError(f"the input of block {k + 1} is not what block {k} returns")


def call_network(module: Any, batch: Any) -> Any:
    """Call a network with a batch; transformers' models without their cache."""
    takes = "use_cache" in inspect.signature(module.forward).parameters
    extra = {"use_cache": False} if takes or hasattr(getattr(module, "config", None), "use_cache") else {}
    if isinstance(batch, Mapping):
        return module(**{**extra, **batch})
    return module(*batch, **extra) if isinstance(batch, tuple | list) else module(batch, **extra)


def _run(
    block: Any, k: int, calls: list[_Call], stream: list[Any], mixers: dict[str, Any]
) -> tuple[list[Any], dict[str, list[np.ndarray]]]:
    """Outputs of a block, and what its mixers return meanwhile."""
    outputs, returned = [], {name: [] for name in mixers}  # type: ignore[var-annotated]
    with contextlib.ExitStack() as stack:
        for name, mixer in mixers.items():

            def hook(_: Any, __: Any, output: Any, kept: list = returned[name]) -> None:
                kept.append(_to_numpy(_first_of(output)))

            stack.callback(mixer.register_forward_hook(hook).remove)
        for call, hidden in zip(calls, stream, strict=True):
            args, kwargs = call.others[k]
            outputs.append(_first_of(block(hidden, *args, **kwargs)))
    return outputs, returned


class _Reached(Exception):
    pass


def _input_of(mixer: Any, block: Any, call: _Call, k: int, hidden: Any) -> np.ndarray:
    """What reaches a mixer in its block."""

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _Reached(args[0] if args else kwargs["hidden_states"])

    handle = mixer.register_forward_pre_hook(hook, with_kwargs=True)
    args, kwargs = call.others[k]
    try:
        block(hidden, *args, **kwargs)
    except _Reached as reached:
        return _to_numpy(reached.args[0])
    finally:
        handle.remove()
    raise NotRepresentableError("a block did not call its selective mixer")


def _first_of(output: Any) -> Any:
    return output[0] if isinstance(output, tuple | list) else output


def _to_numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


@contextlib.contextmanager
def evaluating(*modules: Any) -> Iterator[None]:
    """Modules in evaluation mode, each put back into its own afterwards."""
    training = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.train(mode)
