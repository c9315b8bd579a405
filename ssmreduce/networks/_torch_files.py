"""Reduced PyTorch networks: a description of their layers, and the way back from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._support.trees import FOREIGN, foreign_name
from ..errors import CheckpointFormatError
from ._torch import RECORD_ATTRIBUTE
from ._torch_calls import empty_layer
from ._torch_layers import SSMLayer
from ._torch_places import independent_copy, submodule


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
        layer = empty_layer(**options).to(next(iter(old.parameters())).device)
        if name == ".":
            result = layer
            continue
        parent, _, leaf = name.rpartition(".")
        submodule(result, parent or ".")._modules[leaf] = layer
    try:
        result.load_state_dict({name: _tensor(array) for name, array in arrays.items()})
    except RuntimeError as error:
        raise CheckpointFormatError(f"{path} does not fit the module: {error}") from error
    if found.get("record") is not None:
        setattr(result, RECORD_ATTRIBUTE, json.dumps(found["record"]))
    return result.eval()


def _tensor(array: Any) -> torch.Tensor:
    if not isinstance(array, np.ndarray):
        return array
    foreign = foreign_name(array.dtype)
    if foreign is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view("i2" if FOREIGN[foreign] == "<u2" else "u1")).view(getattr(torch, foreign))
