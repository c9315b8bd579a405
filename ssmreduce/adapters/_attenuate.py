"""The layers of aTENNuate, and S5 as lrnnx writes it: real inputs, poles under softplus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import UnknownNameError
from ..systems import DiagonalSSM, inverse_zoh, zoh
from ._base import Adapter
from ._call import Call
from ._layout import ABSENT, Layout, Tensor
from ._positive import TRANSFORMS
from ._writing import real_inputs

_POLES: Layout = {
    "A": Tensor("pole", ("n", 2)),
    "log_dt": Tensor("pole", ("n",)),
    "B": Tensor("input", ("n", "m")),
}


def _poles(A: np.ndarray) -> np.ndarray:
    return -TRANSFORMS["softplus"][0](A[:, 0]) + 1j * A[:, 1]


def _stored(A: np.ndarray) -> np.ndarray:
    return np.stack([TRANSFORMS["softplus"][1](-A.real), A.imag], axis=-1)


def _steps(order: int, log_dt: np.ndarray) -> np.ndarray:
    return log_dt if order == log_dt.size else np.full(order, np.float32(log_dt.mean()), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class ATENNuate(Adapter):
    r"""``SSMLayer`` of the package attenuate (0.1.1): an Euler input, real B and C, no feedthrough.

    Arrays of a layer: ``A`` (N, 2), the inverse softplus of the negative real part and the imaginary part, ``B``
    (N, in), ``C`` (out, N), ``log_dt`` (N,).

    .. math:: \lambda = e^{\Delta (-\mathrm{softplus}(A_0) + i A_1)}, \qquad \bar B = \Delta B

    Examples
    --------
    >>> ATENNuate()
    ATENNuate()
    """

    name: ClassVar[str] = "attenuate"
    layouts: ClassVar[tuple[Layout, ...]] = ({**_POLES, "C": Tensor("output", ("p", "n")), "D": ABSENT},)
    calls: ClassVar[tuple[Call, ...]] = (Call("torch", "bhl", "bhl"),)
    limits: ClassVar[str] = (
        "aTENNuate holds poles inside the unit circle other than 0, inputs and outputs that are real up to a scale of "
        "the state, and no feedthrough"
    )

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        step = np.exp(tensors["log_dt"])
        B, C = tensors["B"], tensors["C"]
        D = np.zeros((C.shape[0], B.shape[1]))
        return DiagonalSSM(np.exp(step * _poles(tensors["A"])), step[:, None] * B, C, D)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_dt = _steps(ssm.order, tensors["log_dt"])
        A, _ = inverse_zoh(ssm.Lambda, ssm.B, np.exp(log_dt))
        B, turn = real_inputs(ssm.B, tensors["B"])
        return {"A": _stored(A), "log_dt": log_dt, "B": B / np.exp(log_dt)[:, None], "C": (ssm.C * turn).real}


@dataclass(frozen=True, kw_only=True)
class LrnnxS5(Adapter):
    r"""S5 of the package lrnnx (1.0): real B, complex C, a full feedthrough.

    Arrays of a layer: ``A`` (N, 2), the inverse softplus of the negative real part and the imaginary part, ``B``
    (N, H), ``C`` (H, N, 2), ``D`` (H, H), which acts as ``x @ D``, ``log_dt`` (N,). All eigenvalues are stored, and the
    output is the real part.

    Parameters
    ----------
    discretization : {"zoh", "dirac"}
        Must be given: the arrays are the same. The package's ``bilinear`` has the sign of A inverted, which makes every
        stable A an unstable layer; it is refused.

    Examples
    --------
    >>> LrnnxS5(discretization="zoh")
    LrnnxS5(discretization='zoh')
    """

    discretization: str

    name: ClassVar[str] = "lrnnx_s5"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {**_POLES, "C": Tensor("output", ("m", "n", 2)), "D": Tensor("feedthrough", ("m", "m"))},
    )
    calls: ClassVar[tuple[Call, ...]] = (Call("torch", "blh", "blh"),)
    flag_help: ClassVar[Mapping[str, str]] = {"discretization": "'zoh' or 'dirac'"}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"discretization": ("zoh", "dirac")}
    limits: ClassVar[str] = (
        "S5 of lrnnx holds poles inside the unit circle other than 0, and inputs that are real up to a scale of the "
        "state"
    )

    def __post_init__(self) -> None:
        if self.discretization == "bilinear":
            raise UnknownNameError(
                "there is no discretization 'bilinear' here, of which the package has the sign of A inverted: its "
                "layers grow without bound; choose from zoh, dirac"
            )
        super().__post_init__()

    def _gains(self, A: np.ndarray, step: np.ndarray) -> np.ndarray:
        unit = np.ones((A.size, 1))
        return zoh(A, unit, step)[1] if self.discretization == "zoh" else unit

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        A, step = _poles(tensors["A"]), np.exp(tensors["log_dt"])
        C = tensors["C"][..., 0] + 1j * tensors["C"][..., 1]
        return DiagonalSSM(np.exp(step * A), self._gains(A, step) * tensors["B"], C, tensors["D"].T)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_dt = _steps(ssm.order, tensors["log_dt"])
        A, _ = inverse_zoh(ssm.Lambda, ssm.B, np.exp(log_dt))
        if ssm.order == len(tensors["A"]):  # the full turns a step of the old poles, which the inputs depend on
            step = np.exp(log_dt)
            A = A + 2j * np.pi / step * np.round((tensors["A"][:, 1] - A.imag) * step / (2 * np.pi))
        B, turn = real_inputs(ssm.B / self._gains(A, np.exp(log_dt)), tensors["B"])
        C = ssm.C * turn
        return {
            "A": _stored(A),
            "log_dt": log_dt,
            "B": B,
            "C": np.stack([C.real, C.imag], axis=-1),
            "D": ssm.D.T,
        }
