"""S4D as in the minimal `s4d.py` of state-spaces/s4: one single-input single-output system a feature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..systems import DiagonalSSM, inverse_zoh, zoh
from ._base import Adapter
from ._call import Call
from ._layout import Layout, Tensor


@dataclass(frozen=True, kw_only=True)
class S4D(Adapter):
    """S4D of the minimal ``s4d.py``: a batch of H systems, one a feature, with one state of each conjugate pair.

    Arrays of a layer: ``kernel.C`` (H, N, 2), ``kernel.log_dt`` (H,), ``kernel.log_A_real`` and ``kernel.A_imag``
    (H, N), ``D`` (H,). B is 1 before the zero-order hold.

    Examples
    --------
    >>> S4D()
    S4D()
    """

    name: ClassVar[str] = "s4d"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {
            "kernel.C": Tensor("output", ("s", "n", 2)),
            "kernel.log_dt": Tensor("pole", ("s",)),
            "kernel.log_A_real": Tensor("pole", ("s", "n")),
            "kernel.A_imag": Tensor("pole", ("s", "n")),
            "D": Tensor("feedthrough", ("s",)),
        },
    )
    calls: ClassVar[tuple[Call, ...]] = (
        Call("torch", "bhl", "bhl", returns=("y", "state"), after=("activation", "dropout", "output_linear")),
    )
    limits: ClassVar[str] = "S4D holds poles inside the unit circle other than 0"

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        A = -np.exp(tensors["kernel.log_A_real"]) + 1j * tensors["kernel.A_imag"]
        Lambda, B = zoh(A, np.ones((*A.shape, 1)), np.exp(tensors["kernel.log_dt"])[:, None])
        C = tensors["kernel.C"][..., 0] + 1j * tensors["kernel.C"][..., 1]
        return DiagonalSSM(Lambda, B, C[:, None, :], tensors["D"][:, None, None], conj_sym=True)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        step = np.exp(tensors["kernel.log_dt"])[:, None]
        A, _ = inverse_zoh(ssm.Lambda, ssm.B, step)
        if A.shape == tensors["kernel.A_imag"].shape:  # the full turns a step of the old poles, which C depends on
            turns = np.round((tensors["kernel.A_imag"] - A.imag) * step / (2 * np.pi))
            A = A + 2j * np.pi / step * turns
        _, unit = zoh(A, np.ones((*A.shape, 1)), step)
        C = ssm.C[:, 0, :] * (ssm.B / unit)[..., 0]
        return {
            "kernel.C": np.stack([C.real, C.imag], axis=-1),
            "kernel.log_dt": tensors["kernel.log_dt"],
            "kernel.log_A_real": np.log(-A.real),
            "kernel.A_imag": A.imag,
            "D": ssm.D[:, 0, 0],
        }
