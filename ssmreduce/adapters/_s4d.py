"""S4D as in the minimal `s4d.py` of state-spaces/s4: one single-input single-output system a feature."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..systems import DiagonalSSM, inverse_zoh, zoh
from ._base import Adapter
from ._call import Call, Kernel
from ._layout import ABSENT, Layout, Tensor


@dataclass(frozen=True, kw_only=True)
class S4D(Adapter):
    """S4D of the minimal ``s4d.py`` and of discretax: H systems, one a feature, one state of each conjugate pair.

    Arrays of a layer: ``kernel.C`` (H, N, 2), ``kernel.log_dt`` (H,), ``kernel.log_A_real`` and ``kernel.A_imag``
    (H, N), ``D`` (H,). B is 1 before the zero-order hold. In discretax ``kernel.C`` is complex (H, N), the real parts
    are called ``kernel.log_a_real``, and there is no ``D``.

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
        {
            "kernel.C": Tensor("output", ("s", "n"), "complex"),
            "kernel.log_dt": Tensor("pole", ("s",)),
            "kernel.log_a_real": Tensor("pole", ("s", "n")),
            "kernel.A_imag": Tensor("pole", ("s", "n")),
            "D": ABSENT,
        },
    )
    calls: ClassVar[tuple[Call, ...]] = (
        Call(
            "torch",
            "bhl",
            "bhl",
            returns=("y", "state"),
            after=("activation", "dropout", "output_linear"),
            kernel=Kernel("kernel", "hl"),
            transposed="transposed",
        ),
        Call("equinox", "lh", "lh", kernel=Kernel("kernel", "hl")),
    )
    limits: ClassVar[str] = "S4D holds poles inside the unit circle other than 0"

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        ours = "kernel.log_A_real" in tensors
        A = -np.exp(tensors["kernel.log_A_real" if ours else "kernel.log_a_real"]) + 1j * tensors["kernel.A_imag"]
        Lambda, B = zoh(A, np.ones((*A.shape, 1)), np.exp(tensors["kernel.log_dt"])[:, None])
        C = tensors["kernel.C"]
        C = C[..., 0] + 1j * C[..., 1] if ours else C
        D = tensors["D"] if ours else np.zeros(len(C))
        return DiagonalSSM(Lambda, B, C[:, None, :], D[:, None, None], conj_sym=True)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        step = np.exp(tensors["kernel.log_dt"])[:, None]
        A, _ = inverse_zoh(ssm.Lambda, ssm.B, step)
        if A.shape == tensors["kernel.A_imag"].shape:  # the full turns a step of the old poles, which C depends on
            turns = np.round((tensors["kernel.A_imag"] - A.imag) * step / (2 * np.pi))
            A = A + 2j * np.pi / step * turns
        _, unit = zoh(A, np.ones((*A.shape, 1)), step)
        C = ssm.C[:, 0, :] * (ssm.B / unit)[..., 0]
        return {
            "kernel.C": np.stack([C.real, C.imag], axis=-1) if "D" in tensors else C,
            "kernel.log_dt": tensors["kernel.log_dt"],
            "kernel.log_A_real": np.log(-A.real),
            "kernel.log_a_real": np.log(-A.real),
            "kernel.A_imag": A.imag,
            "D": ssm.D[:, 0, 0],
        }
