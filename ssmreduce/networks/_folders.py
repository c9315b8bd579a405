"""Folders in Hugging Face form of networks with selective mixers: stock ones where stock code can hold them."""

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .._support.arguments import require_path
from .._support.memory import Budget
from .._support.optional import optional_import
from .._support.trees import flatten
from .._support.whole import write_whole
from ..adapters import order_key
from ..errors import CheckpointFormatError, MissingFileError, NotRepresentableError, SSMReduceError
from ..models._checkpoints import write_file
from ..models._folders import read_folder
from ..selective import Mamba1SSM, Mamba2SSM
from ._selective import selective_mixers, set_mixer
from ._torch import RECORD_ATTRIBUTE

KEY = "ssmreduce_mixers"
"""Entry of config.json that describes drop-in mixers."""

PER_LAYER = {"mamba": "PerLayerMambaForCausalLM", "mamba2": "PerLayerMamba2ForCausalLM"}
"""Model type -> class that respects a state size for each layer."""


def save_selective(module: Any, path: str | os.PathLike, *, stock: bool | None = None) -> bool:
    """Write a transformers model, whose mixers may be drop-in ones, as a folder.

    Where all mixers have the same order and no mix, the folder is a stock one, with the smaller state size in its
    config.json: ``from_pretrained`` of transformers loads it, and so does other software. Mamba and Mamba-2 with other
    orders and no mix get a ``per_layer_config``, which `PerLayerMambaForCausalLM` and `PerLayerMamba2ForCausalLM`
    respect. Otherwise the config.json describes the drop-in mixers. `load_selective` loads all three.

    Parameters
    ----------
    module : transformers.PreTrainedModel
    path : path
        Folder; made where it is missing.
    stock : bool, optional
        True: raise where the folder cannot be a stock one; False: keep drop-in mixers in any case.

    Returns
    -------
    bool
        Whether the folder is a stock one.

    Raises
    ------
    NotRepresentableError
        ``stock=True``, and the mixers cannot be held by stock code.
    WriteError, MissingDependencyError

    Examples
    --------
    >>> from ssmreduce.networks import load_selective, save_selective
    >>> is_stock = save_selective(small, "small")  # doctest: +SKIP
    >>> small = load_selective("small")  # doctest: +SKIP
    """
    from ._mixers import SelectiveMixer

    mixers = {name: m for name, m in selective_mixers(module).items() if isinstance(m, SelectiveMixer)}
    config = json.loads(module.config.to_json_string(use_diff=False))
    state = dict(module.state_dict())
    if hasattr(module, RECORD_ATTRIBUTE):
        config[RECORD_ATTRIBUTE] = json.loads(getattr(module, RECORD_ATTRIBUTE))
    for form in (_as_stock, _as_per_layer) if stock is None else (_as_stock,) if stock else ():
        try:
            changed = form(mixers, config, state)
        except NotRepresentableError:
            if stock:
                raise
        else:
            _write(path, *changed, module)
            return form is _as_stock
    config[KEY] = {name: described(mixer) for name, mixer in mixers.items()}
    _write(path, config, state, module)
    return False


def _as_stock(mixers: dict[str, Any], config: dict[str, Any], state: dict[str, Any]) -> tuple[dict, dict]:
    orders = {mixer.order for mixer in mixers.values()}
    if len(orders) > 1 or (mixers and len(mixers) != len(_mixer_names(state))):
        raise NotRepresentableError("stock code has one number of states for all layers; keep drop-in mixers")
    state = _stock_state(mixers, state)
    return (config | {order_key(config): orders.pop()} if orders else config), state


def _as_per_layer(mixers: dict[str, Any], config: dict[str, Any], state: dict[str, Any]) -> tuple[dict, dict]:
    """As a configuration with a state size for each layer, for the classes that respect it."""
    if config.get("model_type") not in PER_LAYER:
        kind = config.get("model_type")
        raise NotRepresentableError(f"models of type {kind!r} have one number of states for all layers")
    sizes = {int(name.split(".layers.")[1].split(".")[0]): {order_key(config): m.order} for name, m in mixers.items()}
    changed = config | {"per_layer_config": sizes, "architectures": [PER_LAYER[config["model_type"]]]}
    return changed, _stock_state(mixers, state)


def _stock_state(mixers: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The tensors of a network whose drop-in mixers stand under the names of stock code."""
    torch = optional_import("torch", "torch")
    state = dict(state)
    for name, mixer in mixers.items():
        if mixer.adapter is None:
            raise NotRepresentableError(f"the mixer {name!r} did not take the place of a stock one")
        tensors = mixer.adapter.tensors(mixer.layer())
        for key in [key for key in state if key.startswith(f"{name}.")]:
            del state[key]
        for key, value in tensors.items():
            state[f"{name}.{key}"] = torch.as_tensor(value).to(mixer.in_proj.dtype).contiguous()
    return state


def _mixer_names(state: dict[str, Any]) -> list[str]:
    return [key for key in state if key.endswith(".A_log")]


def described(mixer: Any) -> dict[str, Any]:
    """Shapes of the arrays and values of the other fields of a layer, and its adapter."""
    layer = mixer.layer()
    entry: dict[str, Any] = {"kind": layer.kind, "arrays": {}, "values": {}}
    for field in fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, np.ndarray):
            entry["arrays"][field.name] = list(value.shape)
        elif value is not None:
            entry["values"][field.name] = [str(v) for v in value] if isinstance(value, tuple) else value
    return entry


def _write(path: str | os.PathLike, config: dict[str, Any], state: dict[str, Any], module: Any) -> None:
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for tied in getattr(module, "_tied_weights_keys", None) or ():
        if config.get("tie_word_embeddings"):
            state = {key: value for key, value in state.items() if key != tied}
    write_file(folder / "model.safetensors", flatten(state), {"format": "pt"})
    text = json.dumps(config, indent=2)
    write_whole(folder / "config.json", lambda file: file.write(f"{text}\n".encode()))


def load_selective(path: str | os.PathLike, *, max_bytes: int | None = None, **options: Any) -> Any:
    """Load a folder that `save_selective` wrote, or any stock one, as a causal language model of transformers.

    Its files are read as `ssmreduce.load` reads them: checksums are verified, and sizes are checked before memory is
    taken.

    Parameters
    ----------
    path : path
        Folder.
    max_bytes : int, optional
        Memory that the tensors of all files may take, and the model; by default what the machine has left.
    **options
        For ``from_pretrained`` of the model's class in transformers (stock folders).

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    MissingFileError, CheckpointFormatError, FileTooLargeError, MissingDependencyError

    Examples
    --------
    >>> small = load_selective("small")  # doctest: +SKIP
    """
    require_path(path)
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise MissingFileError(f"there is no config.json in {str(folder)!r}")
    transformers = optional_import("transformers", "transformers")
    from ._torch_files import tensor_of

    contents, described_by = read_folder(folder, Budget(max_bytes))
    tensors = {name: tensor_of(leaf) for name, leaf in contents.params.items() if isinstance(leaf, np.ndarray)}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        cls = _causal_class(config)
        Budget(max_bytes).take(_size(cls, config), folder)
        if KEY not in described_by:
            module = cls.from_pretrained(None, config=config, state_dict=tensors, **options)
        else:
            module = _with_mixers(cls(config), described_by[KEY], tensors)
    except SSMReduceError:
        raise
    except Exception as error:  # what transformers and PyTorch say of a configuration, or of tensors
        raise CheckpointFormatError(f"{str(folder)!r} cannot be made a model of transformers: {error}") from error
    if RECORD_ATTRIBUTE in described_by:
        setattr(module, RECORD_ATTRIBUTE, json.dumps(described_by[RECORD_ATTRIBUTE]))
    return module


def _size(cls: Any, config: Any) -> int:
    """Bytes of the parameters that a configuration asks for; none are allocated."""
    with optional_import("torch", "torch").device("meta"):
        return sum(parameter.nbytes for parameter in cls(config).parameters())


def _with_mixers(module: Any, mixers: Mapping[str, Any], tensors: Mapping[str, Any]) -> Any:
    """The module with drop-in mixers as they are described, and with the tensors."""
    for name, entry in mixers.items():
        for field, shape in entry["arrays"].items():  # before memory is taken for it
            if list(tensors[f"{name}.{field}"].shape) != shape:
                raise CheckpointFormatError(f"{name}.{field} is described with the shape {shape}, which it has not")
        set_mixer(module, name, _empty_layer(entry))
    module.to(next(value.dtype for value in tensors.values() if value.is_floating_point()))
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    if unexpected or [key for key in missing if key not in (module._tied_weights_keys or ())]:
        raise CheckpointFormatError(f"the folder lacks {missing} and has {unexpected} too much")
    module.tie_weights()
    return module.eval()


def _causal_class(config: Any) -> Any:
    """Class of the causal language model of a configuration; the one with a state size per layer where it has that."""
    if config.is_heterogeneous and config.model_type in PER_LAYER:
        from . import _per_layer

        return getattr(_per_layer, PER_LAYER[config.model_type])
    return optional_import("transformers", "transformers").MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]


def _empty_layer(entry: dict[str, Any]) -> Any:
    cls: Any = Mamba1SSM if entry["kind"] == "mamba1" else Mamba2SSM
    arrays = {
        name: np.zeros(shape, dtype=np.int64 if name == "take_B" else np.float64)
        for name, shape in entry["arrays"].items()
    }
    values: dict[str, Any] = dict(entry["values"])
    if "dt_limit" in values:
        values["dt_limit"] = tuple(float(v) for v in values["dt_limit"])
    return cls(**arrays, **values)
