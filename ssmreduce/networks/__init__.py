"""Live networks around the layers."""

from typing import Any

from ._capture import flax_inputs, torch_inputs
from ._folders import load_selective, save_selective
from ._selective import mixer_layer, replace_mixers, selective_mixers
from ._walk import Visit, call_network, evaluating, walk

__all__ = [
    "SelectiveMixer",
    "Visit",
    "call_network",
    "evaluating",
    "flax_inputs",
    "load_selective",
    "mixer_layer",
    "replace_mixers",
    "save_selective",
    "selective_mixers",
    "torch_inputs",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name == "SelectiveMixer":
        from ._mixers import SelectiveMixer

        return SelectiveMixer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
