"""The layers of FlowState (granite-tsfm), IBM's foundation model for time series."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..systems import DiagonalSSM, inverse_zoh, zoh
from ._base import Adapter
from ._call import Call
from ._layout import ABSENT, Layout, Tensor

_ARRAYS: Layout = {
    "log_Lambda_real": Tensor("pole", ("n",)),
    "Lambda_imag": Tensor("pole", ("n",)),
    "B_tilde_r": Tensor("input", ("n", "m")),
    "B_tilde_i": Tensor("input", ("n", "m")),
    "C_tilde_r": Tensor("output", ("m", "n")),
    "C_tilde_i": Tensor("output", ("m", "n")),
    "log_Delta": Tensor("pole", ("n",)),
}


@dataclass(frozen=True, kw_only=True)
class FlowState(Adapter):
    r"""``FlowStateS5Block`` of granite-tsfm: S5 with every eigenvalue stored, under a zero-order hold.

    Arrays of a layer: ``log_Lambda_real``, ``Lambda_imag``, ``log_Delta`` (P,), ``B_tilde_r``, ``B_tilde_i`` (P, H),
    ``C_tilde_r``, ``C_tilde_i`` (H, P), ``D`` (H,). With an output gate (found in the arrays), which lies between C and
    D, the system is what comes before the gate, and D is not part of it.

    Parameters
    ----------
    scale_factor : float, default 1.0
        Factor of all step sizes, which the model is called with for every series. Scores and reductions hold for this
        value.

    Examples
    --------
    >>> FlowState(scale_factor=0.5)
    FlowState(scale_factor=0.5)
    """

    scale_factor: float = 1.0

    name: ClassVar[str] = "flowstate"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {
            **_ARRAYS,
            "D": Tensor("feedthrough", ("m",)),
            "output_gate.weight": ABSENT,
            "output_gate.bias": ABSENT,
        },
        {
            **_ARRAYS,
            "D": Tensor("fixed", ("m",)),
            "output_gate.weight": Tensor("fixed", ("m", "m")),
            "output_gate.bias": Tensor("fixed", ("m",)),
        },
    )
    calls: ClassVar[tuple[Call, ...]] = (Call("torch", "lbh", "lbh", arguments=("scale_factor",), live=False),)
    limits: ClassVar[str] = (
        "FlowState holds poles inside the unit circle other than 0, and a feedthrough that is a vector"
    )

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        A = -np.exp(tensors["log_Lambda_real"]) + 1j * tensors["Lambda_imag"]
        B = tensors["B_tilde_r"] + 1j * tensors["B_tilde_i"]
        Lambda, B = zoh(A, B, self.scale_factor * np.exp(tensors["log_Delta"]))
        D = np.diag(tensors["D"]) * ("output_gate.weight" not in tensors)
        return DiagonalSSM(Lambda, B, tensors["C_tilde_r"] + 1j * tensors["C_tilde_i"], D)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_step = tensors["log_Delta"]
        if ssm.order != log_step.size:
            log_step = np.full(ssm.order, np.float32(log_step.mean()), dtype=np.float64)
        A, B = inverse_zoh(ssm.Lambda, ssm.B, self.scale_factor * np.exp(log_step))
        return {
            "log_Lambda_real": np.log(-A.real),
            "Lambda_imag": A.imag,
            "B_tilde_r": B.real,
            "B_tilde_i": B.imag,
            "C_tilde_r": ssm.C.real,
            "C_tilde_i": ssm.C.imag,
            "D": np.diag(ssm.D),
            "log_Delta": log_step,
        }
