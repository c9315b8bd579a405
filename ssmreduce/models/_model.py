"""SSMModel: named systems, the untouched parameters they came from, and which states are left."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from .._support.arguments import require_kind
from .._support.frozen import FrozenMapping
from .._support.trees import Params
from ..adapters import Adapter
from ..errors import NotRepresentableError, UnknownNameError
from ..systems import DiagonalSSM, System
from ..systems._states import require_system, silence_states, take_states

FORMS = ("compact", "mask", "padded")
MODEL_ADVICE = "a model is needed, as load, read, prune, reduce, ... return it"


@dataclass(frozen=True, eq=False)
class SSMModel(FrozenMapping[Any]):
    """Mapping from layer name to system, read on demand from the parameters of a checkpoint.

    Made by `load`, `read`, `prune`, ...; models are immutable, and every verb returns a new one.

    Attributes
    ----------
    params : mapping
        name -> array as read, including everything that is not a state-space layer; never changed.
    adapter : Adapter
        Which arrays are which system.
    layers : tuple of str
        Layer names, in natural order.
    keep : mapping
        Layer name -> increasing indices of the states that are left, for the layers that were pruned. For a batch of
        systems (S4D) the indices count the states of all systems of the layer, in row-major order. Of a re-realised
        layer with different numbers of states per system, they are the slots of its padded system that hold a state.
    systems : mapping
        Layer name -> system, for the layers that were re-realised.
    metadata : mapping
        Text metadata of the file that was read.
    refitted : frozenset of str
        Layers whose parameters are no longer as read, since `refit`, `eliminate` or `refit_network` changed them.
    checksum : str
        Checksums that the file holds of all its tensors and that were verified: ``CRC-32`` or ``SHA-256``; else empty.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> model.orders["layers.0.seq"]
    64
    >>> model["layers.0.seq"]
    DiagonalSSM(order=64, inputs=32, outputs=32, conj_sym=True, causal)
    """

    whole = "the model"
    params: Mapping[str, Any]
    adapter: Adapter
    layers: tuple[str, ...]
    keep: Mapping[str, np.ndarray] = field(default_factory=dict)
    systems: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    refitted: frozenset[str] = frozenset()
    checksum: str = ""
    _full: dict[str, System] = field(default_factory=dict, init=False, repr=False)
    _left: dict[str, System] = field(default_factory=dict, init=False, repr=False)
    _sizes: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("params", "keep", "systems", "metadata"):
            values = {key: _read_only(value) for key, value in getattr(self, name).items()}
            object.__setattr__(self, name, MappingProxyType(values))

    def __getitem__(self, name: str) -> Any:
        self.require(name)
        if name in self.systems:
            return self.systems[name]
        if name not in self._left:
            self._left[name] = self._take(name)
        return self._left[name]

    def full_system(self, name: str) -> Any:
        """System of a layer with all the states that were read, whatever was pruned."""
        if name not in self._full:
            self._full[name] = self.adapter.get(self.params, name)
        return self._full[name]

    def full_size(self, name: str) -> tuple[int, int]:
        """Number of systems of a layer as it was read, and stored states per system."""
        if name not in self._sizes:
            self._sizes[name] = self.adapter.sizes(self.params, name)
        return self._sizes[name]

    def _take(self, name: str) -> System:
        system = self.full_system(name)
        if name not in self.keep:
            return system
        index, valid = self.state_index(name)
        if not system.batch:
            index, valid = index[0], valid[0]
        return silence_states(take_states(system, index), ~valid)

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __repr__(self) -> str:
        return f"SSMModel({len(self)} layers, {sum(self.orders.values())} states, adapter={self.adapter!r})"

    @property
    def orders(self) -> dict[str, int]:
        """Layer name -> number of stored states that are left (over all systems of a batch)."""
        return {name: int(self.state_index(name)[1].sum()) for name in self.layers}

    def state_index(self, name: str, order: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Original state of each slot of a layer, and whether it is one of those that are left.

        Parameters
        ----------
        name : str
        order : int, optional
            Slots a system; by default as many as its largest system needs. Slots that remain are filled with dropped
            states.

        Returns
        -------
        index : ndarray, shape (s, order), int64
            For each of the s systems first the states that are left, then dropped ones.
        valid : ndarray, shape (s, order), bool
        """
        if name in self.systems:
            ssm = self.systems[name]
            systems, n = ssm.systems, ssm.order
        else:
            systems, n = self.full_size(name)
        keep = self.keep.get(name)
        left = np.ones((systems, n), dtype=bool)
        if keep is not None:
            left[...] = False
            left.ravel()[keep] = True
        filling = np.zeros((systems, n), dtype=np.int64)
        if order is not None and name not in self.systems:  # dropped states fill the slots unit by unit
            units = self.adapter.units(self.params, name)
            filling = filling if units is None else units
        order = int(left.sum(axis=1).max()) if order is None else order
        index = np.lexsort((np.where(left, -1, filling), ~left), axis=1)[:, :order]
        return index, np.take_along_axis(left, index, axis=1)

    def units(self, name: str) -> np.ndarray | None:
        """Which states of a layer the arrays of its family hold together.

        Parameters
        ----------
        name : str

        Returns
        -------
        ndarray, shape (s, order), int64, or None
            States with equal numbers stay or go together in smaller arrays (the features of S4 that share one state
            matrix, the two states of an oscillator); `select` keeps them together. None where every state stands alone.
        """
        if name in self.systems:
            return None
        units = self.adapter.units(self.params, name)
        return None if units is None else np.take_along_axis(units, self.state_index(name)[0], axis=1)


def _read_only(value: Any) -> Any:
    """Read-only view of a NumPy array, whose owner may go on writing; anything else, and read-only arrays, as it is."""
    if isinstance(value, np.ndarray) and value.flags.writeable:
        value = value.view()
        value.flags.writeable = False
    return value


def replace_system(model: SSMModel, name: str, ssm: DiagonalSSM, *, valid: np.ndarray | None = None) -> SSMModel:
    """Model with one layer re-realised.

    Parameters
    ----------
    model : SSMModel
    name : str
        Layer name.
    ssm : DiagonalSSM
        The new system; whether the model family can hold it shows when the model is exported.
    valid : ndarray, shape (s, n), bool, optional
        Which slots of each of the s systems hold a state, those first, where the systems of a batch have different
        numbers of states; the others must have no input and no output. By default all.

    Returns
    -------
    SSMModel

    Raises
    ------
    UnknownLayerError

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> ssm = sr.DiagonalSSM(Lambda=[0.5], B=[[1.0] * 32], C=[[1.0]] * 32, D=model["layers.0.seq"].D, conj_sym=True)
    >>> replace_system(model, "layers.0.seq", ssm).orders["layers.0.seq"]
    1
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    model.require(name)
    require_system(ssm)
    keep = {key: value for key, value in model.keep.items() if key != name}
    if valid is not None and not valid.all():
        keep[name] = np.flatnonzero(valid)
    return changed(model, keep=keep, systems={**model.systems, name: ssm})


def changed(model: SSMModel, *, stale: str | None = None, **fields: Any) -> SSMModel:
    """The model with other fields; systems that were decoded stay decoded, but for the layer that is `stale`."""
    result = replace(model, **fields)
    result._full.update((name, system) for name, system in model._full.items() if name != stale)
    result._sizes.update(model._sizes)
    return result


def overwrite_states(model: SSMModel, name: str, ssm: DiagonalSSM) -> SSMModel:
    """Model with the states of a layer that are left, and its D, changed in the parameters.

    Unlike `replace_system` the layer stays a selection of states, so that every form of `export` holds it, and states
    that did not change keep their raw bits. A layer that was re-realised before is replaced.

    Parameters
    ----------
    model : SSMModel
    name : str
        Layer name.
    ssm : DiagonalSSM
        System with the states of ``model[name]``, in the same order.

    Returns
    -------
    SSMModel

    Raises
    ------
    UnknownLayerError
    NotRepresentableError
        The model family cannot hold the system.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.prune(sr.models.example(), {"layers.0.seq": [3, 7]})
    >>> doubled = replace(model["layers.0.seq"], C=2 * model["layers.0.seq"].C)
    >>> overwrite_states(model, "layers.0.seq", doubled).orders["layers.0.seq"]
    2
    """
    if name in model.systems:
        return replace_system(model, name, ssm, valid=model.state_index(name)[1])
    model = writable(model)
    old = model.full_system(name)
    index, valid = model.state_index(name)
    rows, slots = np.nonzero(valid)
    states = (rows, index[rows, slots])
    fields = {key: getattr(old, key) for key in ("Lambda", "B", "C", "C_reverse")}
    for key, value in fields.items():
        if value is not None:
            axis = -1 if key.startswith("C") else len(old.batch)
            fields[key] = _written(value, getattr(ssm, key), old.batch, axis, states, (rows, slots))
    full = replace(old, D=ssm.D, **fields)
    params = {**model.params, **model.adapter.put(model.params, name, full)}
    return changed(model, stale=name, params=params, refitted=model.refitted | {name})


def write_states(model: SSMModel, name: str, ssm: DiagonalSSM) -> SSMModel:
    """`overwrite_states` where the model family holds the system, else `replace_system`: for live networks."""
    try:
        return overwrite_states(model, name, ssm)
    except NotRepresentableError:
        return replace_system(model, name, ssm, valid=model.state_index(name)[1])


def _written(
    old: np.ndarray, new: np.ndarray, batch: tuple[int, ...], axis: int, states: tuple, slots: tuple
) -> np.ndarray:
    """Copy of `old` with the entries of the new states, which lie along `axis`, at the places of the old ones."""
    systems = math.prod(batch)
    full = old.copy().reshape(systems, *old.shape[len(batch) :])
    axis = axis % old.ndim - len(batch) + 1
    source = new.reshape(systems, *new.shape[len(batch) :])
    np.moveaxis(full, axis, 1)[states] = np.moveaxis(source, axis, 1)[slots]
    return full.reshape(old.shape)


def writable(model: SSMModel) -> SSMModel:
    """The same model in arrays that can hold its changed layers; the model itself where they can already."""
    params, adapter = model.adapter.written(model.params, model.layers)
    return model if adapter is model.adapter else replace(model, params=params, adapter=adapter)


def export(model: SSMModel, *, form: str = "compact") -> Params:
    """Flat parameters of the model: what `save` writes.

    Parameters
    ----------
    model : SSMModel
    form : {"compact", "mask", "padded"}
        ``compact``: arrays with the states that are left, per layer. ``mask``: the shapes as read, the inputs and
        outputs of dropped states zeroed. ``padded``: every layer (and every S4D feature) with as many slots as the
        largest needs, for stock code that takes one state size for all layers; slots that remain hold dropped states
        with inputs and outputs zeroed.

    Returns
    -------
    dict
        name -> array. Parameters that are not part of a changed layer are the very objects that were read. `unflatten`
        makes the nested tree of a Flax model of it; for PyTorch, ``{name: torch.as_tensor(value.copy())}``.

    Raises
    ------
    UnknownNameError
        An unknown form.
    NotRepresentableError
        ``compact`` with different numbers of states in the features of one layer, ``padded`` where a layer was read
        with fewer states than another one needs, or a re-realised layer that the model family cannot hold.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> pruned = sr.prune(model, {"layers.0.seq": [0, 1, 2]})
    >>> export(pruned)["layers.0.seq.B"].shape, export(pruned, form="mask")["layers.0.seq.B"].shape
    ((3, 32, 2), (64, 32, 2))
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    if form not in FORMS:
        raise UnknownNameError(f"there is no form {form!r}; choose from {', '.join(FORMS)}")
    if model.systems and form != "compact":
        raise NotRepresentableError(
            f"layers {', '.join(model.systems)} were re-realised; only form='compact' fits them"
        )
    if model.keep or model.systems or form == "padded":
        model = writable(model)
    params = dict(model.params)
    widest = max((model.state_index(name)[0].shape[1] for name in model.layers), default=0)
    for name in model.layers:
        if name in model.systems:
            params.update(model.adapter.put(params, name, model.systems[name]))
        elif name in model.keep or form == "padded":
            params.update(_restricted(model, name, form, widest))
    return params


def _restricted(model: SSMModel, name: str, form: str, widest: int) -> Params:
    systems, n = model.full_size(name)
    if form == "padded" and n < widest:
        raise NotRepresentableError(
            f"layer {name!r} has {n} states and cannot be padded to {widest}: only states that were dropped fill slots"
        )
    index, valid = model.state_index(name, widest if form == "padded" else None)
    if form == "compact" and not valid.all():
        counts = valid.sum(axis=1)
        raise NotRepresentableError(
            f"the features of layer {name!r} keep between {counts.min()} and {counts.max()} states, but its arrays "
            "hold the same number for each; select with scope='system', or write form='mask' or form='padded'"
        )
    if form == "mask":
        index = np.broadcast_to(np.arange(n), (systems, n))
        valid = np.zeros((systems, n), dtype=bool)
        valid.ravel()[model.keep[name]] = True
    return model.adapter.restrict(model.params, name, index, valid)
