"""What the networks of Flax and Equinox share: running with any systems in place of the layers, checks, gradients."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import array_api_compat
import jax
import jax.numpy as jnp
import numpy as np

from .._support.arguments import described
from ..errors import ArrayKindError, EvaluationError, NotRepresentableError, ShapeError, SSMReduceError
from ..models import SSMModel, replace_system
from ..responses import simulate
from ..systems import DiagonalSSM
from ._batches import Inputs, arguments, sequences_in, step_mask, take_sequences
from ._flat import Structure, flatten_states, real_parameters
from ._jax_host import Watch, first_array, first_output
from ._jax_layers import Matrices, respond
from ._protocol import Gradients, Network, Pullback

_CHECKED = 4  # sequences on which the layers are compared with their systems
_TOLERANCE = {8: 1e-8}  # of the system against the original layer, relative to its largest output
_COARSE = 2e-3  # in single precision, in which long memories accumulate rounding errors


StandIn = Callable[[str, Callable[[], Any], tuple, dict], Any]
"""What is called in place of a layer: its name, the original call, and the arguments."""


class JaxNetwork(Network):
    """Base of the networks of Flax and Equinox modules.

    A subclass gives `_call`, `rebuild`, and in its constructor `model`.
    """

    differentiable = True

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

    # ---------------------------------------------------------------- the protocol

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
            structures[name], systems[name] = _matrices(model[name], states_of(model, name), dtype_of(self.base, name))
        forward, backward = self._derivative(structures)
        z, pullback = forward(systems, args, kwargs)

        def pull(gradient: np.ndarray) -> dict[str, Gradients]:
            found = backward(pullback, jnp.asarray(gradient, z.dtype))
            return {name: _gradients(model[name], states_of(model, name), found[name]) for name in found}

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
        z = z if self._output is None else self._output(z)
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


def states_of(model: SSMModel, name: str) -> np.ndarray:
    """Which slots of each system of a layer hold a state, shape (s, n)."""
    return model.state_index(name)[1]


def with_systems(model: SSMModel, layers: Mapping[str, tuple[Structure, DiagonalSSM]]) -> SSMModel:
    """The model with the systems of drop-in layers in place of its own, held as family parameters where possible."""
    for name, (structure, ssm) in layers.items():
        valid = np.arange(ssm.order) < np.array(structure.counts)[:, None]
        ssm = in_family(model[name], ssm)
        try:
            params = {**model.params, **model.adapter.put(model.params, name, ssm)}
        except NotRepresentableError:
            model = replace_system(model, name, ssm, valid=valid)
            continue
        keep = {key: index for key, index in model.keep.items() if key != name}
        keep |= {} if valid.all() else {name: np.flatnonzero(valid)}
        systems = {key: system for key, system in model.systems.items() if key != name}
        model = replace(model, params=params, keep=keep, systems=systems)
    return model


def dtype_of(model: SSMModel, name: str) -> Any:
    """Precision of a layer: that of its parameters."""
    kinds = [
        value.dtype
        for key, value in model.params.items()
        if (key.startswith((f"{name}/", f"{name}.")) or name == ".") and isinstance(value, np.ndarray)
    ]
    return jnp.float64 if kinds and kinds[0] in (np.float64, np.complex128) else jnp.float32


def beside(y: jax.Array, others: int) -> Any:
    """The outputs of a layer, with None beside them as many times as the layer that it replaces has it."""
    return (y, *[None] * others) if others else y


def unchanged(params: Mapping[str, Any], model: SSMModel, replaced: Iterable[str]) -> dict[str, Any]:
    """Parameters of a live object that are those of a model, and not of its replaced layers."""
    starts = tuple(f"{name}{separator}" for name in replaced for separator in "./")
    return {key: value for key, value in params.items() if key in model.params and not key.startswith(starts)}


def told_by(name: str, structure: Structure, dtype: Any) -> dict[str, np.ndarray]:
    """What a drop-in layer knows besides its parameters, as arrays under the names of PyTorch's drop-in layers."""
    start = "" if name == "." else f"{name}."
    unit, side = np.array(structure.unit, dtype=dtype), np.array(structure.side, dtype=dtype)
    return {f"{start}unit": unit, f"{start}side": side, f"{start}owner": structure.owner}


def changed_layers(before: SSMModel, after: SSMModel) -> list[str]:
    """Names of the layers whose system another model holds differently."""
    return [name for name in before if not _equal(before[name], after[name])]


def _equal(a: DiagonalSSM, b: DiagonalSSM) -> bool:
    if a.bidirectional != b.bidirectional or a.conj_sym != b.conj_sym:
        return False
    fields = ("Lambda", "B", "C", "D") + ("C_reverse",) * a.bidirectional
    return all(np.array_equal(getattr(a, key), getattr(b, key)) for key in fields)


def in_family(like: DiagonalSSM, ssm: DiagonalSSM) -> DiagonalSSM:
    """The same real system with the factor kappa where the layer that was read has it."""
    if not like.conj_sym or ssm.conj_sym:
        return ssm
    reverse = None if ssm.C_reverse is None else ssm.C_reverse / 2
    return replace(ssm, C=ssm.C / 2, C_reverse=reverse, conj_sym=True)


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


def _matrices(ssm: DiagonalSSM, valid: np.ndarray, dtype: Any) -> tuple[Structure, Matrices]:
    """A system's own matrices, flat, in a precision."""
    structure, values = real_parameters(ssm, valid)
    flat = flatten_states(ssm, valid)
    kind = jnp.complex128 if dtype == jnp.float64 else jnp.complex64
    Lambda, B, C = (jnp.asarray(flat[key], kind) for key in ("Lambda", "B", "C"))
    reverse = None if flat["C_reverse"] is None else jnp.asarray(flat["C_reverse"], kind)
    return structure, Matrices(Lambda, B, C, reverse, jnp.asarray(values["D"], dtype))


def _gradients(ssm: DiagonalSSM, valid: np.ndarray, found: Matrices) -> Gradients:
    """Gradients of flat matrices in the shapes of the system; JAX's complex ones are conjugates of ours."""
    s, n = ssm.systems, ssm.order
    flat_states = flatten_states(ssm, valid)
    places = flat_states["owner"], flat_states["slot"]

    def placed(flat: Any, shape: tuple[int, ...], *, output: bool = False) -> np.ndarray:
        full = np.zeros((s, n, *flat.shape[1:]), dtype=np.complex128)
        full[places] = np.conj(np.asarray(flat))
        return ssm.kappa * full.swapaxes(1, 2).reshape(shape) if output else full.reshape(shape)

    D = np.asarray(found.D, dtype=np.float64)
    if D.ndim == 1:
        D = D.reshape(s, ssm.inputs, 1) * np.eye(ssm.inputs)
    return Gradients(
        placed(found.Lambda, ssm.Lambda.shape),
        placed(found.B, ssm.B.shape),
        placed(found.C, ssm.C.shape, output=True),
        D.reshape(ssm.D.shape),
        None if found.C_reverse is None else placed(found.C_reverse, ssm.C.shape, output=True),
    )
