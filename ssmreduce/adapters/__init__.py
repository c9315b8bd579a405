"""One adapter a model family: which arrays of a checkpoint are which system."""

from collections.abc import Mapping
from typing import Any

from ..errors import AdapterError, IncompleteLayerError
from ._annotated import AnnotatedS4, AnnotatedS4D
from ._attenuate import ATENNuate, LrnnxS5
from ._base import Adapter
from ._call import Call
from ._dropin import DropIn
from ._dss import DSS
from ._event_ssm import EventSSM
from ._flowstate import FlowState
from ._layout import ABSENT, Layout, Tensor
from ._linoss import LinOSS
from ._lru import LRU
from ._s4block import S4Block
from ._s4d import S4D
from ._s4dplr import S4DPLR
from ._s5 import S5, S5PyTorch

ADAPTERS: dict[str, type[Adapter]] = {
    cls.name: cls
    for cls in (
        S5,
        S5PyTorch,
        S4D,
        LRU,
        S4Block,
        S4DPLR,
        FlowState,
        LinOSS,
        DSS,
        AnnotatedS4D,
        AnnotatedS4,
        ATENNuate,
        LrnnxS5,
        EventSSM,
        DropIn,
    )
}
"""The families of this library, by name."""

__all__ = [
    "ABSENT",
    "ADAPTERS",
    "DSS",
    "LRU",
    "S4D",
    "S4DPLR",
    "S5",
    "ATENNuate",
    "Adapter",
    "AnnotatedS4",
    "AnnotatedS4D",
    "Call",
    "DropIn",
    "EventSSM",
    "FlowState",
    "Layout",
    "LinOSS",
    "LrnnxS5",
    "S4Block",
    "S5PyTorch",
    "Tensor",
    "detect",
    "layers_of",
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
    claims = {name: cls.find(params) for name, cls in ADAPTERS.items() if cls.detected}
    claims = {name: layers for name, layers in claims.items() if layers}
    if len(claims) > 1:
        named = " and ".join(f"{name} ({layers[0]!r}, ...)" for name, layers in claims.items())
        raise AdapterError(f"{named} both claim layers of this checkpoint; name the one you mean with adapter=...")
    if not claims:
        for cls in ADAPTERS.values():
            if not cls.detected and (layers := cls.find(params)):
                raise AdapterError(
                    f"layer {layers[0]!r} may be one of {cls.name}, which is read only where it is named, since its "
                    f"arrays do not tell it from others: give adapter=adapters.{cls.__name__}(...)"
                )
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
