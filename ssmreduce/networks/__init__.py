"""Live networks: the whole thing around the layers, run and rebuilt in the user's own framework."""

import importlib
from typing import Any

from ._batches import sequences_in, take_sequences
from ._capture import flax_inputs, torch_inputs
from ._export_c import export_c
from ._exports import export_onnx, exportable
from ._files import describe, restore, save_module
from ._folders import load_selective, save_selective
from ._forwards import lru_deep, s4d_minimal, s5_digits, s5_flax
from ._live import register_kinds
from ._numpy import NumpyNetwork
from ._protocol import RECORD, Gradients, Network, Pullback, network, register
from ._recurrent import stepper
from ._replace import replace_layers
from ._selective import mixer_layer, replace_mixers, selective_mixers
from ._stepper import Stepper
from ._torch import TorchNetwork
from ._walk import Visit, call_network, evaluating, walk

_LAZY = {
    "EquinoxLayer": "_equinox_layers",
    "EquinoxNetwork": "_equinox_network",
    "FlaxLayer": "_flax_layers",
    "FlaxNetwork": "_flax_network",
    "NnxLayer": "_nnx_network",
    "NnxNetwork": "_nnx_network",
    "PerLayerMamba2ForCausalLM": "_per_layer",
    "PerLayerMambaForCausalLM": "_per_layer",
    "ReducedFlax": "_flax_network",
    "SSMLayer": "_torch_layers",
    "SelectiveMixer": "_mixers",
    "empty_layer": "_torch_calls",
}
"""Names that need a framework -> the file that imports it."""

__all__ = [
    "RECORD",
    "Gradients",
    "Network",
    "NumpyNetwork",
    "Pullback",
    "Stepper",
    "TorchNetwork",
    "Visit",
    "call_network",
    "describe",
    "evaluating",
    "export_c",
    "export_onnx",
    "exportable",
    "flax_inputs",
    "load_selective",
    "lru_deep",
    "mixer_layer",
    "network",
    "register",
    "replace_layers",
    "replace_mixers",
    "restore",
    "s4d_minimal",
    "s5_digits",
    "s5_flax",
    "save_module",
    "save_selective",
    "selective_mixers",
    "sequences_in",
    "stepper",
    "take_sequences",
    "torch_inputs",
    "walk",
]

register_kinds()
register("a function", callable, NumpyNetwork)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
