"""One adapter a model family: which arrays of a checkpoint are which system."""

from collections.abc import Mapping
from typing import Any

from ..errors import AdapterError, IncompleteLayerError
from ._base import Adapter, Layout, Tensor
from ._lru import LRU
from ._mamba import MambaAdapter, mamba_adapter, order_key
from ._s4d import S4D
from ._s5 import S5, S5PyTorch

ADAPTERS: dict[str, type[Adapter]] = {cls.name: cls for cls in (S5, S5PyTorch, S4D, LRU)}
"""The families that are looked for in a checkpoint, by name."""

__all__ = [
    "ADAPTERS",
    "LRU",
    "S4D",
    "S5",
    "Adapter",
    "Layout",
    "MambaAdapter",
    "S5PyTorch",
    "Tensor",
    "detect",
    "layers_of",
    "mamba_adapter",
    "order_key",
]


def detect(params: Mapping[str, Any]) -> Adapter:
    """Adapter of the one family that claims the checkpoint.

    Parameters
    ----------
    params : mapping
        Flat parameters.

    Returns
    -------
    Adapter

    Raises
    ------
    AdapterError
        No family claims a layer, or two do; the message names them.
    IncompleteLayerError
        There are layers of a family, none of them complete.
    MissingFlagError
        The family is clear, but a flag must be given.
    """
    claims = {name: cls.find(params) for name, cls in ADAPTERS.items()}
    claims = {name: layers for name, layers in claims.items() if layers}
    if len(claims) > 1:
        named = " and ".join(f"{name} ({layers[0]!r}, ...)" for name, layers in claims.items())
        raise AdapterError(f"{named} both claim layers of this checkpoint; name the one you mean with adapter=...")
    if not claims:
        if guesses := [(cls, name) for cls in ADAPTERS.values() for name in cls.candidates(params)[:1]]:
            cls, name = min(guesses, key=lambda guess: guess[0].explain(params, guess[1]))
            raise _incomplete(cls, params, name)
        raise AdapterError(
            f"no adapter ({', '.join(ADAPTERS)}) recognises a layer among the {len(params)} tensors (lists, and "
            "mappings whose keys contain '/', are not entered); a model family of your own needs a subclass of "
            "ssmreduce.adapters.Adapter, given as adapter=..."
        )
    return ADAPTERS[next(iter(claims))].from_flags({})


def layers_of(adapter: Adapter, params: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the adapter's layers, every one complete and finite.

    Raises
    ------
    IncompleteLayerError
        A layer that lacks tensors, or whose tensors have unexpected shapes.
    AdapterError
        No layer at all.
    NonFiniteError
        NaN or infinite parameters.
    """
    layers = adapter.find(params)
    claimed_by_others = {name for cls in ADAPTERS.values() for name in cls.find(params)}
    for name in adapter.candidates(params):
        if name not in layers and name not in claimed_by_others:
            raise _incomplete(type(adapter), params, name)
    if not layers:
        raise AdapterError(f"the adapter {adapter.name} recognises no layer among the {len(params)} tensors")
    for name in layers:
        adapter.check(params, name)
    return tuple(layers)


def _incomplete(cls: type[Adapter], params: Mapping[str, Any], name: str) -> IncompleteLayerError:
    return IncompleteLayerError(f"layer {name!r} looks like {cls.name}, but {cls.explain(params, name).text}")
