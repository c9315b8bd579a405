"""The layers that this library puts into live networks, read as a model family of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._support.trees import Params
from ..errors import NonFiniteError, NotRepresentableError, UnknownLayerError
from ..systems import DiagonalSSM
from ._base import Adapter
from ._flat import Structure, real_parameters, system_of
from ._layout import Layout, Mismatch, Tensor

_STATES = ("log_rate", "angle", "unit", "side", "owner", "B", "C")
_KERNEL = "kernel."


@dataclass(frozen=True, kw_only=True)
class DropIn(Adapter):
    """Drop-in layers of `ssmreduce.networks`: what `replace_layers` and `compress` put into a live network.

    Arrays of a layer: ``log_rate``, ``angle``, ``unit``, ``side``, ``owner`` (N,), ``B`` (N, m, 2), ``C`` and, of a
    bidirectional layer, ``C_reverse`` (N, p, 2), for the N states of all its systems; ``D`` (s * m,) or (s, p, m).
    Below ``kernel.``, except for ``D``, where the layer is the convolution kernel of an S4D layer; in S4Block and DSS
    ``D`` is (channels, s). The factor 2 of conjugate pairs is in C. The systems of a batch may have different numbers
    of states, down to none.

    Examples
    --------
    >>> DropIn()
    DropIn()
    """

    name: ClassVar[str] = "dropin"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {leaf: Tensor("pole", ("n",)) for leaf in _STATES[:5]} | {"B": Tensor("input", ("n", "m", 2))},
    )
    limits: ClassVar[str] = "a drop-in layer holds any diagonal system of its own numbers of inputs and outputs"

    @classmethod
    def find(cls, params: Mapping[str, Any]) -> list[str]:
        """Names of the layers, in natural order."""
        return [name for name in cls.candidates(params) if cls._prefix(params, name) is not None]

    @classmethod
    def candidates(cls, params: Mapping[str, Any]) -> list[str]:
        """Names under which poles of drop-in layers stand."""
        found = []
        for key in params:
            if key == "log_rate" or key.endswith(".log_rate"):
                name = key.removesuffix("log_rate").removesuffix(".")
                kernel = (name == "kernel" or name.endswith(".kernel")) and f"{name}.D" not in params
                found.append((name.removesuffix("kernel").removesuffix(".") if kernel else name) or ".")
        return found

    @classmethod
    def explain(cls, params: Mapping[str, Any], name: str) -> Mismatch:
        """What is missing of a layer."""
        start = "" if name == "." else f"{name}."
        missing = [leaf for leaf in _STATES if start + leaf not in params and start + _KERNEL + leaf not in params]
        missing += ["D"] if f"{start}D" not in params else []
        return Mismatch(len(missing) - len(_STATES), len(missing), f"{', '.join(missing) or 'no tensor'} is missing")

    @classmethod
    def _prefix(cls, params: Mapping[str, Any], name: str) -> str | None:
        """What the names of the arrays of a layer's states begin with; None where some are missing."""
        start = "" if name == "." else f"{name}."
        for prefix in (start, start + _KERNEL):
            if all(prefix + leaf in params for leaf in _STATES) and f"{start}D" in params:
                return prefix
        return None

    # ---------------------------------------------------------------- the lens

    def sizes(self, params: Mapping[str, Any], name: str) -> tuple[int, int]:
        """Number of systems of a layer, and states of the largest."""
        counts = self._structure(params, name).counts
        return len(counts), max(counts)

    def kept(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """Slots of the padded systems that hold a state, where not all do."""
        counts = np.array(self._structure(params, name).counts)
        valid = np.arange(counts.max()) < counts[:, None]
        return None if valid.all() else np.flatnonzero(valid)

    def units(self, params: Mapping[str, Any], name: str) -> None:
        """Every state stands alone."""

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise `NonFiniteError` where an array of the layer holds NaN or infinite values."""
        for key in self._leaves(params, name).values():
            if not np.isfinite(params[key]).all():
                raise NonFiniteError(f"{key!r} holds NaN or infinite values")

    def put(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> Params:
        """Arrays of the layer that hold another system; silent states of a batch are left out."""
        keys, tensors = self._leaves(params, name), self._tensors(params, name)
        old, now = _structure(tensors), self._decode(tensors)
        kind = ssm.systems, ssm.inputs, ssm.outputs, ssm.bidirectional
        if kind != (old.systems, old.inputs, old.outputs, old.bidirectional):
            raise NotRepresentableError(f"layer {name!r} cannot hold {ssm!r}, which differs in kind")
        arrays = ("Lambda", "B", "C", "D") + ("C_reverse",) * ssm.bidirectional
        if ssm.conj_sym != now.conj_sym or not all(np.array_equal(getattr(now, f), getattr(ssm, f)) for f in arrays):
            tensors = self._encode(ssm, tensors)
        return {keys[leaf]: value for leaf, value in tensors.items()}

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """Arrays of the layer with the valid ones of the states at `index`, shape (s, r)."""
        counts = self._structure(params, name).counts
        first = np.cumsum(counts) - counts
        flat = (first[:, None] + index)[valid]
        return {key: params[key][flat] for leaf, key in self._leaves(params, name).items() if leaf != "D"}

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        """System of a layer, padded with silent states."""
        return system_of(_structure(tensors), {**tensors, "D": _by_system(tensors["D"])})

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        structure, values = real_parameters(ssm)
        D = values["D"]
        if tensors["D"].ndim == 2:
            D = D.reshape(structure.systems, -1).T
        elif tensors["D"].ndim == 3 and D.ndim == 1:  # it was read in full and stays so
            D = np.stack([np.diag(d) for d in D.reshape(structure.systems, -1)])
        arrays = {**values, "D": D, "unit": np.array(structure.unit), "side": np.array(structure.side)}
        dtype = tensors["B"].dtype
        return {leaf: value.astype(dtype) for leaf, value in arrays.items()} | {"owner": structure.owner}

    # ---------------------------------------------------------------- helpers

    def _leaves(self, params: Mapping[str, Any], name: str) -> dict[str, str]:
        """Full name of each leaf of a layer."""
        prefix = self._prefix(params, name)
        if prefix is None:
            raise UnknownLayerError(f"{name!r} is not a drop-in layer: {self.explain(params, name).text}")
        keys = {leaf: prefix + leaf for leaf in (*_STATES, "C_reverse") if prefix + leaf in params}
        return keys | {"D": "D" if name == "." else f"{name}.D"}

    def _tensors(self, params: Mapping[str, Any], name: str) -> dict[str, np.ndarray]:
        """Leaf -> array as it stands there."""
        return {leaf: params[key] for leaf, key in self._leaves(params, name).items()}

    def _structure(self, params: Mapping[str, Any], name: str) -> Structure:
        return _structure(self._tensors(params, name))


def _structure(tensors: Mapping[str, np.ndarray]) -> Structure:
    """What the arrays of a layer say beside the numbers: states of each system, units, sides."""
    D, m = _by_system(tensors["D"]), tensors["B"].shape[1]
    systems = D.shape[0] // m if D.ndim == 1 else D.shape[0]
    counts = np.bincount(tensors["owner"].astype(np.int64), minlength=systems)
    unit, side = (tuple(tensors[leaf].astype(float).tolist()) for leaf in ("unit", "side"))
    bidirectional = "C_reverse" in tensors
    return Structure(tuple(counts.tolist()), m, tensors["C"].shape[1], bidirectional, D.ndim == 1, unit, side)


def _by_system(D: np.ndarray) -> np.ndarray:
    """D as the other layers hold it; around a kernel it is (channels, s)."""
    return D.T[..., None] if D.ndim == 2 else D
