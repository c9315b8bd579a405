"""Tables of the arrays of a layer, and finding layers by them."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .._support.trees import foreign_name

ROOT = "."
"""Layer name of a system whose tensors stand at the top of the checkpoint."""


@dataclass(frozen=True)
class Tensor:
    """One array of a layer: its axes, and its part in the system.

    Attributes
    ----------
    role : {"pole", "input", "output", "feedthrough", "fixed", "unused", "absent"}
        Inputs and outputs are what is zeroed where a state is masked. ``fixed`` arrays are read and never written,
        ``unused`` ones are only cut with the states, and an ``absent`` one must not be there: it tells another family.
    axes : tuple
        Numbers are fixed sizes; letters are sizes that must agree over the layer: ``n`` states (or units of several
        states, see `Adapter.states_per_unit`), ``m`` inputs, ``p`` outputs, ``s`` systems, ``t`` copies that the
        systems share in turn (system h has copy ``h mod t``), any other letter a size of its own. ``2n`` and ``2p``
        are twice as many, ``g*k`` is a product of sizes that arrays before it have.
    kind : {"real", "complex", "integer"}
    """

    role: str
    axes: tuple[str | int, ...]
    kind: str = "real"

    @property
    def state_axis(self) -> int | None:
        """Axis that counts states."""
        return next((i for i, axis in enumerate(self.axes) if axis in ("n", "2n")), None)

    @property
    def system_axis(self) -> int | None:
        """Axis that counts systems, or the copies that they share."""
        return next((i for i, axis in enumerate(self.axes) if axis in ("s", "t")), None)


ABSENT = Tensor("absent", ())
"""Stands in a layout for a name that the layer must not have."""

Layout = Mapping[str, Tensor]
"""Leaf name below the layer -> array."""


class Mismatch(NamedTuple):
    """What is wrong with a layout; the one that fits best sorts first."""

    minus_present: int
    problems: int
    text: str


DOUBLE = {"real": np.float64, "complex": np.complex128, "integer": np.int64}
_KINDS = {
    "real": ("f", "real floating point"),
    "complex": ("c", "complex floating point"),
    "integer": ("iu", "integer"),
}


def given(layout: Layout) -> list[str]:
    """Leaves that a layer of this layout has."""
    return [leaf for leaf, tensor in layout.items() if tensor.role != "absent"]


def copies_of(tensor: Tensor, sizes: Mapping[str, int]) -> int:
    """How many sets of states the array holds: one a system, one a copy, or one for all."""
    axis = tensor.system_axis
    return 1 if axis is None else sizes[str(tensor.axes[axis])]


def natural(name: str) -> list:
    """Key that sorts 10 behind 9; numbers of any length are compared as text."""
    parts = re.split("([0-9]+)", name)  # every second one is a number
    return [(len(part.lstrip("0")), part.lstrip("0"), part) if i % 2 else part for i, part in enumerate(parts)]


def prefixes(key: str, leaves: Iterable[str]) -> Iterator[str]:
    """Layer names below which `key` is one of the leaves, skipping the copies that optimisers keep."""
    if "opt_state" in key.split("/"):
        return
    dotted = key.replace("/", ".")
    for leaf in leaves:
        if dotted == leaf:
            yield ROOT
        elif dotted.endswith("." + leaf):
            yield key[: -len(leaf) - 1]


def half_there(layout: Layout, params: Mapping[str, Any], name: str) -> bool:
    """Whether half of the arrays of the layout are there, with as many axes as they should have, and none too many."""
    found = {leaf: params.get(full_name(params, name, leaf)) for leaf in layout}
    arrays = {leaf: array for leaf, array in found.items() if isinstance(array, np.ndarray)}
    if any(layout[leaf].role == "absent" for leaf in arrays):
        return False
    return sum(array.ndim == len(layout[leaf].axes) for leaf, array in arrays.items()) >= len(given(layout)) // 2


def full_name(params: Mapping[str, Any], name: str, leaf: str) -> str:
    starts = ("",) if name == ROOT else (f"{name}/", f"{name}.")
    names = [start + leaf.replace(".", dot) for start in starts for dot in "./"]
    return next((name for name in names if name in params), names[-1])


def match(layouts: tuple[Layout, ...], params: Mapping[str, Any], name: str) -> dict[str, int] | Mismatch:
    """Sizes of the first layout that fits, or what is wrong with the one that fits best."""
    complaints = []
    for layout in layouts:
        sizes: dict[str, int] = {}
        complaint: list[str] = []
        present = strange = 0
        for leaf, tensor in layout.items():
            array = params.get(full_name(params, name, leaf))
            if tensor.role == "absent":
                if isinstance(array, np.ndarray):
                    complaint.append(f"{leaf} is there, which belongs to another family")
                continue
            if not isinstance(array, np.ndarray):
                complaint.append(f"{leaf} is missing")
                continue
            present += 1
            if problem := _fit(array, tensor, sizes):
                complaint.append(f"{leaf} {problem}")
                strange += array.dtype.kind not in _KINDS[tensor.kind][0]
        if not complaint:
            return sizes
        complaints.append(Mismatch(-present, len(complaint) + strange, "; ".join(complaint)))
    return min(complaints)


def _fit(array: np.ndarray, tensor: Tensor, sizes: dict[str, int]) -> str:
    """Bind the letters of the axes to the array's sizes; the problem, or an empty string."""
    kinds, described = _KINDS[tensor.kind]
    expected = "(" + ", ".join(str(sizes.get(str(axis), axis)) for axis in tensor.axes) + ")"
    if array.dtype.kind not in kinds:
        if foreign := foreign_name(array.dtype):
            return f"has dtype {foreign}, which NumPy cannot compute with: convert the layer to float32 first"
        return f"has dtype {array.dtype}, expected {described}"
    if array.ndim != len(tensor.axes):
        return f"has shape {array.shape}, expected {expected}"
    for axis, size in zip(tensor.axes, array.shape, strict=True):
        if axis in ("2n", "2p"):
            wanted = 2 * sizes.get(axis[1], -1)
        elif isinstance(axis, str) and "*" in axis:
            wanted = math.prod(sizes.get(letter, -1) for letter in axis.split("*"))
        elif axis == "t" and sizes.get("s", size) % size:
            return f"has {size} copies of the states, which {sizes['s']} systems cannot share"
        elif isinstance(axis, str):
            wanted = sizes.setdefault(axis, size)
        else:
            wanted = axis
        if size != wanted or size == 0:
            return f"has shape {array.shape}, expected {expected}"
    return ""
