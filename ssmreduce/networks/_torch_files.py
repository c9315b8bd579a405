"""Reduced PyTorch networks: a description of their layers, and the way back from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._support.trees import FOREIGN, foreign_name
from ..errors import CheckpointFormatError, SSMReduceError
from ._torch import RECORD_ATTRIBUTE
from ._torch_calls import empty_layer
from ._torch_layers import SSMLayer
from ._torch_places import independent_copy, set_submodule, submodule, with_whole_layer


def describe(module: Any) -> dict[str, Any]:
    """See `_files.describe`."""
    found = {name or ".": part.description() for name, part in module.named_modules() if isinstance(part, SSMLayer)}
    record = getattr(module, RECORD_ATTRIBUTE, None)
    return {"framework": "torch", "layers": found, "record": None if record is None else json.loads(record)}


def restore(module: Any, arrays: Mapping[str, np.ndarray], found: Mapping[str, Any], path: Path) -> Any:
    """See `_files.restore`."""
    result = independent_copy(module)
    for name, options in found["layers"].items():
        old = submodule(result, name)  # raises where the module lacks it
        layer = _described_layer(name, options, arrays).to(next(iter(old.parameters())).device)
        if name == ".":
            result = layer
            continue
        set_submodule(result, name, layer)
        if layer.call == "kernel":
            result = with_whole_layer(result, name.rpartition(".")[0] or ".")
    try:
        result.load_state_dict({name: _tensor(leaf) for name, leaf in arrays.items()})
    except RuntimeError as error:
        raise CheckpointFormatError(f"{path} does not fit the module: {error}") from error
    if found.get("record") is not None:
        setattr(result, RECORD_ATTRIBUTE, json.dumps(found["record"]))
    return result.eval()


def _described_layer(name: str, options: Mapping[str, Any], arrays: Mapping[str, Any]) -> SSMLayer:
    """The layer of a description, whose size is compared with the arrays before memory is taken."""
    try:
        most = sum(int(np.prod(array.shape)) for array in arrays.values() if hasattr(array, "shape"))
        if len(options["counts"]) * max(options["counts"], default=0) * options["inputs"] > most:
            raise ValueError("it is larger than the arrays of the file")
        return empty_layer(**options)
    except SSMReduceError:
        raise
    except Exception as error:  # whatever the file says
        raise CheckpointFormatError(f"the description of the layer {name!r} cannot be used: {error}") from error


def _tensor(leaf: Any) -> Any:
    return tensor_of(leaf) if isinstance(leaf, np.ndarray) else leaf


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Tensor on the memory of an array."""
    foreign = foreign_name(array.dtype)
    if foreign is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view("i2" if FOREIGN[foreign] == "<u2" else "u1")).view(getattr(torch, foreign))
