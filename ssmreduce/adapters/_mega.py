"""The moving average of MEGA: real poles, one bank a feature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .._support.trees import Params
from ..systems import DiagonalSSM
from ._base import Adapter
from ._call import Call
from ._layout import Layout, Tensor

_SHORT = {"alpha": "alpha", "delta": "delta", "beta": "beta", "gamma": "gamma", "omega": "omega"}
_LONG = {
    "alpha": "damping_factor",
    "delta": "decay_factor",
    "beta": "ema_expansion_matrix",
    "gamma": "kernel_projection_matrix",
    "omega": "residual_weight",
}
_NAMES = (_SHORT, _LONG)


def _layout(names: Mapping[str, str]) -> Layout:
    column = ("s", "n", 1)
    return {
        names["alpha"]: Tensor("pole", column),
        names["delta"]: Tensor("pole", column),
        names["beta"]: Tensor("input", column),
        names["gamma"]: Tensor("output", ("s", "n")),
        names["omega"]: Tensor("feedthrough", ("s",)),
    }


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p) - np.log1p(-p)


@dataclass(frozen=True, kw_only=True)
class MegaEMA(Adapter):
    r"""The damped exponential moving average of MEGA in one direction (``MultiHeadEMA``), a batch of H systems.

    Arrays of a layer: ``alpha``, ``delta``, ``beta`` (H, N, 1), ``gamma`` (H, N), ``omega`` (H,), or under the names of
    transformers ``damping_factor``, ``decay_factor``, ``ema_expansion_matrix``, ``kernel_projection_matrix``,
    ``residual_weight``. With p = sigmoid(alpha) and d = sigmoid(delta),

    .. math:: \lambda = 1 - p d, \qquad \bar B = p \beta, \qquad C = \gamma / \sqrt{N}, \qquad D = \omega

    The module applies SiLU to the output. Bidirectional layers, whose halves have poles of their own (2 H rows), and a
    kernel that is truncated to chunks are not read.

    Examples
    --------
    >>> MegaEMA()
    MegaEMA()
    """

    name: ClassVar[str] = "mega_ema"
    layouts: ClassVar[tuple[Layout, ...]] = tuple(_layout(names) for names in _NAMES)
    calls: ClassVar[tuple[Call, ...]] = (Call("torch", "lbh", "lbh", after=("silu",), live=False),)
    limits: ClassVar[str] = "the moving average of MEGA holds real poles between 0 and 1, and real inputs and outputs"

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        t = _short(tensors)
        p, d = _sigmoid(t["alpha"][..., 0]), _sigmoid(t["delta"][..., 0])
        C = t["gamma"] / np.sqrt(t["gamma"].shape[1])
        return DiagonalSSM(1 - p * d, p[..., None] * t["beta"], C[:, None, :], t["omega"][:, None, None])

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        t = _short(tensors)
        gap = 1 - ssm.Lambda.real
        p = np.sqrt(gap)
        if ssm.order == t["gamma"].shape[1]:  # the old p, which B depends on, where it can be kept
            old = _sigmoid(t["alpha"][..., 0])
            p = np.where(gap < old, old, p)
        turn = np.where(ssm.B == 0, 1.0, ssm.B / np.where(ssm.B == 0, 1.0, np.abs(ssm.B)))
        turn = np.where(turn.real < 0, -turn, turn)
        arrays = {
            "alpha": _logit(p)[..., None],
            "delta": _logit(gap / p)[..., None],
            "beta": (ssm.B / turn).real / p[..., None],
            "gamma": (ssm.C[:, 0] * turn[..., 0]).real * np.sqrt(ssm.order),
            "omega": ssm.D[:, 0, 0],
        }
        names = _SHORT if "alpha" in tensors else _LONG
        return {names[leaf]: value for leaf, value in arrays.items()}

    def restrict(self, params: Mapping[str, Any], name: str, index: np.ndarray, valid: np.ndarray) -> Params:
        """Arrays of the layer with the states at `index`, the outputs scaled as fewer states need it."""
        result = super().restrict(params, name, index, valid)
        for key in result:
            if key.replace("/", ".").rsplit(".", 1)[-1] in ("gamma", _LONG["gamma"]):
                factor = np.sqrt(index.shape[1] / self.sizes(params, name)[1])
                result[key] = (result[key] * factor).astype(result[key].dtype)
        return result


def _short(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    return tensors if "alpha" in tensors else {leaf: tensors[name] for leaf, name in _LONG.items()}
