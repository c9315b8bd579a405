"""The lens between the arrays of a checkpoint and its systems; one subclass a model family."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from .._support.trees import Params
from ..errors import (
    FlagError,
    MissingFlagError,
    NonFiniteError,
    NotRepresentableError,
    UnknownLayerError,
    UnknownNameError,
)
from ..responses import simulate
from ..systems import DiagonalSSM
from ._call import Call
from ._layout import DOUBLE, Layout, Mismatch, copies_of, enough, full_name, given, half_there, match, natural, places
from ._writing import along_states, difference, merge, take, unchanged_states

_NEARLY_OVERFLOWING = 350.0  # the exponential of twice as much is no double


@dataclass(frozen=True, kw_only=True)
class Adapter(ABC):
    """Base of the adapters: a family states its tables and how it decodes and encodes a system.

    A subclass gives `name`, `layouts` (one table of arrays a variant), `flag_help` (why a flag must be given),
    `limits` (what the family cannot hold), `_decode` and `_encode`; `calls` says how its live layers are called.

    Attributes
    ----------
    choices : mapping
        Flag -> values that it can take, of the flags that are names.
    states_per_unit : int
        States that one slot of the arrays holds (2 for an oscillator): state i of a layer with N slots is in slot
        ``i mod N``. They stay or go together.
    written_as : str
        Family that a smaller layer is written as, where this one cannot hold it; empty where it can.
    detected : bool
        Whether `detect` looks for the family. False where another family has the same arrays.
    calls : tuple of Call
        How the live layer is called, for every framework that it is written in.
    strict_reverse : bool
        The reverse half acts on later samples only (S4), see `ssmreduce.simulate`.
    channels_first : bool
        Where one feature has several outputs (channels), the layer gives all features of the first channel first,
        ``"(c h)"``. A system's outputs stand feature by feature, ``"(h c)"``.

    Notes
    -----
    The laws of the lens, tested for every family: ``put(params, name, get(params, name))`` changes nothing, bit for
    bit; ``get`` after ``put`` returns the system to float32 accuracy or ``put`` raises `NotRepresentableError`; mask
    and compact simulate alike.
    """

    name: ClassVar[str]
    layouts: ClassVar[tuple[Layout, ...]]
    flag_help: ClassVar[Mapping[str, str]] = {}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    limits: ClassVar[str]
    states_per_unit: ClassVar[int] = 1
    written_as: ClassVar[str] = ""
    detected: ClassVar[bool] = True
    calls: ClassVar[tuple[Call, ...]] = ()
    strict_reverse: ClassVar[bool] = False
    channels_first: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for flag in fields(self):
            object.__setattr__(
                self, flag.name, _checked_flag(self.name, flag.name, getattr(self, flag.name), flag.type)
            )
        for name, values in self.choices.items():
            if getattr(self, name) not in values:
                raise UnknownNameError(f"there is no {name} {getattr(self, name)!r}; choose from {', '.join(values)}")

    @abstractmethod
    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        """System of the arrays, given in double precision."""

    @abstractmethod
    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays of a system in double precision; `tensors` are those of the layer as it was (any order)."""

    # ---------------------------------------------------------------- finding layers

    @classmethod
    def find(cls, params: Mapping[str, Any]) -> list[str]:
        """Names of the layers that this family claims, in natural order."""
        return [name for name in cls.candidates(params) if isinstance(match(cls.layouts, params, name), dict)]

    @classmethod
    def candidates(cls, params: Mapping[str, Any]) -> list[str]:
        """Names under which half of the arrays of a layout stand (rounded down), complete or not."""
        leaves = {leaf for layout in cls.layouts for leaf in layout}
        there: dict[str, set[str]] = {}
        for key in params:
            for name, leaf in places(key, leaves):
                there.setdefault(name, set()).add(leaf)
        found = [
            name
            for name, own in there.items()
            if any(enough(layout, own) and half_there(layout, params, name) for layout in cls.layouts)
        ]
        return sorted(found, key=natural)

    @classmethod
    def keys(cls, params: Mapping[str, Any], name: str) -> set[str]:
        """Names of the arrays that stand where the family has some, below a layer or a candidate."""
        names = {full_name(params, name, leaf) for layout in cls.layouts for leaf in layout}
        return names & params.keys()

    @classmethod
    def explain(cls, params: Mapping[str, Any], name: str) -> Mismatch:
        """Why a candidate is not a complete layer of this family."""
        mismatch = match(cls.layouts, params, name)
        assert isinstance(mismatch, Mismatch)
        return mismatch

    @classmethod
    def flags(cls) -> tuple[str, ...]:
        """Names of the family's flags."""
        return tuple(flag.name for flag in fields(cls))

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> "Adapter":
        """Adapter with these flags; a flag that must be given and is not raises `MissingFlagError`."""
        known = set(cls.flags())
        if unknown := set(flags) - known:
            raise FlagError(
                f"the adapter {cls.name} has no flag {', '.join(sorted(unknown))}; "
                f"its flags: {', '.join(sorted(known)) or 'none'}"
            )
        missing = [f for f in cls.flag_help if f in known and f not in flags]
        if missing:
            reasons = "; ".join(f"{f}: {cls.flag_help[f]}" for f in missing)
            call = ", ".join(f"{f}=..." for f in missing)
            options = " ".join(f"--set {f}=..." for f in missing)
            raise MissingFlagError(
                f"this is a checkpoint of the family {cls.name}, and it does not hold {', '.join(missing)}: give "
                f"adapter=adapters.{cls.__name__}({call}), or on the command line --adapter {cls.name} {options}. "
                f"{reasons}"
            )
        return cls(**flags)

    # ---------------------------------------------------------------- the lens

    def sizes(self, params: Mapping[str, Any], name: str) -> tuple[int, int]:
        """Number of systems and stored states a system of a layer."""
        sizes = self._matched(params, name)[1]
        return sizes.get("s", 1), self.states_per_unit * sizes["n"]

    def units(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """Which states the arrays hold together, so that they stay or go together.

        Returns
        -------
        ndarray, shape (s, n), int64, or None
            States with the same number share a slot of some array: the features that share one state matrix, the two
            states of an oscillator. None where every state has its own.
        """
        layout, sizes, _ = self._matched(params, name)
        systems, order = self.sizes(params, name)
        copies = min(copies_of(tensor, sizes) for tensor in layout.values() if tensor.state_axis is not None)
        if copies == systems and self.states_per_unit == 1:
            return None
        slot = np.arange(order) % sizes["n"]
        return (np.arange(systems) % copies)[:, None] * sizes["n"] + slot

    def kept(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """Slots of a layer's systems that hold a state, where a family can have fewer in some; None for all."""
        return None

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise `NonFiniteError` where an array of the layer holds NaN or infinite values, or makes some."""
        arrays = {key: params[key] for key in self._matched(params, name)[2].values()}
        for key, array in arrays.items():
            if not np.isfinite(array).all():
                raise NonFiniteError(f"{key!r} holds NaN or infinite values")
        if any(_largest(array) > _NEARLY_OVERFLOWING for array in arrays.values() if array.dtype.kind in "fc"):
            self.get(params, name)

    def get(self, params: Mapping[str, Any], name: str) -> DiagonalSSM:
        """System of a layer, built in double precision from the raw parameters.

        Raises
        ------
        NonFiniteError
            Parameters that overflow; the message names them.
        """
        tensors = self._tensors(params, name)
        try:
            return self._decoded(tensors)
        except NonFiniteError as error:
            raise NonFiniteError(f"the parameters of layer {name!r} overflow: {self._overflowing(tensors)}") from error

    def _decoded(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._decode(tensors)

    def _overflowing(self, tensors: Mapping[str, np.ndarray]) -> str:
        """The arrays without whose values the system would be finite, with their largest entries."""
        found = []
        for leaf in tensors:
            with contextlib.suppress(NonFiniteError):
                self._decoded({**tensors, leaf: np.sign(tensors[leaf])})
                found.append(leaf)
        return ", ".join(f"{leaf} (up to {_largest(tensors[leaf]):.3g})" for leaf in found or tensors)

    def simulate(self, params: Mapping[str, Any], name: str, u: np.ndarray) -> np.ndarray:
        """Output of the layer for an input, with its channels in the order of the layer.

        Parameters
        ----------
        params : mapping
        name : str
        u : ndarray, shape (..., L, inputs), float32 or float64

        Returns
        -------
        ndarray, shape (..., L, outputs)
            What the layer computes before whatever follows in its module (`Call.after`).
        """
        ssm = self.get(params, name)
        return self.in_layer_order(ssm, simulate(ssm, u, strict_reverse=self.strict_reverse and ssm.bidirectional))

    def in_layer_order(self, ssm: DiagonalSSM, y: np.ndarray) -> np.ndarray:
        """Outputs of a system, shape (..., width), which stand feature by feature, in the order of the layer."""
        if not self.channels_first or ssm.outputs == 1:
            return y
        by_feature = y.reshape(*y.shape[:-1], *ssm.batch, ssm.outputs)
        return np.ascontiguousarray(np.swapaxes(by_feature, -1, -2)).reshape(y.shape)

    def written(self, params: Mapping[str, Any], layers: tuple[str, ...]) -> tuple[Mapping[str, Any], "Adapter"]:
        """Parameters that can hold a changed layer, and the adapter that reads them.

        The parameters themselves and this adapter, but for families that cannot hold a smaller layer (S4 in DPLR form):
        those become another family first, with the same states in the same order.
        """
        return params, self

    def put(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> Params:
        """Arrays of the layer that hold another system; states that did not change keep their raw bits.

        Raises
        ------
        NotRepresentableError
            The family cannot hold the system (to float32 accuracy).
        """
        layout, _, leaves = self._matched(params, name)
        old = self.get(params, name)
        self._check_kind(old, ssm, name)
        self._check_order(ssm.order, name)
        with np.errstate(all="ignore"):  # what cannot be encoded becomes NaN or inf, and fails the check below
            fresh = self._encode(ssm, self._tensors(params, name))
        unchanged = unchanged_states(old, ssm)
        result: Params = {}
        for leaf, key in leaves.items():
            raw = params[key]
            if layout[leaf].role == "fixed":
                continue
            with np.errstate(all="ignore"):
                value = np.asarray(fresh[leaf]).astype(raw.dtype)
            same = unchanged.get(layout[leaf].role) if unchanged else None
            result[key] = value if same is None else merge(raw, value, layout[leaf], same, self.states_per_unit)
            if not np.isfinite(result[key]).all():
                raise self._not_held(name, f"{leaf} would become NaN or infinite")
        self._check_held({**params, **result}, name, ssm)
        return result

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """Arrays of the layer with the states at `index`, shape (s, r); those not `valid` lose input and output.

        Raises
        ------
        NotRepresentableError
            No state, or a selection that splits states which the arrays hold together (see `units`).
        """
        self._check_order(index.shape[1], name)
        layout, sizes, leaves = self._matched(params, name)
        index, valid = self._slots(index, valid, sizes["n"], name)
        result: Params = {}
        for leaf, key in leaves.items():
            tensor = layout[leaf]
            if tensor.state_axis is None:
                continue
            copies = copies_of(tensor, sizes)
            rows = index.reshape(-1, copies, index.shape[1])
            if (rows != rows[0]).any():
                raise NotRepresentableError(
                    f"layer {name!r}: its {index.shape[0]} systems share {copies} sets of states, of which different "
                    "ones would stay; select states that are shared together (as `select` does), or write form='mask'"
                )
            taken = take(params[key], tensor, rows[0], sizes["n"])
            if tensor.role in ("input", "output"):
                silent = along_states(tensor, np.asarray(~valid.reshape(rows.shape).any(axis=0)))
                taken = np.where(silent, taken.dtype.type(0), taken)
            result[key] = taken
        return result

    def _slots(self, index: np.ndarray, valid: np.ndarray, slots: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Slots of the arrays for the given states, where one slot holds several."""
        k = self.states_per_unit
        if k == 1:
            return index, valid
        order = np.argsort(index % slots, axis=1, kind="stable")
        grouped = np.take_along_axis(index, order, axis=1) % slots
        alive = np.take_along_axis(valid, order, axis=1)
        if grouped.shape[1] % k == 0:
            grouped, alive = grouped.reshape(len(grouped), -1, k), alive.reshape(len(alive), -1, k)
            if (grouped == grouped[..., :1]).all() and (alive == alive[..., :1]).all():
                return grouped[..., 0], alive[..., 0]
        raise NotRepresentableError(
            f"layer {name!r}: {k} states of each unit stay or go together in the arrays of the family {self.name}; "
            "select whole units (as `select` does)"
        )

    # ---------------------------------------------------------------- helpers

    def _matched(self, params: Mapping[str, Any], name: str) -> tuple[Layout, dict[str, int], dict[str, str]]:
        """Layout of the layer, its sizes, and the full name of each leaf."""
        for layout in self.layouts:
            sizes = match((layout,), params, name)
            if isinstance(sizes, dict):
                return layout, sizes, {leaf: full_name(params, name, leaf) for leaf in given(layout)}
        raise UnknownLayerError(f"{name!r} is not a layer of the family {self.name}: {self.explain(params, name).text}")

    def _tensors(self, params: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
        layout, _, leaves = self._matched(params, name)
        tensors = {}
        for leaf, key in leaves.items():
            tensors[leaf] = params[key].astype(DOUBLE[layout[leaf].kind])
        return tensors

    def _check_kind(self, old: DiagonalSSM, new: DiagonalSSM, name: str) -> None:
        def kind(ssm: DiagonalSSM) -> tuple:
            return ssm.batch, ssm.inputs, ssm.outputs, ssm.conj_sym, ssm.bidirectional

        if kind(old) != kind(new):
            raise NotRepresentableError(f"layer {name!r} holds {old!r}; it cannot hold {new!r}, which differs in kind")

    def _check_order(self, order: int, name: str) -> None:
        if order == 0:
            raise NotRepresentableError(
                f"layer {name!r} would keep no state, and its arrays hold one at least; form='mask' can write that"
            )
        if order % self.states_per_unit:
            raise self._not_held(name, f"{order} states do not make whole units of {self.states_per_unit}")

    def _check_held(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> None:
        problem = difference(self.get(params, name), ssm)
        if problem:
            raise self._not_held(name, problem)

    def _not_held(self, name: str, problem: str) -> NotRepresentableError:
        return NotRepresentableError(
            f"layer {name!r} of the family {self.name} cannot hold this system: {problem}. {self.limits}"
        )


def _largest(array: np.ndarray) -> float:
    """Largest size of an entry, or of a part of a complex one; without a copy."""
    parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
    return max(float(max(part.max(), -part.min())) for part in parts)


def _is_count(value: Any) -> bool:
    return 0 <= value < 2**63 and value == int(value)  # neither infinite nor NaN


def _checked_flag(family: str, flag: str, value: Any, kind: Any) -> Any:
    """The value as a plain bool, float or int; text is checked by the family."""
    if kind in (float | None, int | None):
        if value is None:
            return None
        kind = float if kind == float | None else int
    if kind is int:
        if isinstance(value, int | np.integer | float) and not isinstance(value, bool) and _is_count(value):
            return int(value)
        raise FlagError(f"the flag {flag} of the adapter {family} must be a number of samples, got {value!r}")
    if kind in (bool, bool | None):
        if isinstance(value, bool | np.bool_) or (value is None and kind is not bool):
            return value if value is None else bool(value)
        raise FlagError(f"the flag {flag} of the adapter {family} must be True or False, got {value!r}")
    if kind is float:
        if isinstance(value, int | float | np.number):
            with contextlib.suppress(OverflowError):  # an integer of any length
                if 0 < float(value) < 1e300:
                    return float(value)
        raise FlagError(f"the flag {flag} of the adapter {family} must be a positive number, got {value!r}")
    return value
