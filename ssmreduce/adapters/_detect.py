"""Which family a checkpoint is of, and which layers it has."""

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import AdapterError, CheckpointWarning, IncompleteLayerError, printable
from ._base import Adapter
from ._copies import below, missing_layers, one_copy
from ._others import known_other
from ._registry import call_of, families

Claims = dict[type[Adapter], list[str]]
"""Family -> names of the layers that it finds."""


def detect(params: Mapping[str, Any], flags: Mapping[str, Any] | None = None) -> Adapter:
    """Adapter of the one family that claims the checkpoint.

    Parameters
    ----------
    params : mapping
        Flat parameters.
    flags : mapping, optional
        Facts about the model from elsewhere (the ``config.json`` beside it): those that the family has a flag for are
        used, the others ignored.

    Returns
    -------
    Adapter

    Raises
    ------
    AdapterError
        No family claims a layer, or two do; the message names them, or says what the checkpoint is.
    IncompleteLayerError
        There are layers of a family, none of them complete.
    MissingFlagError
        The family is clear, but a flag must be given.
    """
    return _detected(params, _claims(params), flags or {})


def recognised(
    params: Mapping[str, Any], adapter: Adapter | None, flags: Mapping[str, Any], root: str | None
) -> tuple[Adapter, tuple[str, ...]]:
    """Adapter of a checkpoint, given or detected, and the names of its layers: `detect` and `layers_of` in one pass."""
    claims = _claims(params)
    adapter = _detected(params, claims, flags) if adapter is None else adapter
    return adapter, _layers(adapter, params, claims, root)


def _claims(params: Mapping[str, Any]) -> Claims:
    """Every family that finds a layer, with its layers."""
    found = ((cls, cls.find(params)) for cls in families().values())
    return {cls: layers for cls, layers in found if layers}


def _detected(params: Mapping[str, Any], claims: Claims, flags: Mapping[str, Any]) -> Adapter:
    detected = {cls: layers for cls, layers in claims.items() if cls.detected}
    if len(detected) > 1:
        named = " and ".join(f"{cls.name} ({layers[0]!r}, ...)" for cls, layers in detected.items())
        raise AdapterError(f"{named} both claim layers of this checkpoint; name the one you mean with adapter=...")
    if not detected:
        raise _unclaimed(params, claims)
    (cls,) = detected
    return cls.from_flags({name: value for name, value in flags.items() if name in cls.flags()})


def _unclaimed(params: Mapping[str, Any], by_name: Claims) -> AdapterError:
    if other := known_other(params):
        return AdapterError(other)
    hint = "".join(f". It may be one of {cls.name}, which must be named: adapter={call_of(cls)}" for cls in by_name)
    looked_for = [cls for cls in families().values() if cls.detected]
    if guesses := [(cls, name) for cls in looked_for for name in cls.candidates(params)[:1]]:
        cls, name = min(guesses, key=lambda guess: guess[0].explain(params, guess[1]))
        return _incomplete(cls, params, name, hint)
    return AdapterError(
        f"no adapter ({', '.join(families())}) recognises a layer among the {len(params)} tensors (lists, and mappings "
        "whose keys contain '/', are not entered); a model family of your own needs a subclass of "
        f"ssmreduce.adapters.Adapter, given as adapter=...{hint}"
    )


def layers_of(adapter: Adapter, params: Mapping[str, Any], root: str | None = None) -> tuple[str, ...]:
    """Names of the adapter's layers, every one complete and finite.

    Parameters
    ----------
    adapter : Adapter
    params : mapping
        Flat parameters.
    root : str, optional
        Name below which the layers stand, where there are several copies of the model; ``""`` for the one that is no
        moving average or the like.

    Raises
    ------
    IncompleteLayerError
        A layer that lacks tensors, or whose tensors have unexpected shapes.
    AdapterError
        No layer at all; the message names the families that do recognise one. Or several copies and no root.
    UnknownNameError
        No layer below the root.
    NonFiniteError
        NaN or infinite parameters, or parameters that overflow.

    Warns
    -----
    CheckpointWarning
        The numbering of the layers has a gap.
    """
    return _layers(adapter, params, _claims(params), root)


def _layers(adapter: Adapter, params: Mapping[str, Any], claims: Claims, root: str | None) -> tuple[str, ...]:
    cls = type(adapter)
    layers = claims.get(cls, []) if families().get(cls.name) is cls else cls.find(params)
    claimed = {name for found in claims.values() for name in found}.union(layers)
    taken = {key for name in layers for key in adapter.keys(params, name)}
    for name in adapter.candidates(params):
        part_of_a_layer = adapter.keys(params, name) <= taken
        elsewhere = bool(root) and not below(str(root), name)
        if name not in claimed and not part_of_a_layer and not elsewhere:
            raise _incomplete(cls, params, name)
    if not layers:
        suggestion = _suggestion(params, claims)
        raise AdapterError(
            f"the adapter {adapter.name} recognises no layer among the {len(params)} tensors{suggestion}"
        )
    layers = one_copy(layers, root, lambda name: _shapes(adapter, params, name))
    for name in layers:
        adapter.check(params, name)
    if gaps := missing_layers(params, layers):
        more = f"; and {len(gaps) - 3} more" if len(gaps) > 3 else ""
        said = printable(f"layers seem to be missing: {'; '.join(gaps[:3])}{more}")
        warnings.warn(said, CheckpointWarning, stacklevel=2)
    return tuple(layers)


def _shapes(adapter: Adapter, params: Mapping[str, Any], name: str) -> dict[str, tuple[int, ...]]:
    """Names, without that of the layer, and shapes of the arrays of a layer."""
    return {key.removeprefix(name): params[key].shape for key in adapter.keys(params, name)}


def _suggestion(params: Mapping[str, Any], claims: Claims) -> str:
    fitting = [cls for cls in claims if cls.detected]
    if not fitting:
        other = known_other(params)
        return f". {other[0].upper()}{other[1:]}" if other else ""
    named = " or ".join(f"{cls.name} (adapter={call_of(cls)}, --adapter {cls.name})" for cls in fitting)
    return f"; they are those of {named}"


def _incomplete(cls: type[Adapter], params: Mapping[str, Any], name: str, hint: str = "") -> IncompleteLayerError:
    text = cls.explain(params, name).text
    return IncompleteLayerError(f"layer {name!r} looks like {cls.name}, but {text}{hint}")
