"""The verbs at both ends of the corridor: load, read, save."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._support.arguments import require_path
from .._support.memory import Budget
from .._support.trees import flatten
from ..adapters import Adapter, families
from ..adapters._detect import recognised
from ..errors import CheckpointFormatError, FlagError
from ._checkpoints import read_contents, write_file
from ._folders import read_folder
from ._model import SSMModel, export, writable

_METADATA_KEY = "ssmreduce.adapter"
_ROOT_KEY = "ssmreduce.root"


def load(
    path: str | os.PathLike, *, adapter: Adapter | None = None, root: str | None = None, max_bytes: int | None = None
) -> SSMModel:
    """Read a checkpoint file.

    Parameters
    ----------
    path : path
        npz, safetensors, Flax msgpack, or a PyTorch file; told by its content. Or a folder as Hugging Face libraries
        write it, with one file or shards.
    adapter : Adapter, optional
        Which arrays are which system. By default found by the names and shapes of the tensors; it must be given where
        the file cannot tell everything (S5: ``conj_sym`` and ``discretization``). A safetensors file that `save` wrote
        remembers its adapter, and the ``config.json`` of a folder gives the flags that it names.
    root : str, optional
        Name below which the layers stand, where the file holds several copies of one model, such as a moving average:
        ``"ema_state_dict"``; ``""`` for the one that is no such copy. A safetensors file that `save` wrote remembers
        it.
    max_bytes : int, optional
        Memory that the tensors may take; by default what the machine has left. A small file can ask for much memory.

    Returns
    -------
    SSMModel

    Raises
    ------
    MissingFileError, CheckpointFormatError, UnsafeFileError
        The file cannot be read, or its checksums are not those of its tensors.
    FileTooLargeError
        Tensors that take more memory than `max_bytes`.
    AdapterError, IncompleteLayerError, MissingFlagError
        No, more than one, or no complete layer is recognised, or a flag must be given; or there are several copies of
        one model and no `root`.
    UnknownNameError
        No layer below the `root`.
    NonFiniteError
        NaN or infinite parameters in a layer, or parameters that overflow (a huge ``gamma_log``); they are named.

    Warns
    -----
    CheckpointWarning
        The numbering of the layers has a gap, or a layer has but a few of its tensors.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import ssmreduce as sr
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(sr.models.example(), pathlib.Path(folder, "model.safetensors"))
    ...     load(pathlib.Path(folder, "model.safetensors"))
    SSMModel(4 layers, 256 states, adapter=S5(conj_sym=True, discretization='zoh', clip_eigs=False, step_rescale=1.0))
    """
    require_path(path)
    flags: Mapping[str, Any] = {}
    budget = Budget(max_bytes)
    if Path(path).is_dir():
        (params, metadata, checksum), flags = read_folder(Path(path), budget)
    else:
        params, metadata, checksum = read_contents(path, budget)
    if adapter is None and _METADATA_KEY in metadata:
        adapter = _remembered(metadata[_METADATA_KEY])
    root = metadata.get(_ROOT_KEY) if root is None else root
    return _model(params, adapter, flags, root, metadata, checksum)


def read(source: Any, *, adapter: Adapter | None = None, root: str | None = None) -> SSMModel:
    """Read a model from memory.

    Parameters
    ----------
    source : mapping or module
        A nested Flax/JAX tree, a flat mapping, a PyTorch state_dict or a live ``torch.nn.Module``. Neither framework is
        imported; device tensors are copied to the host.
    adapter : Adapter, optional
    root : str, optional
        As in `load`.

    Returns
    -------
    SSMModel
        Its arrays may share memory with the source, as NumPy's do with PyTorch's.

    Raises
    ------
    CheckpointFormatError
        Not a mapping or module.
    AdapterError, IncompleteLayerError, MissingFlagError, UnknownNameError, NonFiniteError
        As in `load`.

    Examples
    --------
    >>> import numpy as np
    >>> tree = {"nu_log": np.zeros(3), "theta_log": np.zeros(3), "gamma_log": np.zeros(3), "D": np.ones(2),
    ...         "B_re": np.ones((3, 2)), "B_im": np.ones((3, 2)), "C_re": np.ones((2, 3)), "C_im": np.ones((2, 3))}
    >>> read({"layers_0": {"seq": tree}})
    SSMModel(1 layers, 3 states, adapter=LRU())
    """
    return _model(flatten(source), adapter, {}, root, {}, "")


def save(model: SSMModel, path: str | os.PathLike, *, form: str = "compact") -> None:
    """Write the model's checkpoint, whole or not at all.

    Parameters
    ----------
    model : SSMModel
    path : path
        The suffix names the format: ``.npz``, ``.safetensors``, ``.msgpack``, or ``.pt`` (``.pth``, ``.ckpt``,
        ``.bin``).
    form : {"compact", "mask", "padded"}
        See `export`.

    Raises
    ------
    UnknownNameError, NotRepresentableError
        As in `export`.
    CheckpointFormatError
        An unknown suffix, or a leaf that the format cannot hold.
    WriteError
        The file could not be written, or what was read back is not what was to be written; what stood there before is
        untouched.

    Notes
    -----
    Parameters that are not part of a changed layer are written bit for bit as they were read. A safetensors file also
    remembers the adapter and its flags, so that `load` needs none, and a SHA-256 of each tensor. The file is written
    under another name beside the path, read back, brought to the disk and then renamed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(model, pathlib.Path(folder, "copy.npz"))
    ...     load(pathlib.Path(folder, "copy.npz"), adapter=model.adapter).orders == model.orders
    True
    """
    params = export(model, form=form)
    adapter = writable(model).adapter if params.keys() != model.params.keys() else model.adapter
    metadata = {key: text for key, text in model.metadata.items() if key != _METADATA_KEY}
    if isinstance(adapter, Adapter) and families().get(adapter.name) is type(adapter):
        metadata[_METADATA_KEY] = json.dumps({"name": adapter.name, **asdict(adapter)})
    write_file(path, params, metadata)


def _model(
    params: Mapping[str, Any],
    adapter: Adapter | None,
    flags: Mapping[str, Any],
    root: str | None,
    metadata: Mapping[str, str],
    checksum: str,
) -> SSMModel:
    if not isinstance(adapter, Adapter | None):
        raise FlagError(f"adapter must be an instance such as adapters.LRU() or adapters.S5(...), got {adapter!r}")
    adapter, layers = recognised(params, adapter, flags, root)
    metadata = metadata if root is None else {**metadata, _ROOT_KEY: root}
    slots = {name: adapter.kept(params, name) for name in layers}
    keep = {name: index for name, index in slots.items() if index is not None}
    return SSMModel(params, adapter, layers, keep=keep, metadata=metadata, checksum=checksum)


def _remembered(text: str) -> Adapter:
    try:
        flags = json.loads(text)
        name = flags.pop("name")
        return families()[name].from_flags(flags)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointFormatError(
            f"the adapter that the file remembers cannot be read ({text[:200]!r}); give adapter=..."
        ) from error
