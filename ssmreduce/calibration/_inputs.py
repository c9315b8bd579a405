"""What `calibrate` is given, as batches of mappings and arrays; whatever else comes in is refused in words."""

from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any

import array_api_compat
import numpy as np

from .._support.arguments import described
from ..errors import ArgumentError, ArrayKindError, ShapeError
from ..systems import DiagonalSSM
from ._moments import Moments

Inputs = Mapping[str, Any] | Iterable[Mapping[str, Any] | tuple[Mapping[str, Any], Any]]

_NEEDED = (
    "inputs must be a mapping from layer name to array, {'layer': u} with u of shape (batch, L, width), or an iterable "
    "of such mappings or of pairs (mapping, mask)"
)


def batches_of(inputs: Inputs, mask: Any) -> tuple[Iterator[tuple[Mapping[str, Any], Any]], int | None]:
    """Pairs (mapping, mask) one by one, and how many there are, None if not known."""
    if isinstance(inputs, Mapping):
        return iter([(inputs, mask)]), 1
    if mask is not None:
        raise ShapeError("mask goes with a single mapping; an iterable gives pairs (mapping, mask)")
    if isinstance(inputs, str | bytes) or _is_array(inputs) or not isinstance(inputs, Iterable):
        raise ArgumentError(f"{_NEEDED}, got {described(inputs)}")
    if isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[0], Mapping) and _is_mask(inputs[1]):
        raise ArgumentError("inputs is one pair (mapping, mask): call calibrate(model, mapping, mask=mask)")
    total = len(inputs) if isinstance(inputs, Sized) else None
    return (_pair(batch, number) for number, batch in enumerate(inputs, start=1)), total


def _is_array(value: Any) -> bool:
    return array_api_compat.is_array_api_obj(value)


def _is_mask(value: Any) -> bool:
    return value is None or _is_array(value) or isinstance(value, list)


def _pair(batch: Any, number: int) -> tuple[Mapping[str, Any], Any]:
    mapping, mask = batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)
    if not isinstance(mapping, Mapping):
        raise ArgumentError(f"{_NEEDED}; batch {number} is {described(batch)}")
    return mapping, mask


def sequences(values: Any, name: str) -> list[np.ndarray]:
    """Arrays (batch, L, width) of one layer's inputs."""
    listed = isinstance(values, list | tuple)
    arrays = [host_array(v, name) for v in (values if listed else [values])]
    if not arrays:
        raise ShapeError(f"layer {name!r}: the list of sequences is empty")
    if listed and any(a.ndim != 2 for a in arrays):
        raise ShapeError(f"layer {name!r}: a list must hold arrays of shape (L, width)")
    return [a[None] if a.ndim == 2 else a for a in arrays]


def host_array(values: Any, name: str) -> np.ndarray:
    """Real numbers as a NumPy array; bfloat16, which NumPy lacks, as single precision, which holds it exactly."""
    if isinstance(values, Mapping | DiagonalSSM | Moments):
        raise ArgumentError(f"layer {name!r}: inputs must be an array (batch, L, width), got {described(values)}")
    if array_api_compat.is_torch_array(values):
        values = values.detach().cpu()
        values = values.float() if str(values.dtype) == "torch.bfloat16" else values
    try:
        array = np.asarray(values)
    except ValueError:  # nested lists of different lengths
        raise ShapeError(f"layer {name!r}: sequences of different lengths need a list of arrays (L, width)") from None
    array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    if array.dtype.kind not in "fiu":
        raise ArrayKindError(f"layer {name!r}: the inputs are not real numbers: {described(values)}, {array.dtype}")
    return array
