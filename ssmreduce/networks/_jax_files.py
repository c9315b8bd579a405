"""Reduced Flax and Equinox networks: a description of their layers, their arrays, and the way back."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CheckpointFormatError
from ._flat import Parts, Structure
from ._jax_models import told_by
from ._jax_network import JaxNetwork
from ._protocol import RECORD

_PARAMETERS = ("log_rate", "angle", "B", "C", "C_reverse", "D")
_TOLD = ("unit", "side", "owner")  # arrays of a layer that the live object does not have


def describe(net: JaxNetwork, live: Any) -> dict[str, Any]:
    """See `_files.describe`."""
    layers = {}
    for name, structure in net.replaced(live).items():
        options = net.options(name)
        layers[_dotted(name)] = {
            "counts": list(structure.counts),
            "inputs": structure.inputs,
            "outputs": structure.outputs,
            "bidirectional": structure.bidirectional,
            "diagonal": structure.diagonal,
            "channels_first": options["channels_first"],
            "others": options["others"],
        }
    record = net.model.metadata.get(RECORD)
    return {"framework": net.framework, "layers": layers, "record": None if record is None else json.loads(record)}


def contents(net: JaxNetwork, live: Any) -> dict[str, np.ndarray]:
    """Arrays of a live object, and what its layers know besides, under the names of PyTorch's drop-in layers."""
    arrays = dict(net.arrays(live))
    for name, structure in net.replaced(live).items():
        dotted = _dotted(name)
        arrays |= told_by(dotted, structure, arrays[f"{_start(dotted)}B"].dtype)
    return arrays


def restore(net: JaxNetwork, arrays: Mapping[str, np.ndarray], found: Mapping[str, Any], path: Path) -> Any:
    """See `_files.restore`."""
    names = {_dotted(name): name for name in net.base}
    placed: dict[str, Parts] = {}
    others: dict[str, int] = {}
    for dotted, options in found["layers"].items():
        if dotted not in names:
            raise CheckpointFormatError(f"{path} does not fit the network: it has {dotted!r}, not {', '.join(names)}")
        placed[names[dotted]] = _parts(arrays, dotted, options)
        others[names[dotted]] = int(options.get("others", 0))
    first = any(options.get("channels_first", False) for options in found["layers"].values())
    live = net.told(first, others).placed(placed, net.model)
    own = {key: value for key, value in arrays.items() if not _is_told(key, found["layers"])}
    now = net.arrays(live)
    wrong = [key for key in {**now, **own} if key not in now or key not in own or now[key].shape != own[key].shape]
    if wrong:
        raise CheckpointFormatError(
            f"{path} does not fit the network: {wrong[0]!r} is {_shape(own, wrong[0])} in the file and "
            f"{_shape(now, wrong[0])} in the network"
        )
    return net.with_arrays(live, own)


def _parts(arrays: Mapping[str, np.ndarray], name: str, options: Mapping[str, Any]) -> Parts:
    start = _start(name)
    values = {key: arrays[f"{start}{key}"] for key in _PARAMETERS if f"{start}{key}" in arrays}
    try:
        unit, side = (tuple(arrays[f"{start}{key}"].astype(float).tolist()) for key in ("unit", "side"))
        structure = Structure(
            tuple(options["counts"]),
            options["inputs"],
            options["outputs"],
            options["bidirectional"],
            options["diagonal"],
            unit,
            side,
        )
        size, inputs, _ = values["B"].shape
        if (sum(structure.counts), structure.inputs, len(unit), len(side)) != (size, inputs, size, size):
            raise ValueError("its arrays are of other sizes")
    except Exception as error:  # whatever the file says
        raise CheckpointFormatError(f"the description of the layer {name!r} cannot be used: {error!r}") from error
    return structure, values


def _dotted(name: str) -> str:
    return name.replace("/", ".")


def _start(name: str) -> str:
    return "" if name == "." else f"{name}."


def _is_told(key: str, layers: Mapping[str, Any]) -> bool:
    parent, _, leaf = key.rpartition(".")
    return leaf in _TOLD and (parent or ".") in layers


def _shape(arrays: Mapping[str, np.ndarray], key: str) -> str:
    return str(arrays[key].shape) if key in arrays else "missing"
