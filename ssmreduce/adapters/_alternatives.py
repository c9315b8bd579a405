"""What else the arrays of a checkpoint could mean: other flags, square matrices the other way round."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from .._support.trees import Params
from ._base import Adapter


def other_flags(adapter: Adapter) -> dict[str, tuple[Any, ...]]:
    """Flag -> the other values that it could have, of the flags that are names or are on or off."""
    values: dict[str, tuple[Any, ...]] = {}
    for flag in fields(adapter):
        choices = (True, False) if flag.type in (bool, bool | None) else adapter.choices.get(flag.name, ())
        values[flag.name] = tuple(value for value in choices if value != getattr(adapter, flag.name))
    return {name: others for name, others in values.items() if others}


def with_flag(adapter: Adapter, flag: str, value: Any) -> Adapter:
    """The adapter with another value of one flag."""
    return replace(adapter, **{flag: value})


def square_arrays(adapter: Adapter, params: Mapping[str, Any], layers: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Names of the arrays that mean something else where they are transposed, by their part in the system.

    Parameters
    ----------
    adapter : Adapter
    params : mapping
    layers : tuple of str

    Returns
    -------
    dict
        Leaves of one part, joined with a comma -> full names of these arrays in all layers. Their first two axes have
        equal sizes and different meanings.
    """
    found: dict[str, list[str]] = {}
    for name in layers:
        layout, _, keys = adapter._matched(params, name)
        parts: dict[str, list[str]] = {}
        for leaf in keys:
            if _is_square(layout[leaf].axes, params[keys[leaf]].shape):
                parts.setdefault(layout[leaf].role, []).append(leaf)
        for leaves in parts.values():
            found.setdefault(", ".join(leaves), []).extend(keys[leaf] for leaf in leaves)
    return {leaves: tuple(names) for leaves, names in found.items()}


def _is_square(axes: tuple[str | int, ...], shape: tuple[int, ...]) -> bool:
    two = len(axes) > 1 and all(isinstance(axis, str) for axis in axes[:2])
    return two and axes[0] != axes[1] and shape[0] == shape[1] > 1


def transposed(params: Mapping[str, Any], names: tuple[str, ...]) -> Params:
    """The parameters with the first two axes of some arrays exchanged."""
    return {**params, **{name: np.ascontiguousarray(np.swapaxes(params[name], 0, 1)) for name in names}}
