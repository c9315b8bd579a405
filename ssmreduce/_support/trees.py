"""Nested trees in memory (Flax/JAX trees, state_dicts, modules) to a flat mapping name -> array, and back.

Names of nested containers are joined with "/"; a state_dict keeps its dotted names. No framework is imported.
"""

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CheckpointFormatError
from .arguments import require_kind

Params = dict[str, Any]
"""Flat mapping: name -> NumPy array, or any other leaf, which is passed through."""

FOREIGN = {"bfloat16": "<u2", "float8_e4m3fn": "u1", "float8_e5m2": "u1"}


def foreign_dtype(name: str) -> np.dtype:
    """Dtype that carries the raw bits of a format that NumPy lacks: one unsigned field named after the format."""
    return np.dtype([(name, FOREIGN[name])])


def foreign_name(dtype: np.dtype) -> str | None:
    """Name of the format whose bits a dtype carries, or None."""
    return dtype.names[0] if dtype.names and dtype.names[0] in FOREIGN else None


def flatten(tree: Any, *, most: int | None = None) -> Params:
    """Flat mapping of a nested mapping, a state_dict, or an object with ``state_dict()``; frameworks are not imported.

    Parameters
    ----------
    tree : mapping or module
        Nested mapping with string keys (Flax/JAX trees), a PyTorch state_dict or a live ``torch.nn.Module``.
    most : int, optional
        Largest number of leaves; a tree can name one branch any number of times.

    Returns
    -------
    dict
        name -> NumPy array; other leaves (numbers, None, lists, empty mappings, mappings with keys that are not
        strings or contain "/") as they are.

    Raises
    ------
    CheckpointFormatError
        Not a mapping or module, a nested mapping with "/" in a key of its top level, a tree that contains itself or
        is nested too deeply, or one with more than `most` leaves.

    Examples
    --------
    >>> flatten({"params": {"seq": {"D": [1.0, 2.0]}}})
    {'params/seq/D': [1.0, 2.0]}
    """
    if not isinstance(tree, Mapping) and callable(getattr(tree, "state_dict", None)):
        tree = tree.state_dict()
    if not isinstance(tree, Mapping) or not all(isinstance(key, str) for key in tree):
        raise CheckpointFormatError(
            f"expected a mapping from names to parameters or a module with state_dict(), got {type(tree).__name__}"
        )
    flat: Params = {}
    try:
        _flatten_into(flat, tree, "", most)
    except RecursionError as error:
        raise CheckpointFormatError("the tree contains itself, or is nested too deeply") from error
    return flat


def _flatten_into(flat: Params, tree: Mapping, prefix: str, most: int | None) -> None:
    nested = prefix or any(_is_branch(value) for value in tree.values())
    for key, value in tree.items():
        if nested and "/" in key:
            raise CheckpointFormatError(
                f"the key {key!r} of a nested mapping contains '/', which joins the levels here; flatten it yourself"
            )
        if _is_branch(value) and not any("/" in inner for inner in value):
            _flatten_into(flat, value, f"{prefix}{key}/", most)
        elif most is not None and len(flat) >= most:
            raise CheckpointFormatError("the tree has more leaves than the file could hold: it repeats itself")
        else:
            flat[prefix + key] = _as_numpy(value)


def _is_branch(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0 and all(isinstance(key, str) for key in value)


def _as_numpy(leaf: Any) -> Any:
    """NumPy array of a framework's tensor; anything else unchanged."""
    if hasattr(leaf, "detach") and hasattr(leaf, "numpy"):
        return tensor_to_numpy(leaf)
    if hasattr(leaf, "__array__") and hasattr(leaf, "dtype") and not isinstance(leaf, np.generic):
        leaf = np.asarray(leaf)
        if leaf.dtype.name in FOREIGN:
            leaf = leaf.view(foreign_dtype(leaf.dtype.name))
    return leaf


def tensor_to_numpy(tensor: Any) -> np.ndarray:
    """Array of a PyTorch tensor, on the same memory where that is possible."""
    torch, tensor = sys.modules["torch"], tensor.detach().cpu()  # a tensor exists, so it has been imported
    name = str(tensor.dtype).removeprefix("torch.")
    if name in FOREIGN:
        bits = torch.int16 if FOREIGN[name] == "<u2" else torch.uint8
        return tensor.contiguous().view(bits).numpy().view(foreign_dtype(name))
    return tensor.resolve_conj().resolve_neg().numpy()


def unflatten(params: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mapping of names joined with "/": the inverse of `flatten` for trees.

    Parameters
    ----------
    params : mapping
        Flat mapping name -> leaf.

    Returns
    -------
    dict

    Raises
    ------
    ArgumentError
        No mapping, or a name that is no text.
    CheckpointFormatError
        A name that is both a leaf and the beginning of another name.

    Examples
    --------
    >>> unflatten({"params/seq/D": 1.0, "params/seq/B": 2.0})
    {'params': {'seq': {'D': 1.0, 'B': 2.0}}}
    """
    require_kind(params, Mapping, "params", "a mapping from names to parameters is needed")
    tree: dict[str, Any] = {}
    for name, leaf in params.items():
        require_kind(name, str, "a name in params", "text is needed")
        *path, last = name.split("/")
        node = tree
        for key in path:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise CheckpointFormatError(f"{name!r} goes through a name that is itself a tensor")
        if last in node:
            raise CheckpointFormatError(f"{name!r} is both a tensor and the beginning of another name")
        node[last] = leaf
    return tree
