"""Batches as data loaders give them: which part is the input, and how to take some of the sequences."""

from collections.abc import Callable, Mapping
from typing import Any

import array_api_compat
import numpy as np

from .._support.arguments import described
from ..errors import ArgumentError, EvaluationError, ShapeError

Inputs = int | str | tuple[int | str, ...] | Callable[[Any], Any] | None
"""Which element of a batch is the input: an index, a key, several of them, or a function; None for the first."""


def arguments(batch: Any, inputs: Inputs = None) -> tuple[tuple, dict[str, Any]]:
    """Positional and keyword arguments of the network for a batch; labels and whatever else is left out.

    A function may return one array, a tuple (positional arguments) or a dictionary (keyword arguments).
    """
    if callable(inputs):
        picked = inputs(batch)
        if isinstance(picked, Mapping):
            return (), dict(picked)
        return (picked if isinstance(picked, tuple) else (picked,)), {}
    if isinstance(batch, Mapping):
        keys = (next(iter(batch)),) if inputs is None else inputs if isinstance(inputs, tuple) else (inputs,)
        chosen = {str(key): element(batch, key, "inputs") for key in keys}
        return (tuple(chosen.values()), {}) if len(chosen) == 1 else ((), chosen)
    if isinstance(batch, tuple | list):
        places = (0,) if inputs is None else inputs if isinstance(inputs, tuple) else (inputs,)
        return tuple(element(batch, place, "inputs") for place in places), {}
    if inputs is not None and inputs != 0:
        raise ArgumentError(f"inputs={inputs!r} picks from tuples and dictionaries, and a batch is {described(batch)}")
    return (batch,), {}


def picked(output: Callable[[Any], Any] | None, result: Any) -> Any:
    """What `output` picks of a network's result."""
    if output is None:
        return result
    try:
        return output(result)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise EvaluationError(
            f"output=... failed on what the network returns, {described(result)}: {type(error).__name__}: {error}"
        ) from error


def element(batch: Any, key: int | str, name: str) -> Any:
    """One element of a tuple or dictionary."""
    try:
        return batch[key]
    except (KeyError, IndexError, TypeError):
        there = ", ".join(map(repr, batch)) if isinstance(batch, Mapping) else f"{len(batch)} elements"
        raise ArgumentError(f"{name}={key!r} is not in a batch, which has {there}") from None


def sequences_in(batch: Any) -> int:
    """Number of sequences of a batch: the length of its first array."""
    for part in _arrays(batch):
        return int(part.shape[0])
    raise ArgumentError(f"a batch is {described(batch)}; arrays, tuples or dictionaries of arrays are needed")


def take_sequences(batch: Any, index: np.ndarray) -> Any:
    """The batch with some of its sequences; what is no array, or has no axis of sequences, stays as it is."""
    count = sequences_in(batch)

    def taken(part: Any) -> Any:
        if _is_array(part) and part.ndim and part.shape[0] == count:
            return part[index]
        if isinstance(part, list) and len(part) == count and not any(_is_array(p) for p in part):
            return [part[i] for i in index]
        return part

    if isinstance(batch, Mapping):
        return {key: taken(part) for key, part in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(taken(part) for part in batch)
    return taken(batch)


def step_mask(batch: Any, mask: int | str | Callable[[Any], Any] | None, length: int) -> np.ndarray | None:
    """Which steps are data, shape (batch, L), from the element that carries lengths (batch,) or a mask (batch, L)."""
    if mask is None:
        return None
    values = mask(batch) if callable(mask) else element(batch, mask, "mask")
    array = np.asarray(values.detach().cpu() if array_api_compat.is_torch_array(values) else values)
    if array.ndim == 1:
        return np.arange(length) < array[:, None]
    if array.ndim == 2 and array.shape[1] == length:
        return array.astype(bool)
    raise ShapeError(
        f"mask picks an array of shape {array.shape}; lengths (batch,) or a mask (batch, {length}) are needed"
    )


def _is_array(value: Any) -> bool:
    return array_api_compat.is_array_api_obj(value)


def _arrays(batch: Any) -> list[Any]:
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, tuple | list) else (batch,)
    return [part for part in parts if _is_array(part) and part.ndim]
