"""Kinds of live objects that `network` takes, told without importing their framework."""

import sys
from typing import Any

from ._protocol import Network, register


def _is(obj: Any, module: str, name: str) -> bool:
    """Whether an object is of a class of a module that was imported, where an object of it can exist."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(obj, kind)


def _is_flax(obj: Any) -> bool:
    return _is(obj, "flax.linen", "Module") or _is(obj, f"{__package__}._flax_network", "ReducedFlax")


def _flax(obj: Any, **options: Any) -> Network:
    from ._flax_network import FlaxNetwork

    return FlaxNetwork(obj, **options)


def _is_nnx(obj: Any) -> bool:
    return _is(obj, "flax.nnx", "Module")


def _nnx(obj: Any, **options: Any) -> Network:
    from ._nnx_network import NnxNetwork

    return NnxNetwork(obj, **options)


def _is_equinox(obj: Any) -> bool:
    return _is(obj, "equinox", "Module")


def _equinox(obj: Any, **options: Any) -> Network:
    from ._equinox_network import EquinoxNetwork

    return EquinoxNetwork(obj, **options)


def register_kinds() -> None:
    """Let `network` take Flax and Equinox modules."""
    register("flax.linen.Module", _is_flax, _flax)
    register("flax.nnx.Module", _is_nnx, _nnx)
    register("equinox.Module", _is_equinox, _equinox)
