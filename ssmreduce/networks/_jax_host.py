"""Layers of JAX networks, run and recorded on the host: whatever their orders are, nothing is compiled anew."""

from collections.abc import Callable, Sequence
from typing import Any

import array_api_compat
import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap

from .._support.arguments import described
from ..errors import ArgumentError, ShapeError, UnknownLayerError

Host = Callable[[np.ndarray], np.ndarray]


def on_host(function: Host, u: Any, width: int) -> jax.Array:
    """Apply a function of host arrays (..., L, H) -> (..., L, width), also inside `jax.vmap`.

    Inside `vmap` the function is called once, with the mapped axes in front; inside `jax.jit` and its like it is not
    called, which is for the caller to notice: see `Watch`.
    """
    if not isinstance(u, jax.core.Tracer):
        return jnp.asarray(function(np.asarray(u)))

    @custom_vmap
    def placeholder(u: jax.Array) -> jax.Array:
        return jnp.zeros((*u.shape[:-1], width), u.dtype)

    @placeholder.def_vmap
    def mapped(size: int, batched: Sequence[bool], u: jax.Array) -> tuple[jax.Array, bool]:
        return on_host(function, u, width), True

    return placeholder(u)


def first_array(args: tuple, kwargs: dict, name: str) -> Any:
    """The first argument of a layer that is an array, positional ones before keywords."""
    for value in (*args, *kwargs.values()):
        if array_api_compat.is_array_api_obj(value):
            return value
    given = ", ".join([*map(described, args), *(f"{key}={described(value)}" for key, value in kwargs.items())])
    raise ArgumentError(f"layer {name!r} was called without an array: ({given}); nothing can be recorded there")


def first_output(result: Any, name: str) -> tuple[Any, int]:
    """The output of a layer, and how many times None is returned beside it."""
    if not isinstance(result, tuple):
        return result, 0
    if any(value is not None for value in result[1:]):
        kinds = ", ".join(map(described, result))
        raise ArgumentError(
            f"layer {name!r} returns ({kinds}); a drop-in layer can stand in for one that returns its outputs alone, "
            "or with None beside them"
        )
    return result[0], len(result) - 1


class Watch:
    """What the layers of one pass were called with; and that every call of them was seen.

    Parameters
    ----------
    channels_first : bool
        The layers take (..., width, L).
    """

    def __init__(self, channels_first: bool) -> None:
        self.channels_first = channels_first
        self.calls = 0
        self.seen: list[tuple[str, np.ndarray]] = []

    def run(self, name: str, function: Host, u: Any, width: int) -> jax.Array:
        """Outputs of a layer by a function on the host, its inputs recorded."""
        self.calls += 1

        def recorded(u: np.ndarray) -> np.ndarray:
            self.seen.append((name, u))
            return np.asarray(function(u), dtype=u.dtype)

        y = on_host(recorded, jnp.swapaxes(u, -1, -2) if self.channels_first else u, width)
        return jnp.swapaxes(y, -1, -2) if self.channels_first else y

    def inputs(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Layer name -> float64 array (batch, L, width), in the order of the calls."""
        self.require(names)
        by_name: dict[str, list[np.ndarray]] = {}
        for name, u in self.seen:
            by_name.setdefault(name, []).append(u.reshape(-1, *u.shape[-2:]))
        return {name: _joined(calls, name) for name, calls in by_name.items()}

    def require(self, names: Sequence[str]) -> None:
        """Raise where a layer was not called, or was compiled."""
        if len(self.seen) != self.calls:
            raise ArgumentError(
                "the network calls its layers inside jit, remat, scan or grad, where they cannot be seen: give one "
                "without these transformations (the parameters are the same); the rebuilt network may use them"
            )
        called = {name for name, _ in self.seen}
        if missing := [name for name in names if name not in called]:
            raise UnknownLayerError(f"the network did not call {', '.join(missing)}: nothing can be recorded there")


def _joined(calls: list[np.ndarray], name: str) -> np.ndarray:
    if len({u.shape[1:] for u in calls}) > 1:
        shapes = ", ".join(str(u.shape) for u in calls)
        raise ShapeError(
            f"layer {name!r} was called {len(calls)} times in one pass, of shapes {shapes}; sequences of one length "
            "are needed"
        )
    return np.concatenate(calls).astype(np.float64)
