"""Folders as Hugging Face libraries write them: one file or shards, and a ``config.json``. Nothing is executed."""

import json
from pathlib import Path
from typing import Any

from .._support.memory import Budget
from .._support.trees import Params
from ..errors import CheckpointFormatError, MissingFileError
from ._checkpoints import Contents, read_contents

_FILES = ("model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_folder(folder: Path, budget: Budget | None = None) -> tuple[Contents, dict[str, Any]]:
    """Parameters, text metadata and configuration of a folder.

    Parameters
    ----------
    folder : Path
        With ``model.safetensors``, ``pytorch_model.bin`` or ``flax_model.msgpack``, or with an index of shards
        (``model.safetensors.index.json``, ``pytorch_model.bin.index.json``).
    budget : Budget, optional
        Memory that the tensors of all files together may take; by default what the machine has left.

    Returns
    -------
    contents : Contents
        name -> NumPy array, of all shards; text metadata of the files; which checksums were verified.
    config : dict
        ``config.json``, empty where there is none. Code that the folder brings along (``auto_map``) is not run.

    Raises
    ------
    MissingFileError
        No such file in the folder, or a shard that the index names is missing.
    CheckpointFormatError
        An index or configuration that cannot be read, shards that hold other tensors than the index says.
    """
    budget = Budget() if budget is None else budget
    config_file = folder / "config.json"
    config = _json(config_file) if config_file.is_file() else {}
    for name in _INDICES:
        if (folder / name).is_file():
            return _shards(folder, name, budget), config
    for name in _FILES:
        if (folder / name).is_file():
            return read_contents(folder / name, budget), config
    raise MissingFileError(
        f"the folder {str(folder)!r} holds none of {', '.join((*_FILES, *_INDICES))}; give the checkpoint file itself"
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointFormatError(f"{str(path)!r} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointFormatError(f"{str(path)!r} must hold an object, got {type(content).__name__}")
    return content


def _shards(folder: Path, index: str, budget: Budget) -> Contents:
    places = _json(folder / index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise CheckpointFormatError(f"{index} in {str(folder)!r} has no weight_map from tensors to files")
    params: Params = {}
    metadata: dict[str, str] = {}
    checksums: set[str] = set()
    for file in sorted(set(places.values())):
        if Path(file).name != file:
            raise CheckpointFormatError(f"{index} in {str(folder)!r} names {file!r}, which is not in the folder")
        shard = read_contents(folder / file, budget)
        params.update(shard.params)
        metadata.update(shard.metadata)
        checksums.add(shard.checksum)
    if missing := sorted(set(places) - set(params)):
        raise CheckpointFormatError(
            f"{index} in {str(folder)!r} lists {len(missing)} tensor(s) that its files do not hold: {missing[0]!r} ..."
        )
    return Contents(params, metadata, ", ".join(sorted(checksums)))
