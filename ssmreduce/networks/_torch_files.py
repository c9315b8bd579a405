"""Files of reduced PyTorch networks: a description of their layers beside the tensors, and the way back."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._support.arguments import described, require_path
from .._support.trees import FOREIGN, flatten, foreign_name
from .._support.whole import write_whole
from ..errors import ArgumentError, CheckpointFormatError, SSMReduceError
from ..models._checkpoints import read_contents, write_file
from ._card import model_card
from ._protocol import RECORD
from ._torch import RECORD_ATTRIBUTE
from ._torch_calls import empty_layer
from ._torch_layers import SSMLayer
from ._torch_places import independent_copy, submodule

LAYERS_KEY = "ssmreduce.layers"
"""Key of the metadata of a safetensors file under which the description of the layers stands, as JSON."""


def describe(module: Any) -> dict[str, Any]:
    """What makes the drop-in layers of a reduced module anew, as plain data for JSON.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict
        ``layers``: name of the submodule -> keyword arguments of `empty_layer`; ``record``: what was done to the
        network, where it is known.

    Raises
    ------
    ArgumentError
        No module, or one without drop-in layers.
    """
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(f"module is {described(module)}; a reduced torch.nn.Module is needed")
    layers = {name or ".": part.description() for name, part in module.named_modules() if isinstance(part, SSMLayer)}
    if not layers:
        raise ArgumentError("the module has no drop-in layer: give what compress or replace_layers returned")
    record = getattr(module, RECORD_ATTRIBUTE, None)
    return {"layers": layers, "record": None if record is None else json.loads(record)}


def save_module(module: Any, path: str | os.PathLike, *, evidence: Mapping[str, Any] | None = None) -> None:
    """Write a reduced module: one safetensors file, or a folder in the style of Hugging Face.

    Parameters
    ----------
    module : torch.nn.Module
        What `compress` or `replace_layers` returned.
    path : path
        ``*.safetensors`` for one file; anything else is a folder, which gets ``model.safetensors``, ``config.json`` and
        a model card, ``README.md``.
    evidence : mapping, optional
        Numbers or text for the model card: accuracies, agreement, certificates.

    Raises
    ------
    ArgumentError
        A module without drop-in layers.
    WriteError
        A file that could not be written.
    """
    require_path(path)
    description = describe(module)
    metadata = {"format": "pt", LAYERS_KEY: json.dumps(description["layers"])}
    metadata["ssmreduce.adapter"] = json.dumps({"name": "dropin"})
    if description["record"] is not None:
        metadata[RECORD] = json.dumps(description["record"])
    target = Path(path)
    if target.suffix == ".safetensors":
        write_file(target, flatten(module), metadata)
        return
    target.mkdir(parents=True, exist_ok=True)
    write_file(target / "model.safetensors", flatten(module), metadata)
    config = {"architectures": [type(module).__name__], "model_type": "ssmreduce", "ssmreduce": description}
    write_whole(target / "config.json", lambda file: file.write(f"{json.dumps(config, indent=2)}\n".encode()))
    card = model_card(type(module).__name__, description, {} if evidence is None else evidence)
    write_whole(target / "README.md", lambda file: file.write(card.encode()))


def restore(module: Any, path: str | os.PathLike, *, description: Mapping[str, Any] | None = None) -> Any:
    """The reduced network again, from its file and a module of the original architecture.

    Parameters
    ----------
    module : torch.nn.Module
        A network as its own code makes it, of any weights and numbers of states; it is not changed.
    path : path
        What `save_module` wrote, a folder or a safetensors file, or a state dict of ``torch.save``.
    description : mapping, optional
        What `describe` returned. By default it is read from the file or folder; for a state dict from the file of the
        same name with the suffix ``.json``.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Raises
    ------
    MissingFileError, CheckpointFormatError
        A file that is not there or is none of these.
    UnknownLayerError
        A layer that the module does not have.
    """
    require_path(path)
    if not isinstance(module, torch.nn.Module):
        raise ArgumentError(f"module is {described(module)}; a torch.nn.Module of the original architecture is needed")
    tensors, found = _read(Path(path))
    found = found if description is None else description
    if not isinstance(found, Mapping) or "layers" not in found:
        raise CheckpointFormatError(f"{path} holds no description of its layers; give description=describe(module)")
    result = independent_copy(module)
    for name, options in found["layers"].items():
        old = submodule(result, name)  # raises where the module lacks it
        layer = _described_layer(name, options, tensors).to(next(iter(old.parameters())).device)
        if name == ".":
            result = layer
            continue
        parent, _, leaf = name.rpartition(".")
        submodule(result, parent or ".")._modules[leaf] = layer
    try:
        result.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointFormatError(f"{path} does not fit the module: {error}") from error
    if found.get("record") is not None:
        setattr(result, RECORD_ATTRIBUTE, json.dumps(found["record"]))
    return result.eval()


def _described_layer(name: str, options: Mapping[str, Any], tensors: Mapping[str, Any]) -> SSMLayer:
    """The layer of a description, whose size is compared with the tensors before memory is taken."""
    try:
        most = sum(value.numel() for value in tensors.values() if isinstance(value, torch.Tensor))
        if len(options["counts"]) * max(options["counts"], default=0) * options["inputs"] > most:
            raise ValueError("it is larger than the tensors of the file")
        return empty_layer(**options)
    except SSMReduceError:
        raise
    except Exception as error:  # whatever the file says
        raise CheckpointFormatError(f"the description of the layer {name!r} cannot be used: {error}") from error


def _read(path: Path) -> tuple[dict[str, torch.Tensor], Any]:
    """Tensors, and the description where one is beside them."""
    if path.is_dir():
        path = path / "model.safetensors"
    params, metadata, _ = read_contents(path)
    tensors = {name: tensor_of(leaf) if isinstance(leaf, np.ndarray) else leaf for name, leaf in params.items()}
    layers, record, beside = metadata.get(LAYERS_KEY), metadata.get(RECORD), path.with_suffix(".json")
    try:
        if path.suffix == ".safetensors":
            found = {"layers": json.loads(layers), "record": json.loads(record) if record else None} if layers else None
        else:
            found = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointFormatError(f"the description of {str(path)!r} cannot be read: {error}") from error
    return tensors, found


def tensor_of(array: np.ndarray) -> torch.Tensor:
    """Tensor on the memory of an array."""
    foreign = foreign_name(array.dtype)
    if foreign is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view("i2" if FOREIGN[foreign] == "<u2" else "u1")).view(getattr(torch, foreign))
