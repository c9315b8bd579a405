"""Folders in Hugging Face form of networks with selective mixers: stock ones where stock code can hold them."""

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .._support.optional import optional_import
from .._support.whole import write_whole
from ..adapters import order_key
from ..errors import CheckpointFormatError, MissingFileError, NotRepresentableError
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
    optional_import("torch", "torch")
    from safetensors.torch import save

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for tied in getattr(module, "_tied_weights_keys", None) or ():
        if config.get("tie_word_embeddings"):
            state = {key: value for key, value in state.items() if key != tied}
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    write_whole(folder / "model.safetensors", lambda file: file.write(save(tensors, metadata={"format": "pt"})))
    text = json.dumps(config, indent=2)
    write_whole(folder / "config.json", lambda file: file.write(f"{text}\n".encode()))


def load_selective(path: str | os.PathLike, **options: Any) -> Any:
    """Load a folder that `save_selective` wrote, or any stock one, as a causal language model of transformers.

    Parameters
    ----------
    path : path
        Folder.
    **options
        For ``AutoModelForCausalLM.from_pretrained`` (stock folders).

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    MissingFileError, CheckpointFormatError, MissingDependencyError

    Examples
    --------
    >>> small = load_selective("small")  # doctest: +SKIP
    """
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise MissingFileError(f"there is no config.json in {str(folder)!r}")
    transformers = optional_import("transformers", "transformers")
    try:
        config = json.loads((folder / "config.json").read_text())
    except ValueError as error:
        raise CheckpointFormatError(f"config.json in {str(folder)!r} is not JSON: {error}") from None
    mixers = config.get(KEY)
    if mixers is None:
        return _with_record(_causal_class(config).from_pretrained(folder, **options), config)
    from safetensors.torch import load_file

    module = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    state = {key: value for file in sorted(folder.glob("*.safetensors")) for key, value in load_file(file).items()}
    if not state:
        raise MissingFileError(f"there is no safetensors file in {str(folder)!r}")
    for name, entry in mixers.items():
        set_mixer(module, name, _empty_layer(entry))
    module.to(next(value.dtype for value in state.values() if value.is_floating_point()))
    missing, unexpected = module.load_state_dict(state, strict=False)
    if unexpected or [key for key in missing if key not in (module._tied_weights_keys or ())]:
        raise CheckpointFormatError(f"{str(folder)!r} lacks {missing} and has {unexpected} too much")
    module.tie_weights()
    return _with_record(module.eval(), config)


def _causal_class(config: dict[str, Any]) -> Any:
    if config.get("per_layer_config") and config.get("model_type") in PER_LAYER:
        from . import _per_layer

        return getattr(_per_layer, PER_LAYER[config["model_type"]])
    return optional_import("transformers", "transformers").AutoModelForCausalLM


def _with_record(module: Any, config: dict[str, Any]) -> Any:
    if RECORD_ATTRIBUTE in config:
        setattr(module, RECORD_ATTRIBUTE, json.dumps(config[RECORD_ATTRIBUTE]))
    return module


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
