"""Networks of Flax modules of the newer interface (nnx): layers are replaced in copies of the module."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from .._support.arguments import described, require_callable
from ..adapters import Adapter
from ..errors import ArgumentError
from ..models import SSMModel, read
from ..systems import DiagonalSSM
from ._batches import Inputs
from ._flat import Parts, Structure, real_parameters, system_of
from ._jax_layers import Matrices, matrices, respond, step
from ._jax_models import beside, filled, told_by, unchanged, with_systems
from ._jax_network import JaxNetwork, StandIn

Path = tuple[str | int, ...]


class NnxLayer(nnx.Module):
    r"""A state-space layer of a `DiagonalSSM` in Flax (nnx), in place of the one that it was read from.

    .. math:: x_k = \Lambda x_{k-1} + B u_k, \qquad y_k = \mathrm{Re}(C x_k) + D u_k, \qquad
              \lambda_i = e^{-e^{\nu_i} + j \theta_i \delta_i}

    Its parameters (``nnx.Param``) are those of `EquinoxLayer`: ``log_rate`` and ``angle`` (N,), ``B`` (N, m, 2), ``C``
    and ``C_reverse`` (N, p, 2), ``D``.

    Parameters
    ----------
    ssm : DiagonalSSM, or pair of Structure and parameters
        Causal or bidirectional; with leading axes the systems of a batch stand side by side, as in S4D.
    valid : ndarray, shape (s, n), bool, optional
        Which states of each system of a batch there are. By default those with an input and an output.
    channels_first : bool, default False
        Inputs and outputs are (..., width, L).
    others : int, default 0
        The layer returns a tuple: the outputs and this many times None.
    dtype : dtype, default float32

    Examples
    --------
    >>> import numpy as np
    >>> import ssmreduce as sr
    >>> layer = NnxLayer(sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]]))
    >>> np.asarray(layer(np.array([[1.0], [0.0], [0.0]], dtype=np.float32))).ravel()
    array([1.  , 0.5 , 0.25], dtype=float32)
    """

    def __init__(
        self,
        ssm: DiagonalSSM | Parts,
        *,
        valid: np.ndarray | None = None,
        channels_first: bool = False,
        others: int = 0,
        dtype: Any = jnp.float32,
    ) -> None:
        self.structure, values = ssm if isinstance(ssm, tuple) else real_parameters(ssm, valid)
        self.channels_first, self.others = channels_first, others
        for name, value in values.items():
            setattr(self, name, nnx.Param(jnp.asarray(value, dtype)))

    @property
    def parameters(self) -> dict[str, jax.Array]:
        """Real parameters by name."""
        names = ("log_rate", "angle", "B", "C", "C_reverse", "D")
        return {name: getattr(self, name)[...] for name in names if hasattr(self, name)}

    def system(self) -> DiagonalSSM:
        """The layer as a system in double precision, the systems of a batch padded with silent states."""
        return system_of(self.structure, self.parameters)

    def _matrices(self) -> Matrices:
        return matrices(self.structure, self.parameters)

    def __call__(self, u: jax.Array, *_: Any, **__: Any) -> Any:
        """Outputs (..., L, width out) of inputs (..., L, width); further arguments are not used."""
        u = jnp.asarray(u)
        y = respond(self.structure, self._matrices(), jnp.swapaxes(u, -1, -2) if self.channels_first else u)[0]
        return beside(jnp.swapaxes(y, -1, -2) if self.channels_first else y, self.others)

    def initial_state(self, *lead: int) -> jax.Array:
        """State before the first sample, zeros (..., N, 2); the last axis is (re, im)."""
        return jnp.zeros((*lead, self.structure.states, 2), self.parameters["B"].dtype)

    def run(self, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Outputs of a chunk (..., L, width) of a long sequence, and the state (..., N, 2) for the next chunk."""
        return respond(self.structure, self._matrices(), u, state, carry=True)

    def step(self, u: jax.Array, state: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One sample: outputs (..., width out) of inputs (..., width), and the next state (..., N, 2)."""
        return step(self.structure, self._matrices(), u, state)


class _Tap(nnx.Module):
    """What is called in place of a layer."""

    def __init__(self, layer: Any, name: str, stand_in: StandIn) -> None:
        self.layer, self.name, self.stand_in = layer, name, stand_in

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.stand_in(self.name, lambda: self.layer(*args, **kwargs), args, kwargs)


class NnxNetwork(JaxNetwork):
    """Network of a Flax module of the newer interface (``flax.nnx``), which stays untouched.

    Parameters
    ----------
    module : flax.nnx.Module
        In evaluation mode (``module.eval()``), where it has dropout or batch norm.
    call : callable, optional
        ``call(module, *inputs)`` runs the module on a batch. By default ``module(*inputs)``.
    model, adapter, inputs, mask, output, channels_first
        As in `EquinoxNetwork`.

    Raises
    ------
    ArgumentError
        No module.
    AdapterError, IncompleteLayerError, MissingFlagError
        As in `read`.

    Notes
    -----
    As in `EquinoxNetwork`.
    """

    framework = "nnx"

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
        if not isinstance(module, nnx.Module):
            raise ArgumentError(f"module is {described(module)}; a flax.nnx.Module is needed")
        if call is not None:
            require_callable(call, "call", "a function call(module, *inputs) is needed")
        super().__init__(
            _model(module, model, adapter), inputs=inputs, mask=mask, output=output, channels_first=channels_first
        )
        self.module, self._run_module = module, call
        paths = _arrays(module)
        self._places = {name: _place(list(paths), name) for name in self.model}

    def _call(self, stand_in: StandIn, args: tuple, kwargs: dict) -> Any:
        copy = nnx.clone(self.module)
        module = _with(copy, self._places, {n: _Tap(_at(copy, p), n, stand_in) for n, p in self._places.items()})
        return module(*args, **kwargs) if self._run_module is None else self._run_module(module, *args, **kwargs)

    def placed(self, layers: Mapping[str, Parts], model: SSMModel) -> Any:
        """See `JaxNetwork.placed`."""
        new = {name: NnxLayer(parts, **self.options(name)) for name, parts in layers.items()}
        return _with(nnx.clone(self.module), self._places, new)

    def arrays(self, live: Any) -> dict[str, np.ndarray]:
        """See `JaxNetwork.arrays`."""
        return {_name(path): value for path, value in _arrays(live).items()}

    def replaced(self, live: Any) -> Mapping[str, Structure]:
        """See `JaxNetwork.replaced`."""
        return {name or ".": layer.structure for name, layer in _drop_ins(live).items()}

    def with_arrays(self, live: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """See `JaxNetwork.with_arrays`."""
        module = nnx.clone(live)
        state = nnx.state(module, _STORED)
        nnx.replace_by_pure_dict(state, filled(nnx.to_pure_dict(state), arrays))
        nnx.update(module, state)
        return module


_STORED = nnx.Any(nnx.Param, nnx.BatchStat)


def _arrays(module: Any) -> dict[Path, np.ndarray]:
    found = nnx.to_pure_dict(nnx.state(module, _STORED))
    arrays: dict[Path, np.ndarray] = {}

    def walk(node: Any, path: Path) -> None:
        if isinstance(node, Mapping):
            for key, child in node.items():
                walk(child, (*path, key))
        else:
            arrays[path] = np.asarray(node)

    walk(found, ())
    return arrays


def _plain(key: Any) -> str | int:
    return key if isinstance(key, int) else str(key)


def _name(path: Path) -> str:
    return ".".join(map(str, path))


def _model(module: Any, model: SSMModel | None, adapter: Adapter | None) -> SSMModel:
    """Model of a module: read from its arrays, or that which it was made from with the systems that it holds now."""
    params = {_name(path): value for path, value in _arrays(module).items()}
    replaced = _drop_ins(module)
    if not replaced:
        return read(params, adapter=adapter) if model is None else model
    if model is None:  # the layers tell everything, as a model family of their own
        told = (told_by(name, layer.structure, layer.parameters["B"].dtype) for name, layer in replaced.items())
        return read(dict(ChainMap(params, *told)), adapter=adapter)
    around = unchanged(params, model, replaced)
    model = replace(model, params={**model.params, **around})
    return with_systems(model, {name: (layer.structure, layer.system()) for name, layer in replaced.items()})


def _drop_ins(module: Any) -> dict[str, NnxLayer]:
    """Drop-in layers of a module by name."""
    nodes = nnx.iter_graph(module)
    return {_name(tuple(map(_plain, path))): node for path, node in nodes if isinstance(node, NnxLayer)}


def _place(paths: list[Path], name: str) -> Path:
    """Path of the module that holds the arrays of a layer."""
    if name == ".":
        return ()
    return next(path[:end] for path in paths for end in range(1, len(path)) if _name(path[:end]) == name)


def _at(module: Any, path: Path) -> Any:
    for key in path:
        module = module[key] if isinstance(key, int) else getattr(module, key)
    return module


def _with(module: Any, places: dict[str, Path], parts: dict[str, Any]) -> Any:
    """The module with other parts at some places."""
    for name, part in parts.items():
        if not places[name]:
            return part
        *lead, last = places[name]
        parent = _at(module, tuple(lead))
        if isinstance(last, int):
            parent[last] = part
        else:
            setattr(parent, last, part)
    return module
