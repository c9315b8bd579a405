"""The core of the Linear Recurrent Unit, under its JAX and its PyTorch names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .._support.arrays import one_minus_abs2
from ..systems import DiagonalSSM, inverse_zoh
from ._base import Adapter
from ._call import Call
from ._layout import Layout, Tensor

_POLES = {leaf: Tensor("pole", ("n",)) for leaf in ("nu_log", "theta_log", "gamma_log")}


def _layout(feedthrough: tuple[str, ...], *, complex_: bool) -> Layout:
    def matrices(letter: str, role: str, axes: tuple[str, str]) -> Layout:
        if complex_:
            return {letter: Tensor(role, axes, kind="complex")}
        return {f"{letter}_re": Tensor(role, axes), f"{letter}_im": Tensor(role, axes)}

    # A vector D ties inputs and outputs to one width, a full one does not.
    p = feedthrough[0]
    return {
        **_POLES,
        **matrices("B", "input", ("n", feedthrough[-1])),
        **matrices("C", "output", (p, "n")),
        "D": Tensor("feedthrough", feedthrough),
    }


@dataclass(frozen=True, kw_only=True)
class LRU(Adapter):
    """The LRU core: JAX names (minimal-LRU, LinOSS, CompreSSM) or PyTorch names (LRU-pytorch, lru-reduction).

    Arrays of a layer: ``nu_log``, ``theta_log``, ``gamma_log`` (N,); ``B_re``, ``B_im`` (N, H) and ``C_re``, ``C_im``
    (H, N), or complex ``B`` (N, in) and ``C`` (out, N); ``D`` as a vector (H,) or in full (out, in). All eigenvalues
    are stored, and the output is the real part.

    Examples
    --------
    >>> LRU()
    LRU()
    """

    name: ClassVar[str] = "lru"
    layouts: ClassVar[tuple[Layout, ...]] = tuple(
        _layout(feedthrough, complex_=complex_) for complex_ in (False, True) for feedthrough in (("m",), ("p", "m"))
    )
    calls: ClassVar[tuple[Call, ...]] = (
        Call("flax", "lh", "lh"),
        Call("equinox", "lh", "lh"),
        Call("torch", "blh", "blh"),
    )
    limits: ClassVar[str] = (
        "LRU holds poles inside the unit circle other than 0, at angles in (0, 2 pi]: a positive real pole is written "
        "at the angle 2 pi, within float32 accuracy of it"
    )

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        Lambda = np.exp(-np.exp(tensors["nu_log"]) + 1j * np.exp(tensors["theta_log"]))
        if "B" in tensors:
            B, C = tensors["B"], tensors["C"]
        else:
            B = tensors["B_re"] + 1j * tensors["B_im"]
            C = tensors["C_re"] + 1j * tensors["C_im"]
        D = tensors["D"]
        B = np.exp(tensors["gamma_log"])[:, None] * B
        return DiagonalSSM(Lambda, B, C, np.diag(D) if D.ndim == 1 else D, conj_sym=False)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_Lambda, _ = inverse_zoh(ssm.Lambda, ssm.B, 1.0)
        angle = log_Lambda.imag
        same_order = ssm.order == tensors["gamma_log"].size
        gamma_log = tensors["gamma_log"] if same_order else 0.5 * np.log(one_minus_abs2(ssm.Lambda))
        B = ssm.B * np.exp(-gamma_log)[:, None]
        encoded = {
            "nu_log": np.log(-log_Lambda.real),
            "theta_log": np.log(np.where(angle <= 0, angle + 2 * np.pi, angle)),
            "gamma_log": gamma_log,
            "D": np.diag(ssm.D) if tensors["D"].ndim == 1 else ssm.D,
        }
        if "B" in tensors:
            return {**encoded, "B": B, "C": ssm.C}
        return {**encoded, "B_re": B.real, "B_im": B.imag, "C_re": ssm.C.real, "C_im": ssm.C.imag}
