"""Event-SSM at constant time steps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..systems import DiagonalSSM, inverse_zoh, zoh
from ._base import Adapter
from ._call import Call
from ._layout import Layout, Tensor
from ._s5 import clipped, pack, steps_for, unpack


def _layout(feedthrough: tuple[str, ...]) -> Layout:
    return {
        "Lambda_re": Tensor("pole", ("n",)),
        "Lambda_im": Tensor("pole", ("n",)),
        "B": Tensor("input", ("n", "m", 2)),
        "D": Tensor("feedthrough", feedthrough),
        "C": Tensor("output", (feedthrough[0], "n", 2)),
        "log_step": Tensor("pole", ("n", 1)),
    }


@dataclass(frozen=True, kw_only=True)
class EventSSM(Adapter):
    r"""Event-SSM in Flax at constant time steps, where its layers are time invariant.

    The arrays of S5, with ``D`` as a vector (H,) or in full (H_out, H_in). The file does not tell it from S5, so that
    it must be named. With ``stride > 1`` the system is what comes before the subsampling. Where the time between events
    varies, the layer is not time invariant, and a result holds for `time_step` alone.

    .. math:: \bar\lambda = e^{\lambda \Delta \tau}, \qquad
        \bar B = \tfrac{\bar\lambda - 1}{\lambda} B \ (\mathrm{zoh}), \quad B \ (\mathrm{dirac}), \quad
        \tfrac{e^{\lambda \Delta} - 1}{\lambda} B \ (\mathrm{async})

    Parameters
    ----------
    conj_sym : bool
        One state of each conjugate pair is stored. Must be given: the arrays are the same.
    discretization : {"zoh", "dirac", "async"}
        Must be given: the arrays are the same.
    clip_eigs : bool, optional
        As in `S5`.
    step_rescale : float, default 1.0
    time_step : float, default 1.0
        :math:`\tau`, the constant ``integration_timesteps``.

    Examples
    --------
    >>> EventSSM(conj_sym=True, discretization="async").time_step
    1.0
    """

    conj_sym: bool
    discretization: str
    clip_eigs: bool | None = None
    step_rescale: float = 1.0
    time_step: float = 1.0

    name: ClassVar[str] = "event_ssm"
    detected: ClassVar[bool] = False
    layouts: ClassVar[tuple[Layout, ...]] = (_layout(("m",)), _layout(("p", "m")))
    calls: ClassVar[tuple[Call, ...]] = (Call("flax", "lh", "lh", arguments=("integration_timesteps",)),)
    flag_help: ClassVar[Mapping[str, str]] = {
        "conj_sym": "True if one state of each conjugate pair is stored and the output doubled, as by default",
        "discretization": "'zoh', 'dirac' or 'async'",
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"discretization": ("zoh", "dirac", "async")}
    limits: ClassVar[str] = "Event-SSM holds any poles but 0"

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise also where the flag `clip_eigs` is needed and was not given."""
        super().check(params, name)
        clipped(params[self._matched(params, name)[2]["Lambda_re"]], self.clip_eigs)

    def _gains(self, A: np.ndarray, step: np.ndarray) -> np.ndarray:
        """What B is multiplied with, shape (n, 1)."""
        unit = np.ones((A.size, 1))
        if self.discretization == "dirac":
            return unit
        return zoh(A, unit, step * (self.time_step if self.discretization == "zoh" else 1.0))[1]

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        A = clipped(tensors["Lambda_re"], self.clip_eigs) + 1j * tensors["Lambda_im"]
        step = self.step_rescale * np.exp(tensors["log_step"][:, 0])
        B = self._gains(A, step) * unpack(tensors["B"])
        D = np.diag(tensors["D"]) if tensors["D"].ndim == 1 else tensors["D"]
        return DiagonalSSM(np.exp(A * step * self.time_step), B, unpack(tensors["C"]), D, conj_sym=self.conj_sym)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_step = steps_for(ssm.order, tensors["log_step"])
        step = self.step_rescale * np.exp(log_step[:, 0])
        A, _ = inverse_zoh(ssm.Lambda, ssm.B, step * self.time_step)
        return {
            "Lambda_re": A.real,
            "Lambda_im": A.imag,
            "B": pack(ssm.B / self._gains(A, step)),
            "C": pack(ssm.C),
            "D": np.diag(ssm.D) if tensors["D"].ndim == 1 else ssm.D,
            "log_step": log_step,
        }
