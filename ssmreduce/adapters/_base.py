"""The lens between the arrays of a checkpoint and its systems; one subclass a model family."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .._support.arrays import one_minus_abs
from .._support.trees import Params, foreign_name
from ..errors import FlagError, MissingFlagError, NonFiniteError, NotRepresentableError, UnknownLayerError
from ..systems import DiagonalSSM

ROOT = "."
"""Layer name of a system whose tensors stand at the top of the checkpoint."""


@dataclass(frozen=True)
class Tensor:
    """One array of a layer: its axes, and its part in the system.

    Attributes
    ----------
    role : {"pole", "input", "output", "feedthrough"}
        Inputs and outputs are what is zeroed where a state is masked.
    axes : tuple
        Numbers are fixed sizes; letters are sizes that must agree over the layer: ``n`` states, ``2n`` the states of
        both halves, ``m`` inputs, ``p`` outputs, ``s`` systems (always the first axis).
    complex_ : bool
    """

    role: str
    axes: tuple[str | int, ...]
    complex_: bool = False

    @property
    def state_axis(self) -> int | None:
        """Axis that counts states."""
        return next((i for i, axis in enumerate(self.axes) if axis in ("n", "2n")), None)


Layout = Mapping[str, Tensor]
"""Leaf name below the layer -> array."""


class Mismatch(NamedTuple):
    """What is wrong with a layout; the one that fits best sorts first."""

    minus_present: int
    problems: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Adapter(ABC):
    """Base of the adapters: a family states its tables and how it decodes and encodes a system.

    A subclass gives `name`, `layouts` (one table of arrays a variant), `flag_help` (why a flag must be given),
    `limits` (what the family cannot hold), `_decode` and `_encode`.

    Notes
    -----
    The laws of the lens, tested for every family: ``put(params, name, get(params, name))`` changes nothing, bit for
    bit; ``get`` after ``put`` returns the system to float32 accuracy or ``put`` raises `NotRepresentableError`; mask
    and compact simulate alike.
    """

    name: ClassVar[str]
    layouts: ClassVar[tuple[Layout, ...]]
    flag_help: ClassVar[Mapping[str, str]] = {}
    limits: ClassVar[str]

    def __post_init__(self) -> None:
        for flag in fields(self):
            object.__setattr__(
                self, flag.name, _checked_flag(self.name, flag.name, getattr(self, flag.name), flag.type)
            )

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
        return [name for name in cls.candidates(params) if isinstance(_match(cls.layouts, params, name), dict)]

    @classmethod
    def candidates(cls, params: Mapping[str, Any]) -> list[str]:
        """Names under which half of the arrays of a layout stand (rounded down), complete or not."""
        leaves = {leaf for layout in cls.layouts for leaf in layout}
        prefixes = {prefix for key in params for prefix in _prefixes(key, leaves)}
        found = [p for p in prefixes if any(_present(layout, params, p) >= len(layout) // 2 for layout in cls.layouts)]
        return sorted(found, key=_natural)

    @classmethod
    def explain(cls, params: Mapping[str, Any], name: str) -> Mismatch:
        """Why a candidate is not a complete layer of this family."""
        mismatch = _match(cls.layouts, params, name)
        assert isinstance(mismatch, Mismatch)
        return mismatch

    @classmethod
    def from_flags(cls, flags: Mapping[str, Any]) -> "Adapter":
        """Adapter with these flags; a flag that must be given and is not raises `MissingFlagError`."""
        known = {f.name for f in fields(cls)}
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
        return sizes.get("s", 1), sizes["n"]

    def kept(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """Slots of a layer's systems that hold a state, where a family can have fewer in some; None for all."""
        return None

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise `NonFiniteError` where an array of the layer holds NaN or infinite values."""
        for key in self._matched(params, name)[2].values():
            if not np.isfinite(params[key]).all():
                raise NonFiniteError(f"{key!r} holds NaN or infinite values")

    def get(self, params: Mapping[str, Any], name: str) -> DiagonalSSM:
        """System of a layer, built in double precision from the raw parameters."""
        return self._decode(self._tensors(params, name))

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
        unchanged = _unchanged(old, ssm)
        result: Params = {}
        for leaf, key in leaves.items():
            raw = params[key]
            with np.errstate(all="ignore"):
                value = np.asarray(fresh[leaf]).astype(raw.dtype)
            same = unchanged.get(layout[leaf].role) if unchanged else None
            result[key] = value if same is None else _merge(raw, value, layout[leaf], same)
            if not np.isfinite(result[key]).all():
                raise self._not_held(name, f"{leaf} would become NaN or infinite")
        self._check_held({**params, **result}, name, ssm)
        return result

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """Arrays of the layer with the states at `index`, shape (s, r); those not `valid` lose input and output."""
        self._check_order(index.shape[1], name)
        layout, sizes, leaves = self._matched(params, name)
        result: Params = {}
        for leaf, key in leaves.items():
            tensor = layout[leaf]
            if tensor.state_axis is None:
                continue
            taken = _take(params[key], tensor, index, sizes["n"])
            if tensor.role in ("input", "output"):
                taken[_slots(tensor, ~valid)] = 0
            result[key] = taken
        return result

    # ---------------------------------------------------------------- helpers

    def _matched(self, params: Mapping[str, Any], name: str) -> tuple[Layout, dict[str, int], dict[str, str]]:
        """Layout of the layer, its sizes, and the full name of each leaf."""
        for layout in self.layouts:
            sizes = _match((layout,), params, name)
            if isinstance(sizes, dict):
                return layout, sizes, {leaf: _full_name(params, name, leaf) for leaf in layout}
        raise UnknownLayerError(f"{name!r} is not a layer of the family {self.name}: {self.explain(params, name).text}")

    def _tensors(self, params: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
        layout, _, leaves = self._matched(params, name)
        tensors = {}
        for leaf, key in leaves.items():
            tensors[leaf] = params[key].astype(np.complex128 if layout[leaf].complex_ else np.float64)
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

    def _check_held(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> None:
        problem = _difference(self.get(params, name), ssm)
        if problem:
            raise self._not_held(name, problem)

    def _not_held(self, name: str, problem: str) -> NotRepresentableError:
        return NotRepresentableError(
            f"layer {name!r} of the family {self.name} cannot hold this system: {problem}. {self.limits}"
        )


def _checked_flag(family: str, flag: str, value: Any, kind: Any) -> Any:
    """The value as a plain bool or float; text is checked by the family."""
    if kind in (bool, bool | None):
        if isinstance(value, bool | np.bool_) or (value is None and kind is not bool):
            return value if value is None else bool(value)
        raise FlagError(f"the flag {flag} of the adapter {family} must be True or False, got {value!r}")
    if kind is float:
        if isinstance(value, int | float | np.number) and 0 < value < 1e300:
            return float(value)
        raise FlagError(f"the flag {flag} of the adapter {family} must be a positive number, got {value!r}")
    return value


def _natural(name: str) -> list:
    """Key that sorts 10 behind 9; numbers of any length are compared as text."""
    parts = re.split("([0-9]+)", name)  # every second one is a number
    return [(len(part.lstrip("0")), part.lstrip("0"), part) if i % 2 else part for i, part in enumerate(parts)]


def _prefixes(key: str, leaves: Iterable[str]) -> Iterator[str]:
    """Layer names below which `key` is one of the leaves, skipping the copies that optimisers keep."""
    if "opt_state" in key.split("/"):
        return
    dotted = key.replace("/", ".")
    for leaf in leaves:
        if dotted == leaf:
            yield ROOT
        elif dotted.endswith("." + leaf):
            yield key[: -len(leaf) - 1]


def _present(layout: Layout, params: Mapping[str, Any], name: str) -> int:
    """How many arrays of the layout are there, with as many axes as they should have."""
    arrays = ((params.get(_full_name(params, name, leaf)), tensor) for leaf, tensor in layout.items())
    return sum(isinstance(array, np.ndarray) and array.ndim == len(tensor.axes) for array, tensor in arrays)


def _full_name(params: Mapping[str, Any], name: str, leaf: str) -> str:
    starts = ("",) if name == ROOT else (f"{name}/", f"{name}.")
    names = [start + leaf.replace(".", dot) for start in starts for dot in "./"]
    return next((name for name in names if name in params), names[-1])


def _match(layouts: tuple[Layout, ...], params: Mapping[str, Any], name: str) -> dict[str, int] | Mismatch:
    """Sizes of the first layout that fits, or what is wrong with the one that fits best."""
    complaints = []
    for layout in layouts:
        sizes: dict[str, int] = {}
        complaint: list[str] = []
        present = 0
        for leaf, tensor in layout.items():
            array = params.get(_full_name(params, name, leaf))
            if not isinstance(array, np.ndarray):
                complaint.append(f"{leaf} is missing")
                continue
            present += 1
            if problem := _fit(array, tensor, sizes):
                complaint.append(f"{leaf} {problem}")
        if not complaint:
            return sizes
        complaints.append(Mismatch(-present, len(complaint), "; ".join(complaint)))
    return min(complaints)


def _fit(array: np.ndarray, tensor: Tensor, sizes: dict[str, int]) -> str:
    """Bind the letters of the axes to the array's sizes; the problem, or an empty string."""
    kind = "c" if tensor.complex_ else "f"
    expected = "(" + ", ".join(str(sizes.get(str(axis), axis)) for axis in tensor.axes) + ")"
    if array.dtype.kind != kind:
        if foreign := foreign_name(array.dtype):
            return f"has dtype {foreign}, which NumPy cannot compute with: convert the layer to float32 first"
        return f"has dtype {array.dtype}, expected {'complex' if tensor.complex_ else 'real'} floating point"
    if array.ndim != len(tensor.axes):
        return f"has shape {array.shape}, expected {expected}"
    for axis, size in zip(tensor.axes, array.shape, strict=True):
        if axis == "2n":
            wanted = 2 * sizes.get("n", -1)
        elif isinstance(axis, str):
            wanted = sizes.setdefault(axis, size)
        else:
            wanted = axis
        if size != wanted or size == 0:
            return f"has shape {array.shape}, expected {expected}"
    return ""


def _unchanged(old: DiagonalSSM, new: DiagonalSSM) -> dict[str, np.ndarray] | None:
    """For each role, which states of a system of equal order are bitwise as before."""
    if old.order != new.order:
        return None
    driven = (old.Lambda == new.Lambda) & (old.B == new.B).all(axis=-1)
    observed = driven & (old.C == new.C).all(axis=-2)
    if old.C_reverse is not None:
        observed &= (old.C_reverse == new.C_reverse).all(axis=-2)
    return {"pole": driven, "input": driven, "output": observed, "feedthrough": np.asarray((old.D == new.D).all())}


def _merge(raw: np.ndarray, fresh: np.ndarray, tensor: Tensor, same: np.ndarray) -> np.ndarray:
    if same.ndim == 0 or tensor.state_axis is None:
        return raw if same.all() else fresh
    return np.where(_along_states(tensor, same), raw, fresh)


def _along_states(tensor: Tensor, mask: np.ndarray) -> np.ndarray:
    """Mask over states, shape (n,) or (s, n), shaped to broadcast against the array."""
    axis = tensor.state_axis
    assert axis is not None
    if tensor.axes[axis] == "2n":
        mask = np.concatenate([mask, mask], axis=-1)
    return mask.reshape(mask.shape + (1,) * (len(tensor.axes) - axis - 1))


def _take(array: np.ndarray, tensor: Tensor, index: np.ndarray, order: int) -> np.ndarray:
    axis = tensor.state_axis
    assert axis is not None
    if tensor.axes[axis] == "2n":
        index = np.concatenate([index, index + order], axis=-1)
    if "s" not in tensor.axes:
        return np.take(array, index[0], axis=axis)
    return np.take_along_axis(array, index.reshape(index.shape + (1,) * (array.ndim - 2)), axis=1)


def _slots(tensor: Tensor, slots: np.ndarray) -> tuple:
    """Index of the given slots, shape (s, r), in the array."""
    axis = tensor.state_axis
    assert axis is not None
    if "s" in tensor.axes:
        return (slots,)
    single = np.concatenate([slots[0], slots[0]]) if tensor.axes[axis] == "2n" else slots[0]
    return (*(slice(None),) * axis, single)


def _difference(held: DiagonalSSM, wanted: DiagonalSSM) -> str:
    """What differs beyond float32 accuracy; states may be scaled (B up, C down)."""
    gap = one_minus_abs(wanted.Lambda)
    if (np.abs(held.Lambda - wanted.Lambda) > 5e-6).any() or (
        np.abs(one_minus_abs(held.Lambda) - gap) > 2e-5 * np.abs(gap)
    ).any():
        worst = int(np.abs(held.Lambda - wanted.Lambda).argmax())
        return f"pole {wanted.Lambda.ravel()[worst]:.6g} would become {held.Lambda.ravel()[worst]:.6g}"
    power = np.sum(np.abs(held.B) ** 2, axis=-1)
    scale = np.sum(wanted.B * held.B.conj(), axis=-1) / np.where(power > 0, power, 1.0)
    if not _close(held.B * scale[..., None], wanted.B, axis=-1):
        return "its input matrix B would change"
    silent = scale == 0  # no input is wanted: C may be anything as long as nothing comes out
    scale = np.where(silent, power, 1.0 / np.where(silent, 1.0, scale))[..., None, :]
    outputs = [(held.C, wanted.C)] + ([(held.C_reverse, wanted.C_reverse)] if wanted.bidirectional else [])
    if not all(_close(h * scale, w * ~silent[..., None, :], axis=-2) for h, w in outputs):
        return "its output matrix C would change"
    if not _close(held.D, wanted.D, axis=(-2, -1)):
        return "its feedthrough D would change"
    return ""


def _close(a: np.ndarray, b: np.ndarray, axis: int | tuple[int, int]) -> bool:
    return bool((np.max(np.abs(a - b), axis=axis) <= 2e-5 * np.max(np.abs(b), axis=axis)).all())
