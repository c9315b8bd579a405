"""The layers that this library puts into PyTorch networks, read as a model family of their own."""

from collections.abc import Iterable, Mapping
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
    """Drop-in layers of `ssmreduce.networks`: what `replace_layers` and `compress` put into a PyTorch module.

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
        counts = self._structure(params, name)[0].counts
        return len(counts), max(counts)

    def kept(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """Slots of the padded systems that hold a state, where not all do."""
        counts = np.array(self._structure(params, name)[0].counts)
        valid = np.arange(counts.max()) < counts[:, None]
        return None if valid.all() else np.flatnonzero(valid)

    def units(self, params: Mapping[str, Any], name: str) -> None:
        """Every state stands alone."""

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise `NonFiniteError` where an array of the layer holds NaN or infinite values."""
        for key, value in self._structure(params, name)[1].items():
            if not np.isfinite(value).all():
                raise NonFiniteError(f"{key} of layer {name!r} holds NaN or infinite values")

    def get(self, params: Mapping[str, Any], name: str) -> DiagonalSSM:
        """System of a layer, padded with silent states."""
        return system_of(*self._structure(params, name))

    def put(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> Params:
        """Arrays of the layer that hold another system; silent states of a batch are left out."""
        old = self._structure(params, name)[0]
        s = ssm.systems
        if (s, ssm.inputs, ssm.outputs, ssm.bidirectional) != (
            old.systems,
            old.inputs,
            old.outputs,
            old.bidirectional,
        ):
            raise NotRepresentableError(f"layer {name!r} cannot hold {ssm!r}, which differs in kind")
        unchanged = self._as_read(params, name, ssm)
        return unchanged if unchanged is not None else self._arrays(params, name, *real_parameters(ssm))

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """Arrays of the layer with the valid ones of the states at `index`, shape (s, r)."""
        structure, _ = self._structure(params, name)
        first = np.cumsum(structure.counts) - structure.counts
        flat = (first[:, None] + index)[valid]
        prefix = self._prefix(params, name)
        leaves = [leaf for leaf in (*_STATES, "C_reverse") if f"{prefix}{leaf}" in params]
        return {f"{prefix}{leaf}": params[f"{prefix}{leaf}"][flat] for leaf in leaves}

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        raise NotImplementedError("drop-in layers are decoded in `get`")

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        raise NotImplementedError("drop-in layers are encoded in `put`")

    # ---------------------------------------------------------------- helpers

    def _as_read(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> Params | None:
        """The arrays themselves where they hold this system already."""
        now = self.get(params, name)
        fields: Iterable[str] = ("Lambda", "B", "C", "D") + ("C_reverse",) * ssm.bidirectional
        if ssm.conj_sym != now.conj_sym or not all(np.array_equal(getattr(now, f), getattr(ssm, f)) for f in fields):
            return None
        prefix, start = self._prefix(params, name), "" if name == "." else f"{name}."
        leaves = [leaf for leaf in (*_STATES, "C_reverse") if f"{prefix}{leaf}" in params]
        return {f"{prefix}{leaf}": params[f"{prefix}{leaf}"] for leaf in leaves} | {f"{start}D": params[f"{start}D"]}

    def _arrays(
        self, params: Mapping[str, Any], name: str, structure: Structure, values: Mapping[str, np.ndarray]
    ) -> Params:
        prefix, start = self._prefix(params, name), "" if name == "." else f"{name}."
        dtype = params[f"{prefix}B"].dtype
        arrays = {**values, "unit": np.array(structure.unit), "side": np.array(structure.side)}
        result = {f"{start if leaf == 'D' else prefix}{leaf}": value.astype(dtype) for leaf, value in arrays.items()}
        if params[f"{start}D"].ndim == 2:  # of a layer around a kernel: (channels, s)
            result[f"{start}D"] = result[f"{start}D"].reshape(structure.systems, -1).T
        elif params[f"{start}D"].ndim == 3 and result[f"{start}D"].ndim == 1:  # it was read in full and stays so
            result[f"{start}D"] = np.stack([np.diag(d) for d in values["D"].reshape(structure.systems, -1)]).astype(
                dtype
            )
        return {**result, f"{prefix}owner": structure.owner}

    def _structure(self, params: Mapping[str, Any], name: str) -> tuple[Structure, dict[str, np.ndarray]]:
        prefix = self._prefix(params, name)
        if prefix is None:
            raise UnknownLayerError(f"{name!r} is not a drop-in layer: {self.explain(params, name).text}")
        D = params["D" if name == "." else f"{name}.D"]
        D = D.T[..., None] if D.ndim == 2 else D
        values = {leaf: params[prefix + leaf] for leaf in ("log_rate", "angle", "B", "C")} | {"D": D}
        if bidirectional := f"{prefix}C_reverse" in params:
            values["C_reverse"] = params[f"{prefix}C_reverse"]
        m, p = values["B"].shape[1], values["C"].shape[1]
        systems = D.shape[0] // m if D.ndim == 1 else D.shape[0]
        counts = np.bincount(params[prefix + "owner"].astype(np.int64), minlength=systems)
        structure = Structure(
            tuple(counts.tolist()),
            m,
            p,
            bidirectional,
            D.ndim == 1,
            tuple(params[prefix + "unit"].astype(float).tolist()),
            tuple(params[prefix + "side"].astype(float).tolist()),
        )
        return structure, values
