"""Networks of Flax modules (linen) with their variables: layers are replaced where their methods are intercepted."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from .._support.arguments import described
from .._support.trees import flatten
from ..adapters import Adapter
from ..errors import ArgumentError, UnknownLayerError
from ..models import SSMModel, read
from ..systems import DiagonalSSM
from ._batches import Inputs
from ._flat import Parts, Structure, system_of
from ._jax_host import first_array
from ._jax_layers import matrices, respond
from ._jax_models import beside, dtype_of, filled, in_family, unchanged, with_systems
from ._jax_network import JaxNetwork, StandIn

Path = tuple[str, ...]
_COLLECTION = "params"
_TAGS = "ssmreduce"  # names by which `nn.jit` tells layers of equal shapes apart, which else share one compilation


@dataclass(frozen=True, eq=False)
class ReducedFlax:
    """A Flax module with drop-in layers in place of its state-space layers; what `FlaxNetwork.rebuild` returns.

    Attributes
    ----------
    module : flax.linen.Module
        As the user wrote it.
    variables : dict
        For `apply`: those of the module, with the real parameters ``log_rate``, ``angle``, ``B``, ``C``, ``D`` in the
        places of layers that were replaced, and a collection ``ssmreduce`` of empty arrays, by whose names ``nn.jit``
        tells the layers apart.
    structures : mapping
        Name of each replaced layer -> what it knows besides its parameters. Plain numbers: ``dataclasses.asdict``
        makes JSON of each.
    model : SSMModel
        That of the network which this one was made from.
    channels_first : bool
    others : mapping
        Name of a layer -> how many times None is returned beside its outputs.
    call : mapping
        Keyword arguments of the network's call, such as ``train=False``.

    Examples
    --------
    A step of gradient descent::

        live = network.rebuild(small)
        loss, gradient = jax.value_and_grad(lambda v: loss_of(live.apply(v, x)))(live.variables)
    """

    module: nn.Module
    variables: Mapping[str, Any]
    model: SSMModel
    structures: Mapping[str, Structure] = field(default_factory=dict)
    channels_first: bool = False
    others: Mapping[str, int] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As ``module.apply``; works under `jax.jit`, `jax.vmap` and `jax.grad`."""
        return self.apply_with(None, variables, *args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply with the variables of this object and the keyword arguments of the network's call."""
        return self.apply(self.variables, *args, **{**self.call, **kwargs})

    def apply_with(self, stand_in: StandIn | None, variables: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As `apply`, with something else called in place of every layer."""
        names = {path_of(name): name for name in (self.structures if stand_in is None else self.model.layers)}

        def intercept(run: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext) -> Any:
            name = names.get(context.module.path)
            if name is None:
                return run(*args, **kwargs)
            layer = Replaced(self, name, context.module) if name in self.structures else run
            if context.method_name == "setup":  # of a stock layer, which would look for the parameters that it had
                return None if name in self.structures else run(*args, **kwargs)
            if context.method_name != "__call__":
                if name not in self.structures:
                    return run(*args, **kwargs)
                raise ArgumentError(
                    f"layer {name!r} was replaced, and the network calls its method {context.method_name!r}; a drop-in "
                    "layer of Flax has __call__ only"
                )
            if stand_in is None:
                return layer(*args, **kwargs)
            return stand_in(name, lambda: layer(*args, **kwargs), args, kwargs)

        with nn.intercept_methods(intercept):
            return self.module.apply(variables, *args, **kwargs)

    def system(self, name: str, variables: Mapping[str, Any] | None = None) -> DiagonalSSM:
        """System of a replaced layer in double precision, by the given variables, such as trained ones.

        Raises
        ------
        UnknownLayerError
            A layer that was not replaced.
        """
        if name not in self.structures:
            raise UnknownLayerError(f"{name!r} was not replaced; replaced: {', '.join(self.structures) or 'none'}")
        tree: Any = (self.variables if variables is None else variables)[_COLLECTION]
        for key in path_of(name):
            tree = tree[key]
        return in_family(self.model[name], system_of(self.structures[name], tree))

    def with_variables(self, variables: Mapping[str, Any]) -> "ReducedFlax":
        """The same with other variables, such as trained ones."""
        return replace(self, variables=variables)

    def current_model(self) -> SSMModel:
        """Model of the systems that the variables hold, with the parameters around them."""
        around = unchanged(flatten(self.variables), self.model, self.structures)
        model = replace(self.model, params={**self.model.params, **around})
        return with_systems(model, {name: (self.structures[name], self.system(name)) for name in self.structures})


@dataclass(frozen=True)
class Replaced:
    """A drop-in layer where it is called: its parameters are those of the scope of the module that it replaces."""

    live: ReducedFlax
    name: str
    module: nn.Module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        structure = self.live.structures[self.name]
        names = ["log_rate", "angle", "B", "C", "D"] + ["C_reverse"] * structure.bidirectional
        values: dict[str, Any] = {key: self.module.get_variable(_COLLECTION, key) for key in names}
        if missing := [key for key, value in values.items() if value is None]:
            raise ArgumentError(
                f"the variables lack {', '.join(missing)} of layer {self.name!r}, which was replaced: start from the "
                "variables of the reduced network"
            )
        u = jnp.asarray(first_array(args, kwargs, self.name))
        first = self.live.channels_first
        y = respond(structure, matrices(structure, values), jnp.swapaxes(u, -1, -2) if first else u)[0]
        return beside(jnp.swapaxes(y, -1, -2) if first else y, self.live.others.get(self.name, 0))


class FlaxNetwork(JaxNetwork):
    """Network of a Flax module (linen) with its variables, whose code stays untouched.

    Parameters
    ----------
    module : flax.linen.Module or ReducedFlax
        A module bound to its variables needs no `variables`.
    variables : mapping, optional
        First argument of ``module.apply``.
    adapter : Adapter, optional
        As in `read`: what variables cannot tell, such as ``adapters.S5(conj_sym=True, discretization="zoh")``.
    inputs : int, str, tuple or callable, optional
        Which element of a batch the network is called with: an index of a tuple, a key of a dictionary, several of
        them, or a function of the batch. By default the first one.
    mask : int, str or callable, optional
        Which element of a batch carries the lengths, shape (batch,), or the padding mask (batch, L), 1 for data.
    output : callable, optional
        From what the module returns to one array (batch, ...), where it returns something else.
    channels_first : bool, default False
        The layers take (..., width, L).
    **call
        Keyword arguments of the network's call, such as ``train=False``.

    Raises
    ------
    ArgumentError
        No variables.
    AdapterError, IncompleteLayerError, MissingFlagError
        As in `read`.

    Notes
    -----
    Layers are found by the names of their parameters and replaced by `flax.linen.intercept_methods`, also inside
    `nn.vmap`, where another number of states in each layer would not fit the stock class. On the first batch that the
    network sees, each layer is compared with its system; a difference raises `EvaluationError`, which names the layer.

    `outputs` and `layer_inputs` run the module without compiling it; a module that has `nn.jit`, `nn.remat` or
    `nn.scan` around its layers must be given without them.

    Examples
    --------
    >>> import flax.linen as nn, jax, numpy as np
    >>> import ssmreduce as sr
    >>> class LRU(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, u):
    ...         shapes = dict.fromkeys(["nu_log", "theta_log", "gamma_log"], 3) | {"D": 2}
    ...         p = {key: self.param(key, nn.initializers.constant(-1.0), (n,)) for key, n in shapes.items()}
    ...         shapes = {"B_re": (3, 2), "B_im": (3, 2), "C_re": (2, 3), "C_im": (2, 3)}
    ...         p |= {key: self.param(key, nn.initializers.normal(), shape) for key, shape in shapes.items()}
    ...         B = jax.numpy.exp(p["gamma_log"])[:, None] * (p["B_re"] + 1j * p["B_im"])
    ...         poles = jax.numpy.exp(-jax.numpy.exp(p["nu_log"]) + 1j * jax.numpy.exp(p["theta_log"]))
    ...         return (sr.scan(poles, u @ B.T) @ (p["C_re"] + 1j * p["C_im"]).T).real + p["D"] * u
    >>> module = nn.Sequential([LRU(), nn.gelu, nn.Dense(4)])
    >>> x = np.ones((5, 8, 2), dtype=np.float32)
    >>> net = FlaxNetwork(module, variables=module.init(jax.random.key(0), x))
    >>> small = sr.prune(net.model, {"params/layers_0": [0, 2]})
    >>> live = net.rebuild(small)
    >>> live(x).shape, live.variables["params"]["layers_0"]["B"].shape
    ((5, 8, 4), (2, 2, 2))
    """

    framework = "flax"
    module: nn.Module
    variables: Mapping[str, Any]

    def __init__(
        self,
        module: Any,
        *,
        variables: Mapping[str, Any] | None = None,
        adapter: Adapter | None = None,
        inputs: Inputs = None,
        mask: int | str | Callable[[Any], Any] | None = None,
        output: Callable[[Any], Any] | None = None,
        channels_first: bool = False,
        **call: Any,
    ) -> None:
        live = self._live(module, variables, adapter, channels_first, call)
        super().__init__(
            live.current_model(), inputs=inputs, mask=mask, output=output, channels_first=live.channels_first
        )
        self.live, self.module, self.variables = live, live.module, live.variables

    @staticmethod
    def _live(
        module: Any,
        variables: Mapping[str, Any] | None,
        adapter: Adapter | None,
        channels_first: bool,
        call: Mapping[str, Any],
    ) -> ReducedFlax:
        if isinstance(module, ReducedFlax):
            live = module if variables is None else module.with_variables(variables)
            return replace(live, call={**live.call, **call})
        if not isinstance(module, nn.Module):
            raise ArgumentError(f"module is {described(module)}; a flax.linen.Module is needed")
        if variables is None and module.scope is not None:
            module, variables = module.unbind()
        if not isinstance(variables, Mapping) or _COLLECTION not in variables:
            raise ArgumentError(
                f"variables is {described(variables)}; what the first argument of module.apply is, a mapping with the "
                f"collection {_COLLECTION!r}, is needed beside a Flax module: network(module, variables=variables)"
            )
        model = read(variables, adapter=adapter)
        astray = [name for name in model if not name.startswith(_COLLECTION)]
        if astray:
            raise ArgumentError(f"layer {astray[0]!r} is not in the collection {_COLLECTION!r} of the variables")
        return ReducedFlax(module, variables, model, channels_first=channels_first, call=call)

    def _call(self, stand_in: StandIn, args: tuple, kwargs: dict) -> Any:
        return self.live.apply_with(stand_in, self.variables, *args, **{**self.live.call, **kwargs})

    def placed(self, layers: Mapping[str, Parts], model: SSMModel) -> ReducedFlax:
        """See `JaxNetwork.placed`."""
        variables, structures = _copied(self.variables), dict(self.live.structures)
        for name, (structure, values) in layers.items():
            structures[name] = structure
            kind = dtype_of(self.base, name)
            node = _node(variables[_COLLECTION], path_of(name))
            for key in self._keys(name):
                _remove(node, key.removeprefix(f"{name}/").split("/"))
            node.update({key: jnp.asarray(value, kind) for key, value in values.items()})
        variables.pop(_TAGS, None)
        return replace(
            self.live,
            variables={**variables, **_tags(structures)},
            structures=structures,
            channels_first=self._channels_first,
            others=dict(self._others),
            model=replace(self.live.model, metadata=model.metadata),
        )

    def arrays(self, live: ReducedFlax) -> dict[str, np.ndarray]:
        """See `JaxNetwork.arrays`."""
        stored = {key: value for key, value in live.variables.items() if key != _TAGS}
        return {key.replace("/", "."): np.asarray(value) for key, value in flatten(stored).items()}

    def replaced(self, live: ReducedFlax) -> Mapping[str, Structure]:
        """See `JaxNetwork.replaced`."""
        return live.structures

    def with_arrays(self, live: ReducedFlax, arrays: Mapping[str, np.ndarray]) -> ReducedFlax:
        """See `JaxNetwork.with_arrays`."""
        stored = {key: value for key, value in live.variables.items() if key != _TAGS}
        return live.with_variables({**live.variables, **filled(stored, arrays)})

    def _keys(self, name: str) -> Iterable[str]:
        """Names of the arrays of a layer as it was read."""
        adapter, params = self.base.adapter, self.base.params
        return adapter.put(params, name, adapter.get(params, name))


def path_of(name: str) -> Path:
    """Path of a module by the name of its layer."""
    name = name.removeprefix(_COLLECTION).removeprefix("/")
    return tuple(name.split("/")) if name and name != "." else ()


def _tags(structures: Mapping[str, Structure]) -> dict[str, Any]:
    """For each replaced layer an empty array under a name that no other layer has."""
    tags: dict[str, Any] = {}
    for name, structure in structures.items():
        node = tags
        for key in path_of(name):
            node = node.setdefault(key, {})
        node[hashlib.sha256(repr((name, structure)).encode()).hexdigest()] = jnp.zeros(0)
    return {_TAGS: tags} if tags else {}


def _copied(tree: Any) -> Any:
    return {key: _copied(value) for key, value in tree.items()} if isinstance(tree, Mapping) else tree


def _node(tree: dict, path: Path) -> dict:
    for key in path:
        tree = tree[key]
    return tree


def _remove(node: dict, keys: list[str]) -> None:
    """Remove a leaf, and what is empty after that; a leaf that was removed before is no matter."""
    key, *further = keys
    if further and key in node:
        _remove(node[key], further)
        if not node[key]:
            del node[key]
    elif not further:
        node.pop(key, None)
