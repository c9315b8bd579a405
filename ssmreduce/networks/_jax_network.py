"""What the networks of Flax and Equinox share: running with any systems in place of the layers, checks, gradients."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import array_api_compat
import jax
import jax.numpy as jnp
import numpy as np

from .._support.arguments import described
from ..errors import ArrayKindError, EvaluationError, NonFiniteError, ShapeError, SSMReduceError
from ..models import SSMModel
from ..responses import simulate
from ._batches import Inputs, arguments, picked, sequences_in, step_mask, take_sequences
from ._flat import Parts, Structure, real_parameters
from ._jax_host import Watch, first_array, first_output
from ._jax_layers import Matrices, respond
from ._jax_models import beside, dtype_of, gradients_of, matrices_of, states_of
from ._protocol import Gradients, Network, Pullback, changed_layers

_CHECKED = 4  # sequences on which the layers are compared with their systems
_TOLERANCE = {8: 1e-8}  # of the system against the original layer, relative to its largest output
_COARSE = 2e-3  # in single precision, in which long memories accumulate rounding errors


StandIn = Callable[[str, Callable[[], Any], tuple, dict], Any]
"""What is called in place of a layer: its name, the original call, and the arguments."""


class JaxNetwork(Network):
    """Base of the networks of Flax and Equinox modules.

    A subclass gives `_call`, `placed`, `arrays`, `replaced` and `with_arrays`, and in its constructor `model`.
    """

    differentiable = True
    framework: ClassVar[str]
    module: Any

    def __init__(
        self,
        model: SSMModel,
        *,
        inputs: Inputs = None,
        mask: int | str | Callable[[Any], Any] | None = None,
        output: Callable[[Any], Any] | None = None,
        channels_first: bool = False,
    ) -> None:
        self.model, self._channels_first = model, bool(channels_first)
        self._inputs, self._mask, self._output = inputs, mask, output
        self._others: dict[str, int] = {}  # these three are shared by all networks of one live object
        self._state = {"checked": False}
        self._compiled: dict[Any, tuple[Callable, Callable]] = {}

    @abstractmethod
    def _call(self, stand_in: StandIn, args: tuple, kwargs: dict) -> Any:
        """Call the network with something in place of its layers."""

    @abstractmethod
    def placed(self, layers: Mapping[str, Parts], model: SSMModel) -> Any:
        """The live object with drop-in layers of these parts, made for `model`."""

    @abstractmethod
    def arrays(self, live: Any) -> dict[str, np.ndarray]:
        """All arrays of a live object, by names with dots."""

    @abstractmethod
    def replaced(self, live: Any) -> Mapping[str, Structure]:
        """What the drop-in layers of a live object know besides their parameters."""

    @abstractmethod
    def with_arrays(self, live: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """The live object with other values of its `arrays`."""

    # ---------------------------------------------------------------- the protocol

    def rebuild(self, model: SSMModel) -> Any:
        """The network with trainable drop-in layers in place of those that `model` changed.

        Parameters
        ----------
        model : SSMModel
            Of the layers of ``self.model``.

        Returns
        -------
        object
            A `ReducedFlax` with ``apply(variables, ...)`` and ``variables``, as a module has; or a module with
            `NnxLayer` or `EquinoxLayer` in it. `network` reads it again, as drop-in layers, and the two latter with
            ``model=self.model`` in the family of the original.

        Raises
        ------
        UnknownLayerError
        """
        names = changed_layers(self.base, model)
        return self.placed({name: real_parameters(model[name], states_of(model, name)) for name in names}, model)

    def options(self, name: str) -> dict[str, Any]:
        """Keyword arguments of the drop-in of one layer."""
        return {
            "channels_first": self._channels_first,
            "others": self._others.get(name, 0),
            "dtype": dtype_of(self.base, name),
        }

    def told(self, channels_first: bool, others: Mapping[str, int]) -> "JaxNetwork":
        """The same network, told by a file what a batch would tell: how its layers are called."""
        other = copy.copy(self)
        other._channels_first, other._others = channels_first, dict(others)
        return other

    def outputs(self, model: SSMModel, batch: Any) -> np.ndarray:
        """See `Network.outputs`."""
        self.check(batch)
        return np.asarray(self._pass(model, batch)[1], dtype=np.float64)

    def layer_inputs(self, model: SSMModel, batch: Any) -> Mapping[str, np.ndarray]:
        """See `Network.layer_inputs`."""
        return self.record(model, batch)[1]

    def record(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """See `Network.record`."""
        self.check(batch)
        watch, z = self._pass(model, batch)
        return np.asarray(z, dtype=np.float64), watch.inputs(self.base.layers)

    def mask(self, batch: Any, length: int) -> np.ndarray | None:
        """See `Network.mask`."""
        return step_mask(batch, self._mask, length)

    def vjp(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Pullback]:
        """See `Network.vjp`; compiled once for systems of the same orders and batches of the same shape."""
        self.check(batch)
        args, kwargs = self._arguments(batch)
        structures, systems = {}, {}
        for name in self.base:
            structures[name], systems[name] = matrices_of(
                model[name], states_of(model, name), dtype_of(self.base, name)
            )
        forward, backward = self._derivative(structures)
        z, pullback = forward(systems, args, kwargs)

        def pull(gradient: np.ndarray) -> dict[str, Gradients]:
            found = backward(pullback, jnp.asarray(gradient, z.dtype))
            return {name: gradients_of(model[name], states_of(model, name), found[name]) for name in found}

        return np.asarray(z, dtype=np.float64), pull

    # ---------------------------------------------------------------- running

    def check(self, batch: Any) -> None:
        """Compare every layer with its system on one batch, once.

        Raises
        ------
        EvaluationError
            A layer that computes something else than its system.
        """
        if self._state["checked"]:
            return
        batch = take_sequences(batch, np.arange(min(sequences_in(batch), _CHECKED)))
        before, after = Watch(self._channels_first), Watch(self._channels_first)

        def both(name: str, run: Callable[[], Any], args: tuple, kwargs: dict) -> Any:
            u, result = jnp.asarray(first_array(args, kwargs, name)), run()
            y, self._others[name] = first_output(result, name)
            self._check_width(name, u)
            before.run(name, lambda u: u, u, u.shape[-2 if self._channels_first else -1])
            after.run(name, lambda y: y, y, y.shape[-2 if self._channels_first else -1])
            return result

        self._run(both, batch)
        before.require(self.base.layers)
        for (name, u), (_, y) in zip(before.seen, after.seen, strict=True):
            if not np.isfinite(u).all():
                raise NonFiniteError(f"layer {name!r} is fed NaN or infinite values: look at the batch that is given")
            _compare(name, y, simulate(self.base[name], u), self.base)
        self._state["checked"] = True

    def _check_width(self, name: str, u: jax.Array) -> None:
        ssm, axis = self.base[name], -2 if self._channels_first else -1
        width = ssm.inputs * ssm.systems
        if u.ndim < 2 or u.shape[axis] != width:
            wanted = f"(..., {width}, L)" if self._channels_first else f"(..., L, {width})"
            if u.ndim < 2:
                raise ShapeError(
                    f"layer {name!r} is called feature by feature, as inside vmap over the features, where no system "
                    f"can take its place: make it one module that takes {wanted}; the parameters are the same"
                )
            raise ShapeError(
                f"layer {name!r} was called with {described(u)}, and its system takes {wanted}; channels_first=True "
                "says that layers take (..., width, L)"
            )

    def _pass(self, model: SSMModel, batch: Any) -> tuple[Watch, Any]:
        """Run with the systems of a model on the host."""
        watch = Watch(self._channels_first)
        systems = {name: model[name] for name in self.base}

        def by_system(name: str, run: Callable[[], Any], args: tuple, kwargs: dict) -> Any:
            ssm = systems[name]
            width = ssm.outputs * ssm.systems
            u = jnp.asarray(first_array(args, kwargs, name))
            return self._beside(name, watch.run(name, partial(simulate, ssm), u, width))

        z = self._run(by_system, batch)
        watch.require(self.base.layers)
        return watch, z

    def _beside(self, name: str, y: jax.Array) -> Any:
        return beside(y, self._others.get(name, 0))

    def _arguments(self, batch: Any) -> tuple[tuple, dict]:
        args, kwargs = arguments(batch, self._inputs)
        return tuple(map(_array, args)), {key: _array(value) for key, value in kwargs.items()}

    def _run(self, stand_in: StandIn, batch: Any) -> Any:
        """Output array of the network."""
        args, kwargs = self._arguments(batch)
        try:
            z = self._call(stand_in, args, kwargs)
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError) as error:
            if isinstance(error, SSMReduceError):
                raise
            given = ", ".join([*map(described, args), *(f"{key}={described(v)}" for key, v in kwargs.items())])
            raise EvaluationError(
                f"the network failed when it was called with ({given}): {type(error).__name__}: {error}. "
                "inputs=... says which elements of a batch it is called with"
            ) from error
        return self._picked(z)

    def _picked(self, z: Any) -> jax.Array:
        z = picked(self._output, z)
        z = jnp.asarray(z) if isinstance(z, np.ndarray) else z
        if not array_api_compat.is_jax_array(z):
            raise EvaluationError(
                f"the network returns {described(z)}; give output=..., a function that picks one array (batch, ...) of "
                "it, such as output=lambda out: out[0]"
            )
        if z.ndim == 0 or not jnp.issubdtype(z.dtype, jnp.floating):
            raise ArrayKindError(f"the network returns {described(z)} of {z.dtype}; real numbers, sequences first")
        return z

    # ---------------------------------------------------------------- derivatives

    def _derivative(self, structures: dict[str, Structure]) -> tuple[Callable, Callable]:
        """Compiled pair: outputs and their linearisation; the pullback of a gradient."""
        key = tuple((name, s.counts, s.diagonal, s.bidirectional) for name, s in structures.items())
        if key in self._compiled:
            return self._compiled[key]

        def outputs(systems: dict[str, Matrices], args: tuple, kwargs: dict) -> jax.Array:
            def by_matrices(name: str, run: Callable[[], Any], given: tuple, named: dict) -> Any:
                u = jnp.asarray(first_array(given, named, name))
                y = respond(structures[name], systems[name], jnp.swapaxes(u, -1, -2) if self._channels_first else u)[0]
                return self._beside(name, jnp.swapaxes(y, -1, -2) if self._channels_first else y)

            return self._picked(self._call(by_matrices, args, kwargs))

        def forward(systems: dict[str, Matrices], args: tuple, kwargs: dict) -> tuple[jax.Array, Callable]:
            return jax.vjp(lambda systems: outputs(systems, args, kwargs), systems)

        self._compiled[key] = pair = jax.jit(forward), jax.jit(lambda pullback, gradient: pullback(gradient)[0])
        return pair


def _array(value: Any) -> Any:
    """PyTorch tensors as NumPy arrays: the batches of its data loaders are welcome; anything else as it is."""
    if array_api_compat.is_torch_array(value):
        return value.detach().cpu().numpy()
    return value


def _compare(name: str, original: np.ndarray, ours: np.ndarray, model: SSMModel) -> None:
    if original.shape != ours.shape:
        raise EvaluationError(
            f"layer {name!r} returns shape {original.shape} for one that its system answers with {ours.shape}"
        )
    largest = max(float(np.abs(original).max(initial=0.0)), float(np.finfo(np.float32).tiny))
    error = float(np.abs(original - ours).max(initial=0.0)) / largest
    if not error <= _TOLERANCE.get(original.dtype.itemsize, _COARSE):
        raise EvaluationError(
            f"layer {name!r} is not the system that was read from its parameters: on this batch their outputs differ "
            f"by {error:.2g} of the largest. Read with {model.adapter!r}: give the flags with which the network was "
            "built as adapter=..."
        )
