"""The layers of Centaurus as lrnnx writes them: groups of states behind real inputs, outputs and mixing weights."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from .._support.trees import Params
from ..errors import NotRepresentableError
from ..systems import DiagonalSSM, inverse_zoh
from ._base import Adapter
from ._call import Call
from ._layout import ABSENT, Layout, Tensor
from ._writing import real_inputs

_POLES = {"A": Tensor("pole", ("n", 1), "complex"), "log_delta": Tensor("pole", ("n",))}
_DENSE = {"B": Tensor("input", ("n", "m")), "C": Tensor("output", ("m", "n"))}
_GROUPS = {"A": Tensor("fixed", ("g", "k"), "complex"), "log_delta": Tensor("fixed", ("g",))}
_MIXED = {**_GROUPS, "E": Tensor("fixed", ("g", "k"))}


@dataclass(frozen=True, kw_only=True)
class Centaurus(Adapter):
    r"""Centaurus of the package lrnnx (1.0), in its modes ``neck``, ``pointwise`` and ``dws``.

    Arrays of a layer: ``A`` (N, M) complex, the poles of N groups of M states, ``log_delta`` (N,), ``E`` (N, M), and
    ``B`` (N, H), ``C`` (H, N) in ``neck``; ``B`` (N M, H), ``C`` (H, N M) and no ``E`` in ``pointwise``; ``B`` and
    ``C`` (N,), one group a feature, in ``dws``, which is a batch of systems. There is no feedthrough.

    .. math:: \lambda = e^{\Delta A}, \qquad \bar B = \Delta B, \qquad y = C\, \mathrm{Re}(E x)

    A changed layer of ``neck`` or ``pointwise`` is written with one state a group (``sub_state_dim=1``), in which the
    same class holds any choice of states.

    Examples
    --------
    >>> Centaurus()
    Centaurus()
    """

    name: ClassVar[str] = "centaurus"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {**_POLES, "E": Tensor("output", ("n", 1)), **_DENSE, "D": ABSENT},
        {**_POLES, "E": ABSENT, **_DENSE, "D": ABSENT},
        {
            "A": Tensor("pole", ("s", "n"), "complex"),
            "log_delta": Tensor("pole", ("s",)),
            "E": Tensor("output", ("s", "n")),
            "B": Tensor("fixed", ("s",)),
            "C": Tensor("fixed", ("s",)),
            "D": ABSENT,
        },
        {**_MIXED, "B": Tensor("fixed", ("g", "m")), "C": Tensor("fixed", ("m", "g")), "D": ABSENT},
        {**_GROUPS, "E": ABSENT, "B": Tensor("fixed", ("g*k", "m")), "C": Tensor("fixed", ("m", "g*k")), "D": ABSENT},
    )
    calls: ClassVar[tuple[Call, ...]] = (Call("torch", "blh", "blh"),)
    limits: ClassVar[str] = (
        "Centaurus holds poles other than 0, inputs and outputs that are real up to a scale of the state, and no "
        "feedthrough"
    )

    def _dense_inputs(self, t: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """B (groups or states, inputs) and C (outputs, groups or states)."""
        return t["B"], t["C"]

    def _flat(self, t: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays with one state a group; poles of a batch stay as they are."""
        if self._is_batch(t):
            return dict(t)
        B, C = self._dense_inputs(t)
        states = t["A"].shape[1]
        flat = {"A": t["A"].reshape(-1, 1), "log_delta": np.repeat(t["log_delta"], states)}
        if "E" not in t:
            return {**flat, "B": B, "C": C}
        return {**flat, "E": t["E"].reshape(-1, 1), "B": np.repeat(B, states, 0), "C": np.repeat(C, states, 1)}

    def _is_batch(self, t: Mapping[str, np.ndarray]) -> bool:
        return t["B"].ndim == 1

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        t = self._flat(tensors)
        step = np.exp(t["log_delta"])[:, None]
        Lambda = np.exp(step * t["A"])
        if self._is_batch(t):
            B = (step * t["B"][:, None])[..., None] * np.ones((*Lambda.shape, 1))
            return DiagonalSSM(Lambda, B, (t["C"][:, None] * t["E"])[:, None, :], np.zeros((len(Lambda), 1, 1)))
        C = t["C"] * t["E"][:, 0] if "E" in t else t["C"]
        return DiagonalSSM(Lambda[:, 0], step * t["B"], C, np.zeros((len(C), t["B"].shape[1])))

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        t = self._flat(tensors)
        if self._is_batch(t):
            step = np.exp(t["log_delta"])[:, None]
            gain = ssm.B[..., 0] * ssm.C[:, 0] / (step * t["B"][:, None] * t["C"][:, None])
            return {"A": _poles(ssm, step, t["A"]), "log_delta": t["log_delta"], "E": gain.real}
        same = ssm.order == t["log_delta"].size
        log_delta = t["log_delta"] if same else np.full(ssm.order, np.float32(t["log_delta"].mean()), dtype=float)
        step = np.exp(log_delta)
        B, turn = real_inputs(ssm.B / step[:, None], t["B"])
        arrays = {
            "A": _poles(ssm, step, t["A"][:, 0])[:, None],
            "log_delta": log_delta,
            "B": B,
            "C": (ssm.C * turn).real,
        }
        return {**arrays, "E": np.ones((ssm.order, 1))} if "E" in t else arrays

    # ---------------------------------------------------------------- several states a group

    def _grouped(self, params: Mapping[str, Any], name: str) -> bool:
        return "g" in self._matched(params, name)[1]

    def sizes(self, params: Mapping[str, Any], name: str) -> tuple[int, int]:
        """Number of systems and of stored states a system of a layer."""
        if self._grouped(params, name):
            return 1, self._tensors(params, name)["A"].size
        return super().sizes(params, name)

    def units(self, params: Mapping[str, Any], name: str) -> np.ndarray | None:
        """Every state can leave alone."""
        return None

    def put(self, params: Mapping[str, Any], name: str, ssm: DiagonalSSM) -> Params:
        """Arrays of the layer that hold another system; with several states a group, none but the one that is there."""
        if self._grouped(params, name) and ssm.order != self.sizes(params, name)[1]:
            raise self._not_held(name, f"it has {self.sizes(params, name)[1]} states in groups, not {ssm.order}")
        return super().put(params, name, ssm)

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """Arrays of the layer with the states at `index`."""
        if self._grouped(params, name):
            raise NotRepresentableError(
                f"layer {name!r} has several states a group; `written` gives every state a group of its own, and "
                "`export` and `save` do that by themselves"
            )
        return super().restrict(params, name, index, valid)

    def written(self, params: Mapping[str, Any], layers: tuple[str, ...]) -> tuple[Mapping[str, Any], Adapter]:
        """The layers with one state a group."""
        result = dict(params)
        for name in (name for name in layers if self._grouped(params, name)):
            leaves = self._matched(params, name)[2]
            flat = self._flat({leaf: params[key] for leaf, key in leaves.items()})
            result |= {leaves[leaf]: np.ascontiguousarray(value) for leaf, value in flat.items()}
        changed = any(self._grouped(params, name) for name in layers)
        return (result, self._reader()) if changed else (params, self)

    def _reader(self) -> Adapter:
        return replace(self)


def _poles(ssm: DiagonalSSM, step: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Continuous-time poles, with the full turns a step that the old ones have."""
    A, _ = inverse_zoh(ssm.Lambda, ssm.B, step)
    if old.shape == A.shape:
        A = A + 2j * np.pi / step * np.round((old.imag - A.imag) * step / (2 * np.pi))
    return A


@dataclass(frozen=True, kw_only=True)
class CentaurusFull(Centaurus):
    """Centaurus of the package lrnnx in its mode ``full``: a group of states a pair of an input and an output.

    Arrays of a layer: ``A``, ``E`` (H^2, M), ``log_delta``, ``B``, ``C`` (H^2,); group ``o H + i`` leads from input i
    to output o. The file does not tell it from ``dws``, so that it must be named. A changed layer is written as
    `Centaurus` in the mode ``neck``.

    Examples
    --------
    >>> CentaurusFull()
    CentaurusFull()
    """

    name: ClassVar[str] = "centaurus_full"
    detected: ClassVar[bool] = False
    written_as: ClassVar[str] = "centaurus"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {**_MIXED, "B": Tensor("fixed", ("g",)), "C": Tensor("fixed", ("g",)), "D": ABSENT},
    )

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise also where the groups are not those of all pairs."""
        super().check(params, name)
        groups = self._tensors(params, name)["B"].size
        if int(np.sqrt(groups) + 0.5) ** 2 != groups:
            raise NotRepresentableError(
                f"layer {name!r} has {groups} groups, which is no square: it is not one of the mode full (adapter="
                "adapters.Centaurus() reads the mode dws)"
            )

    def _is_batch(self, t: Mapping[str, np.ndarray]) -> bool:
        return False

    def _dense_inputs(self, t: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        groups = np.arange(t["B"].size)
        width = int(np.sqrt(groups.size) + 0.5)
        B, C = np.zeros((groups.size, width), t["B"].dtype), np.zeros((width, groups.size), t["C"].dtype)
        B[groups, groups % width], C[groups // width, groups] = t["B"], t["C"]
        return B, C

    def _reader(self) -> Adapter:
        return Centaurus()
