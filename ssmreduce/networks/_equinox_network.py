"""Networks of Equinox modules: layers are replaced in copies of the tree."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._support.arguments import described, require_callable
from ..adapters import Adapter
from ..errors import ArgumentError
from ..models import SSMModel, read
from ._batches import Inputs
from ._equinox_layers import EquinoxLayer
from ._flat import Parts, Structure
from ._jax_models import told_by, unchanged, with_systems
from ._jax_network import JaxNetwork, StandIn

Key = str | int
Path = tuple[Key, ...]


class _Tap(eqx.Module):
    """What is called in place of a layer."""

    layer: Any
    name: str = eqx.field(static=True)
    stand_in: StandIn = eqx.field(static=True)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.stand_in(self.name, lambda: self.layer(*args, **kwargs), args, kwargs)


class EquinoxNetwork(JaxNetwork):
    """Network of an Equinox module, which stays untouched.

    Parameters
    ----------
    module : equinox.Module
        In inference mode (``equinox.nn.inference_mode``), where it has dropout or batch norm.
    call : callable, optional
        ``call(module, *inputs)`` runs the module on a batch. By default ``jax.vmap(module)(*inputs)``, as Equinox
        modules take one sequence (L, channels).
    model : SSMModel, optional
        Of the network that a reduced module was made from: its systems are read in that family then.
    adapter : Adapter, optional
        As in `read`: what a module cannot tell.
    inputs : int, str, tuple or callable, optional
        Which element of a batch the network is called with: an index of a tuple, a key of a dictionary, several of
        them, or a function of the batch. By default the first one.
    mask : int, str or callable, optional
        Which element of a batch carries the lengths, shape (batch,), or the padding mask (batch, L), 1 for data.
    output : callable, optional
        From what the module returns to one array (batch, ...), where it returns something else.
    channels_first : bool, default False
        The layers take (..., width, L).

    Raises
    ------
    ArgumentError
        No module, or a layer that occurs twice in it.
    AdapterError, IncompleteLayerError, MissingFlagError
        As in `read`.

    Notes
    -----
    Layers are named as in Python, ``blocks.0.lru``. On the first batch that the network sees, each layer is compared
    with its system; a difference raises `EvaluationError`, which names the layer. `outputs` and `layer_inputs` run the
    module without compiling it: `call` must not use ``jit``.

    Examples
    --------
    >>> import equinox as eqx, jax.numpy as jnp, numpy as np
    >>> import ssmreduce as sr
    >>> class LRU(eqx.Module):
    ...     nu_log: jnp.ndarray; theta_log: jnp.ndarray; gamma_log: jnp.ndarray; D: jnp.ndarray
    ...     B_re: jnp.ndarray; B_im: jnp.ndarray; C_re: jnp.ndarray; C_im: jnp.ndarray
    ...     def __call__(self, u):
    ...         poles = jnp.exp(-jnp.exp(self.nu_log) + 1j * jnp.exp(self.theta_log))
    ...         B = jnp.exp(self.gamma_log)[:, None] * (self.B_re + 1j * self.B_im)
    ...         return (sr.scan(poles, u @ B.T) @ (self.C_re + 1j * self.C_im).T).real + self.D * u
    >>> n, m = jnp.zeros(3), jnp.ones((3, 2))
    >>> net = EquinoxNetwork(LRU(n - 2, n, n, jnp.ones(2), m, m, m.T, m.T))
    >>> net.outputs(net.model, np.ones((4, 8, 2), dtype=np.float32)).shape
    (4, 8, 2)
    """

    framework = "equinox"

    def __init__(
        self,
        module: Any,
        *,
        call: Callable[..., Any] | None = None,
        model: SSMModel | None = None,
        adapter: Adapter | None = None,
        inputs: Inputs = None,
        mask: int | str | Callable[[Any], Any] | None = None,
        output: Callable[[Any], Any] | None = None,
        channels_first: bool = False,
    ) -> None:
        if not isinstance(module, eqx.Module):
            raise ArgumentError(f"module is {described(module)}; an equinox.Module is needed")
        if call is not None:
            require_callable(call, "call", "a function call(module, *inputs) is needed")
        paths, params = _arrays(module)
        super().__init__(
            _model(module, params, model, adapter),
            inputs=inputs,
            mask=mask,
            output=output,
            channels_first=channels_first,
        )
        self.module, self._run_module = module, call
        self._places = {name: _place(paths, name) for name in self.model}

    def _call(self, stand_in: StandIn, args: tuple, kwargs: dict) -> Any:
        taps = {name: _Tap(_at(self.module, path), name, stand_in) for name, path in self._places.items()}
        module = _with(self.module, self._places, taps)
        if self._run_module is not None:
            return self._run_module(module, *args, **kwargs)
        return jax.vmap(module)(*args, **kwargs)

    def placed(self, layers: Mapping[str, Parts], model: SSMModel) -> Any:
        """See `JaxNetwork.placed`."""
        new = {name: EquinoxLayer(parts, **self.options(name)) for name, parts in layers.items()}
        return _with(self.module, {name: self._places[name] for name in new}, new)

    def arrays(self, live: Any) -> dict[str, np.ndarray]:
        """See `JaxNetwork.arrays`."""
        return _arrays(live)[1]

    def replaced(self, live: Any) -> Mapping[str, Structure]:
        """See `JaxNetwork.replaced`."""
        return {name or ".": layer.structure for name, layer in _drop_ins(live).items()}

    def with_arrays(self, live: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """See `JaxNetwork.with_arrays`; plain numbers stay what they are."""

        def value(keys: Any, leaf: Any) -> Any:
            return jax.numpy.asarray(arrays[_name(tuple(map(_key, keys)))]) if eqx.is_array(leaf) else leaf

        return jax.tree_util.tree_map_with_path(value, live)


def _arrays(module: Any) -> tuple[list[Path], dict[str, np.ndarray]]:
    """Paths of all arrays of a module, and the arrays by name."""
    found = jax.tree_util.tree_flatten_with_path(module)[0]
    paths, params = [], {}
    for keys, value in found:
        if eqx.is_array_like(value):
            path = tuple(map(_key, keys))
            paths.append(path)
            params[_name(path)] = np.asarray(value)
    return paths, params


def _key(entry: Any) -> Key:
    for kind in ("name", "idx", "key"):
        if hasattr(entry, kind):
            return getattr(entry, kind)
    raise ArgumentError(f"the module has a node of another kind than attributes, lists and mappings: {entry!r}")


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _model(module: Any, params: dict[str, np.ndarray], model: SSMModel | None, adapter: Adapter | None) -> SSMModel:
    """Model of a module: read from its arrays, or that which it was made from with the systems that it holds now."""
    replaced = _drop_ins(module)
    if not replaced:
        return read(params, adapter=adapter) if model is None else model
    if model is None:  # the layers tell everything, as a model family of their own
        told = (told_by(name, layer.structure, layer.parameters["B"].dtype) for name, layer in replaced.items())
        return read(dict(ChainMap(params, *told)), adapter=adapter)
    around = unchanged(params, model, replaced)
    model = replace(model, params={**model.params, **around})
    return with_systems(model, {name: (layer.structure, layer.system()) for name, layer in replaced.items()})


def _drop_ins(module: Any) -> dict[str, EquinoxLayer]:
    """Drop-in layers of a module by name."""
    leaves = jax.tree_util.tree_flatten_with_path(module, is_leaf=lambda node: isinstance(node, EquinoxLayer))[0]
    return {_name(tuple(map(_key, keys))): leaf for keys, leaf in leaves if isinstance(leaf, EquinoxLayer)}


def _place(paths: list[Path], name: str) -> Path:
    """Path of the module that holds the arrays of a layer."""
    if name == ".":
        return ()
    for path in paths:
        for end in range(1, len(path)):
            if _name(path[:end]) == name:
                return path[:end]
    raise ArgumentError(f"there is no module at {name!r}: its arrays stand in a mapping, which is not called")


def _at(module: Any, path: Path) -> Any:
    for key in path:
        module = getattr(module, key) if isinstance(key, str) and hasattr(module, key) else module[key]
    return module


def _with(module: Any, places: dict[str, Path], parts: dict[str, Any]) -> Any:
    """Copy of a module with other parts at some places."""
    if () in places.values():
        return parts["."]
    paths = list(places.values())
    return eqx.tree_at(lambda tree: [_at(tree, path) for path in paths], module, [parts[name] for name in places])
