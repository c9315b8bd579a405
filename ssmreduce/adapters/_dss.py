"""DSS, the diagonal state spaces of ag1988/dss."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np

from ..errors import MissingFlagError, UnknownNameError
from ..systems import DiagonalSSM, inverse_zoh
from ._base import Adapter
from ._call import Call, Kernel
from ._layout import Layout, Tensor

_VERSIONS = ("exp", "exp-re-im", "exp-no-scale", "clip", "clip-no-scale", "softmax")
_SMALL = 1e-7  # keeps the original's reciprocals finite

_EXP: Layout = {"kernel.Lambda_log_neg_re": Tensor("pole", ("n",)), "kernel.Lambda_im": Tensor("pole", ("n",))}
_RE_IM: Layout = {"kernel.Lambda_log_neg_re": Tensor("pole", ("n",)), "kernel.Lambda_log_im": Tensor("pole", ("n",))}
_PAIR: Layout = {"kernel.Lambda": Tensor("pole", ("n", 2))}


def _layouts() -> tuple[Layout, ...]:
    steps: tuple[tuple[str | int, ...], ...] = (("s", 2), ("s",))
    return tuple(
        {
            "D": Tensor("feedthrough", ("p", "s")),
            "kernel.W": Tensor("output", (outputs, "s", "n", 2)),
            "kernel.log_dt": Tensor("pole", step),
            **poles,
        }
        for poles, outputs, step in product((_EXP, _RE_IM, _PAIR), ("p", "2p"), steps)
    )


@dataclass(frozen=True, kw_only=True)
class DSS(Adapter):
    r"""DSS of ag1988/dss: a batch of H systems, one a feature, which share one set of states, every eigenvalue stored.

    Arrays of a layer: ``kernel.W`` (c, H, N, 2), ``kernel.log_dt`` (H,), or (H, 2) with separate steps of the real and
    imaginary parts, ``D`` (channels, H), and ``kernel.Lambda`` (N, 2), or ``kernel.Lambda_log_neg_re`` with
    ``kernel.Lambda_im`` or ``kernel.Lambda_log_im`` (N,). Bidirectional layers (c is twice the channels of ``D``) have
    a strictly anticausal reverse half, as in `S4Block`.

    Parameters
    ----------
    version : {"exp", "exp-re-im", "exp-no-scale", "clip", "clip-no-scale", "softmax"}
        Must be given: several have the same arrays. ``softmax`` normalises over the length of the sequence, and is read
        at a given one.
    length : int, optional
        Length of the sequence, for ``softmax``, and must be given there: at any other length the layer is another
        system.
    max_real : float, default 1e-4
        Upper limit of the real parts, for ``clip``.

    Examples
    --------
    >>> DSS(version="exp")
    DSS(version='exp', length=None, max_real=0.0001)
    """

    version: str
    length: int | None = None
    max_real: float = 1e-4

    name: ClassVar[str] = "dss"
    layouts: ClassVar[tuple[Layout, ...]] = _layouts()
    calls: ClassVar[tuple[Call, ...]] = (
        Call(
            "torch",
            "bhl",
            "bhl",
            returns=("y", "state"),
            after=("activation", "dropout", "output_linear"),
            kernel=Kernel("kernel", "chl", returns=("k", "state")),
            transposed="transposed",
        ),
    )
    flag_help: ClassVar[Mapping[str, str]] = {"version": f"one of {', '.join(_VERSIONS)}; 'exp' has Lambda_log_neg_re"}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"version": _VERSIONS}
    limits: ClassVar[str] = "DSS holds one set of poles for all features of a layer; 'exp' those inside the unit circle"
    strict_reverse: ClassVar[bool] = True
    channels_first: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.version == "softmax" and not self.length:
            raise MissingFlagError(
                "DSS with version='softmax' normalises its kernel over the length of the sequence: give length=..., "
                "the one that the model is used with; the result holds at that length alone"
            )

    def check(self, params: Mapping, name: str) -> None:
        """Raise also where the version does not go with the arrays."""
        super().check(params, name)
        layout = self._matched(params, name)[0]
        logarithms = "kernel.Lambda" not in layout
        imaginary = "kernel.Lambda_log_im" in layout
        if logarithms != self.version.startswith("exp") or imaginary != (self.version == "exp-re-im"):
            raise UnknownNameError(f"layer {name!r} has the arrays {', '.join(layout)}, not those of {self.version!r}")

    def _poles(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Continuous-time poles, shape (N,)."""
        if "kernel.Lambda" in tensors:
            real, imag = tensors["kernel.Lambda"].T
            return (np.minimum(real, self.max_real) if self.version.startswith("clip") else real) + 1j * imag
        log_im = tensors.get("kernel.Lambda_log_im")
        imag = tensors["kernel.Lambda_im"] if log_im is None else np.exp(log_im)
        return -np.exp(tensors["kernel.Lambda_log_neg_re"]) + 1j * imag

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        W = tensors["kernel.W"][..., 0] + 1j * tensors["kernel.W"][..., 1]
        Lambda, B = self._discretised(self._poles(tensors), _steps(tensors))
        channels = len(tensors["D"])
        C = np.moveaxis(W, 0, 1)
        reverse = C[:, channels:] if C.shape[1] > channels else None
        return DiagonalSSM(Lambda, B[..., None], C[:, :channels], tensors["D"].T[..., None], reverse)

    def _discretised(self, A: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Discrete poles and inputs of every feature, shape (H, N) each."""
        z = A.real * step[:, :1] + 1j * A.imag * step[:, 1:]
        if self.version.endswith("no-scale"):
            return np.exp(z), np.ones(z.shape)
        if self.version != "softmax":
            return np.exp(z), _expm1(z) * A.conj() / np.maximum(np.abs(A) ** 2, _SMALL)
        assert self.length is not None
        growing = A.real > 0
        falling = np.where(growing, -z, z)
        den = _expm1(self.length * falling) * A
        B = _expm1(falling) * den.conj() / (np.abs(den) ** 2 + _SMALL)
        return np.exp(z), B * np.exp(-z * growing * (self.length - 1))

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        step = _steps(tensors)
        logarithm, _ = inverse_zoh(ssm.Lambda, ssm.B, 1.0)
        imag = logarithm.imag
        old = self._poles(tensors)
        if ssm.order == old.size:
            imag = imag + 2 * np.pi * np.round((old.imag * step[:, 1:] - imag) / (2 * np.pi))
        A = (logarithm.real / step[:, :1] + 1j * imag / step[:, 1:]).mean(axis=0)
        outputs = ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=1)
        W = np.moveaxis(outputs * (ssm.B[..., 0] / self._discretised(A, step)[1])[:, None, :], 1, 0)
        return {
            "D": ssm.D[..., 0].T,
            "kernel.W": np.stack([W.real, W.imag], axis=-1),
            "kernel.log_dt": tensors["kernel.log_dt"],
            "kernel.Lambda": np.stack([A.real, A.imag], axis=-1),
            "kernel.Lambda_log_neg_re": np.log(-A.real),
            "kernel.Lambda_im": A.imag,
            "kernel.Lambda_log_im": np.log(A.imag),
        }


def _steps(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Steps of the real and of the imaginary parts, shape (H, 2)."""
    step = np.exp(tensors["kernel.log_dt"])
    return np.stack([step, step], axis=1) if step.ndim == 1 else step


def _expm1(z: np.ndarray) -> np.ndarray:
    return np.expm1(z.real) * np.cos(z.imag) - 2 * np.sin(z.imag / 2) ** 2 + 1j * np.exp(z.real) * np.sin(z.imag)
