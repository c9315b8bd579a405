"""Networks of live PyTorch modules: shared-memory copies whose state-space layers are swapped for drop-ins."""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import array_api_compat
import numpy as np

from .._support.arguments import described
from .._support.trees import flatten
from ..adapters import Adapter
from ..errors import ArgumentError, ArrayKindError, EvaluationError, MissingFlagError, SSMReduceError, UnknownLayerError
from ..models import SSMModel, read
from ..realization import Realization
from ._batches import Inputs, arguments, picked, sequences_in, step_mask, take_sequences
from ._protocol import RECORD, Gradients, Network, Pullback, changed_layers, register

_CHECKED = 4  # sequences on which the drop-ins are compared with the original


RECORD_ATTRIBUTE = "ssmreduce_record"
"""Attribute of a reduced module with the record of what was done to it, as JSON."""


def is_module(obj: Any) -> bool:
    """Whether an object is a live PyTorch module; PyTorch is not imported for it."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(obj, torch.nn.Module)


class TorchNetwork(Network):
    """Network of a live ``torch.nn.Module``, whose code and tensors stay untouched.

    Parameters
    ----------
    module : torch.nn.Module
        It is run in evaluation mode whatever its own mode is.
    adapter : Adapter, optional
        As in `read`: what a live module cannot tell.
    inputs : int, str, tuple or callable, optional
        Which element of a batch the network is called with: an index of a tuple, a key of a dictionary, several of
        them, or a function of the batch. By default the first one.
    mask : int, str or callable, optional
        Which element of a batch carries the lengths, shape (batch,), or the padding mask (batch, L), 1 for data.
    output : callable, optional
        From what the module returns to one tensor (batch, ...), where it returns something else.
    channels_first : bool, optional
        Whether layers of an unknown class take (batch, width, L). By default told from the shapes of a batch.
    layers : sequence of str, optional
        Submodules of no known family that take and return (batch, L, width). Their impulse responses are measured and
        realised (`realize`), and drop-in layers stand in their place, in a copy of the module.
    batch : Any, optional
        With `layers`: a real batch, on which each of them is checked to be linear, time invariant and causal. The
        responses are measured over its length.
    order : int, optional
    tolerance : float, optional
        With `layers`: as in `realize`; a tolerance of 1e-3 where neither is given.

    Attributes
    ----------
    realizations : dict
        Of the measured layers, name -> `Realization`, with its proven error.

    Raises
    ------
    ArgumentError
        A compiled, scripted, quantised or wrapped module, or layers that cannot be swapped: shared ones, with hooks or
        with parametrisations.
    AdapterError, IncompleteLayerError, MissingFlagError
        As in `read`.

    Notes
    -----
    On the first batch that it sees, the network with a drop-in of each full system is compared with the original,
    layer by layer; a difference raises `EvaluationError`, which names the layer.

    Examples
    --------
    >>> import ssmreduce as sr, torch
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer)
    >>> net = sr.network(module)
    >>> net.outputs(net.model, torch.zeros(2, 64, 1)).shape
    (2, 64, 32)
    """

    differentiable = True

    def __init__(
        self,
        module: Any,
        *,
        adapter: Adapter | None = None,
        inputs: Inputs = None,
        mask: int | str | Callable[[Any], Any] | None = None,
        output: Callable[[Any], Any] | None = None,
        channels_first: bool | None = None,
        layers: Sequence[str] = (),
        batch: Any = None,
        order: int | None = None,
        tolerance: float | None = None,
    ) -> None:
        from . import _torch_checks as checks
        from . import _torch_places as places

        checks.check_module(module)
        self._inputs, self._mask, self._output = inputs, mask, output
        self.realizations: dict[str, Realization] = {}
        if layers:
            module = self._measured(module, layers, batch, order, tolerance)
        elif any(value is not None for value in (batch, order, tolerance)):
            raise ArgumentError("batch, order and tolerance are for layers that are measured: give layers=... too")
        self.module = module
        self.model = _read(module, adapter)
        self._places = {name: places.place_of(module, name, self.model.adapter, channels_first) for name in self.model}
        for name in self.model:
            checks.check_layer(places.submodule(module, name), name)
            checks.check_kernel(self._places[name], self.model[name])
        checks.check_shared(module, self._places)
        shadow = places.shared_copy(module).eval()  # what is run; shared, with its state, by all networks of one module
        self._state: dict[str, Any] = {"shadow": shadow, "placed": None, "checked": False}

    def _measured(
        self, module: Any, layers: Sequence[str], batch: Any, order: int | None, tolerance: float | None
    ) -> Any:
        """The module with drop-ins for layers that can only be run."""
        from ._torch_measured import measured

        if isinstance(layers, str):
            raise ArgumentError(f"layers is a list of names of submodules, such as layers=[{layers!r}]")
        if batch is None:
            raise ArgumentError("layers that are measured are checked on a real batch: give batch=...")
        part = take_sequences(batch, np.arange(min(sequences_in(batch), _CHECKED)))
        module, self.realizations = measured(
            module, layers, lambda net: self._run(net, part), order=order, tolerance=tolerance
        )
        return module

    # ---------------------------------------------------------------- the protocol

    def outputs(self, model: SSMModel, batch: Any) -> np.ndarray:
        """See `Network.outputs`."""
        self.check(batch)
        self._place(model)
        with sys.modules["torch"].no_grad():
            return _host(self._run(self._state["shadow"], batch))

    def layer_inputs(self, model: SSMModel, batch: Any) -> Mapping[str, np.ndarray]:
        """See `Network.layer_inputs`."""
        return self.record(model, batch)[1]

    def record(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Mapping[str, np.ndarray]]:
        """See `Network.record`."""
        self.check(batch)
        self._place(model)
        z, seen = self._recorded(self._state["shadow"], batch)
        return _host(z), {name: layer.u for name, layer in seen.items()}

    def mask(self, batch: Any, length: int) -> np.ndarray | None:
        """See `Network.mask`."""
        return step_mask(batch, self._mask, length)

    def rebuild(self, model: SSMModel) -> Any:
        """A copy of the module with trainable drop-in layers in place of those that `model` changed."""
        from . import _torch_places as places

        return self.replace_in(places.independent_copy(self.module), model)

    def vjp(self, model: SSMModel, batch: Any) -> tuple[np.ndarray, Pullback]:
        """See `Network.vjp`."""
        torch = sys.modules["torch"]
        if torch.is_inference_mode_enabled():
            raise EvaluationError("there are no gradients inside torch.inference_mode(): leave it, or give finish=None")
        self.check(batch)
        self._place(model)
        leaves = {name: place.leaves(self._state["shadow"]) for name, place in self._places.items()}
        flat = [tensor for tensors in leaves.values() for tensor in tensors.values()]
        with torch.enable_grad():
            z = self._run(self._state["shadow"], batch)
        value = _host(z)

        def pull(gradient: np.ndarray) -> dict[str, Gradients]:
            seed = torch.as_tensor(np.ascontiguousarray(gradient), dtype=z.dtype, device=z.device)
            found = iter(torch.autograd.grad(z, flat, seed, allow_unused=True))
            by_layer = {name: {key: next(found) for key in tensors} for name, tensors in leaves.items()}
            return {name: self._places[name].gradients(model, by_layer[name]) for name in leaves}

        return value, pull

    # ---------------------------------------------------------------- running

    def _run(self, module: Any, batch: Any) -> Any:
        """Output tensor of the module for a batch."""
        torch = sys.modules["torch"]
        args, kwargs = arguments(batch, self._inputs)
        parameter = next(iter(module.parameters()), None)
        args = tuple(_on_device(value, parameter) for value in args)
        kwargs = {key: _on_device(value, parameter) for key, value in kwargs.items()}
        try:
            z = module(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            if isinstance(error, SSMReduceError):
                raise
            given = ", ".join([*map(_kind, args), *(f"{key}={_kind(value)}" for key, value in kwargs.items())])
            where = "without parameters" if parameter is None else f"{parameter.dtype} on {parameter.device}"
            raise EvaluationError(
                f"the network ({where}) failed when called with ({given}): {type(error).__name__}: {error}. "
                "inputs=... says which elements of a batch it is called with"
            ) from error
        z = picked(self._output, z)
        if not isinstance(z, torch.Tensor):
            raise EvaluationError(
                f"the network returns {described(z)}; give output=..., a function that picks one tensor (batch, ...) "
                "of it, such as output=lambda out: out[0]"
            )
        if z.is_complex() or not z.dtype.is_floating_point or z.ndim == 0:
            raise ArrayKindError(f"the network returns {_kind(z)}; real numbers, sequences first, are needed")
        return z

    def _recorded(self, module: Any, batch: Any) -> tuple[Any, dict[str, Any]]:
        """Output, and for all layers in the order of their calls their inputs and what their swapped parts return."""
        calls: dict[str, tuple[list, list]] = {}
        with contextlib.ExitStack() as stack:
            for place in self._places.values():
                place.record(module, calls, stack)
            stack.enter_context(sys.modules["torch"].no_grad())
            z = self._run(module, batch)
        if missing := [name for name in self._places if name not in calls or not calls[name][1]]:
            raise UnknownLayerError(
                f"the network did not call {', '.join(missing)} through its submodule: it may keep the layer in a "
                "list or use its parameters itself, and then it cannot be swapped"
            )
        return z, {name: self._places[name].joined(*calls[name]) for name in calls}

    # ---------------------------------------------------------------- swapping

    def _place(self, model: SSMModel) -> None:
        """Put the systems of a model into the copy that is run."""
        if model is self._state["placed"]:
            return
        self._state["placed"] = None
        for name, place in self._places.items():
            model.require(name)
            self._state["shadow"] = place.put(self._state["shadow"], model, trainable=False)
        self._state["placed"] = model

    def replace_in(self, module: Any, model: SSMModel) -> Any:
        """Trainable drop-ins in place of those layers of a module that `model` changed."""
        for name in changed_layers(self.base, model):
            module = self._places[name].put(module, model, trainable=True)
        if RECORD in model.metadata:
            setattr(module, RECORD_ATTRIBUTE, model.metadata[RECORD])
        return module

    def with_all_layers(self) -> Any:
        """A copy of the module in evaluation mode with drop-ins in all places."""
        from . import _torch_places as places

        self.check_layers()
        module = places.independent_copy(self.module)
        for place in self._places.values():
            module = place.put_new(module, self.base)
        return module.eval()

    def check(self, batch: Any) -> None:
        """Compare the network of drop-ins with the original on one batch, once.

        Raises
        ------
        EvaluationError
            A layer whose drop-in computes something else than the original.
        """
        if self._state["checked"]:
            return
        from . import _torch_checks as checks
        from . import _torch_places as places

        if sequences_in(batch) < 1:
            raise ArgumentError(f"the batch {described(batch)} has no sequence")
        batch = take_sequences(batch, np.arange(min(sequences_in(batch), _CHECKED)))
        original = places.shared_copy(self.module).eval()
        _, before = self._recorded(original, batch)
        for name, seen in before.items():
            self._places[name], old = self._places[name].told(self.base[name], seen), self._places[name]
            before[name] = seen.turned(
                bool(self._places[name].channels_first) and not old.channels_first, kernel=old.is_kernel
            )
        self._place(self.base)
        _, after = self._recorded(self._state["shadow"], batch)
        for name in before:
            checks.compare(self._places[name], before[name], after[name], self.base.adapter)
        self._state["checked"] = True

    def check_layers(self) -> None:
        """Compare every layer alone with its system on noise; what no batch has told is told by that.

        Raises
        ------
        EvaluationError
            A layer that computes something else than its system, or cannot be called alone.
        """
        from . import _torch_checks as checks

        for name, place in self._places.items():
            self._places[name] = checks.checked_alone(self.module, place, self.base)


def _read(module: Any, adapter: Adapter | None) -> SSMModel:
    """Model of a module; flags that its tensors do not tell are told by its layers."""
    from . import _torch_checks as checks

    try:
        model = read(module, adapter=adapter)
    except MissingFlagError:
        found = checks.told_adapter(module, flatten(module))
        if adapter is not None or found is None:
            raise
        model = read(module, adapter=found)
    record = getattr(module, RECORD_ATTRIBUTE, None)
    return model if record is None else replace(model, metadata={**model.metadata, RECORD: record})


def _host(tensor: Any) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().double().numpy())


def _on_device(value: Any, parameter: Any) -> Any:
    """Arrays as tensors on the device of the network, NumPy's floating point in its precision."""
    torch = sys.modules["torch"]
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value))
        if parameter is not None and value.dtype.is_floating_point:
            value = value.to(parameter.dtype.to_real() if parameter.dtype.is_complex else parameter.dtype)
    elif array_api_compat.is_array_api_obj(value) and not isinstance(value, torch.Tensor):
        raise ArrayKindError(f"a batch is {described(value)}; PyTorch tensors or NumPy arrays are needed")
    if isinstance(value, torch.Tensor) and parameter is not None:
        return value.to(parameter.device)
    return value


def _kind(value: Any) -> str:
    if array_api_compat.is_torch_array(value):
        return f"a tensor {tuple(value.shape)} of {value.dtype} on {value.device}"
    return described(value)


register("torch.nn.Module", is_module, TorchNetwork)
