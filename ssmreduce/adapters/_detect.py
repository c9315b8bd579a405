"""Which family a checkpoint is of, and which layers it has."""

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import AdapterError, CheckpointWarning, IncompleteLayerError, printable
from ._base import Adapter
from ._copies import below, missing_layers, one_copy
from ._others import known_other
from ._registry import call_of, families


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
    claims = {name: cls.find(params) for name, cls in families().items() if cls.detected}
    claims = {name: layers for name, layers in claims.items() if layers}
    if len(claims) > 1:
        named = " and ".join(f"{name} ({layers[0]!r}, ...)" for name, layers in claims.items())
        raise AdapterError(f"{named} both claim layers of this checkpoint; name the one you mean with adapter=...")
    if not claims:
        raise _unclaimed(params)
    cls = families()[next(iter(claims))]
    return cls.from_flags({name: value for name, value in (flags or {}).items() if name in cls.flags()})


def _unclaimed(params: Mapping[str, Any]) -> AdapterError:
    if other := known_other(params):
        return AdapterError(other)
    by_name = [cls for cls in families().values() if not cls.detected and cls.find(params)]
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
    layers = adapter.find(params)
    claimed_by_others = {name for cls in families().values() for name in cls.find(params)}
    taken = {key for name in layers for key in adapter.keys(params, name)}
    for name in adapter.candidates(params):
        part_of_a_layer = adapter.keys(params, name) <= taken
        elsewhere = bool(root) and not below(root, name)
        if name not in layers and name not in claimed_by_others and not part_of_a_layer and not elsewhere:
            raise _incomplete(type(adapter), params, name)
    if not layers:
        raise AdapterError(
            f"the adapter {adapter.name} recognises no layer among the {len(params)} tensors{_suggestion(params)}"
        )
    layers = one_copy(layers, root, lambda name: adapter.sizes(params, name))
    for name in layers:
        adapter.check(params, name)
    if gaps := missing_layers(params, layers):
        warnings.warn(printable(f"layers seem to be missing: {'; '.join(gaps)}"), CheckpointWarning, stacklevel=2)
    return tuple(layers)


def _suggestion(params: Mapping[str, Any]) -> str:
    fitting = [cls for cls in families().values() if cls.detected and cls.find(params)]
    if not fitting:
        other = known_other(params)
        return f". {other[0].upper()}{other[1:]}" if other else ""
    named = " or ".join(f"{cls.name} (adapter={call_of(cls)}, --adapter {cls.name})" for cls in fitting)
    return f"; they are those of {named}"


def _incomplete(cls: type[Adapter], params: Mapping[str, Any], name: str, hint: str = "") -> IncompleteLayerError:
    text = cls.explain(params, name).text
    return IncompleteLayerError(f"layer {name!r} looks like {cls.name}, but {text}{hint}")
