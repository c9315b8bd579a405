"""S5 in Flax (lindermanlab/S5, LAST, AIRE-Prune share one tree) and in s5-pytorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import MissingFlagError
from ..systems import DiagonalSSM
from ..systems._discretize import METHODS
from ._base import Adapter
from ._call import Call
from ._layout import Layout, Tensor

_CLIP = -1e-4  # upper limit of Lambda_re under clip_eigs, as in the original code
_CHOICES = {"discretization": tuple(METHODS)}


def _layout(**outputs: Tensor) -> Layout:
    return {
        "Lambda_re": Tensor("pole", ("n",)),
        "Lambda_im": Tensor("pole", ("n",)),
        "B": Tensor("input", ("n", "m", 2)),
        **outputs,
        "D": Tensor("feedthrough", ("m",)),
        "log_step": Tensor("pole", ("n", 1)),
    }


def clipped(real: np.ndarray, clip_eigs: bool | None) -> np.ndarray:
    """Real parts of the poles as the model uses them."""
    if clip_eigs is None and (real > _CLIP).any():
        raise MissingFlagError(
            f"some Lambda_re are larger than {_CLIP}, where the flag clip_eigs of S5 decides, which a checkpoint "
            "does not hold: give clip_eigs=True if the model was trained with it (they become -1e-4), else False"
        )
    return np.minimum(real, _CLIP) if clip_eigs else real


def pack(value: np.ndarray) -> np.ndarray:
    """Array with a last axis (re, im)."""
    return np.stack([value.real, value.imag], axis=-1)


def unpack(value: np.ndarray) -> np.ndarray:
    """Complex array of one whose last axis is (re, im)."""
    return np.ascontiguousarray(value).view(np.complex128)[..., 0]


def _halves(C: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Causal and reverse half of an output matrix that may hold both side by side."""
    return (C, None) if C.shape[-1] == order else (C[..., :order], C[..., order:])


def steps_for(order: int, log_step: np.ndarray) -> np.ndarray:
    """Log steps of the new states: those of the layer, or their mean where the number of states differs."""
    if order == log_step.shape[0]:
        return log_step
    return np.full((order, *log_step.shape[1:]), np.float32(log_step.mean()), dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class S5(Adapter):
    """S5 in Flax: the parameter tree of lindermanlab/S5, LAST and AIRE-Prune, under "/" or "." names.

    Arrays of a layer: ``Lambda_re``, ``Lambda_im`` (P,), ``B`` (P, H, 2), ``C`` (H, P, 2), or ``C1`` and ``C2``, or one
    wide ``C`` (H, 2P, 2) for bidirectional layers, ``D`` (H,), ``log_step`` (P, 1); the last axis is (re, im).

    Parameters
    ----------
    conj_sym : bool
        One state of each conjugate pair is stored, and the output is doubled. Must be given: the arrays are the same.
    discretization : {"zoh", "bilinear"}
        Must be given: the arrays are the same.
    clip_eigs : bool, optional
        The model clips ``Lambda_re`` to at most -1e-4. Must be given only where some entry is larger.
    step_rescale : float, default 1.0
        Factor of all step sizes (a change of the sampling rate).

    Examples
    --------
    >>> S5(conj_sym=True, discretization="zoh")
    S5(conj_sym=True, discretization='zoh', clip_eigs=None, step_rescale=1.0)
    """

    conj_sym: bool
    discretization: str
    clip_eigs: bool | None = None
    step_rescale: float = 1.0

    name: ClassVar[str] = "s5"
    layouts: ClassVar[tuple[Layout, ...]] = (
        _layout(C=Tensor("output", ("m", "n", 2))),
        _layout(C=Tensor("output", ("m", "2n", 2))),
        _layout(C1=Tensor("output", ("m", "n", 2)), C2=Tensor("output", ("m", "n", 2))),
    )
    calls: ClassVar[tuple[Call, ...]] = (Call("flax", "lh", "lh"),)
    flag_help: ClassVar[Mapping[str, str]] = {
        "conj_sym": "True if one state of each conjugate pair is stored and the output doubled, as by default in S5",
        "discretization": "'zoh' or 'bilinear'; 'zoh' is the default of S5",
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = _CHOICES
    limits: ClassVar[str] = "S5 holds any poles but 0 (zoh) or -1 (bilinear), and a feedthrough that is a vector"

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise also where the flag `clip_eigs` is needed and was not given."""
        super().check(params, name)
        clipped(params[self._matched(params, name)[2]["Lambda_re"]], self.clip_eigs)

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        step = self.step_rescale * np.exp(tensors["log_step"][:, 0])
        A = clipped(tensors["Lambda_re"], self.clip_eigs) + 1j * tensors["Lambda_im"]
        Lambda, B = METHODS[self.discretization][0](A, unpack(tensors["B"]), step)
        if "C" in tensors:
            C, C_reverse = _halves(unpack(tensors["C"]), A.size)
        else:
            C, C_reverse = unpack(tensors["C1"]), unpack(tensors["C2"])
        return DiagonalSSM(Lambda, B, C, np.diag(tensors["D"]), C_reverse, self.conj_sym)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_step = steps_for(ssm.order, tensors["log_step"])
        step = self.step_rescale * np.exp(log_step[:, 0])
        A, B = METHODS[self.discretization][1](ssm.Lambda, ssm.B, step)
        encoded = {"Lambda_re": A.real, "Lambda_im": A.imag, "B": pack(B), "log_step": log_step, "D": np.diag(ssm.D)}
        if ssm.C_reverse is None:
            outputs = {"C": ssm.C}
        elif "C" in tensors:
            outputs = {"C": np.concatenate([ssm.C, ssm.C_reverse], axis=-1)}
        else:
            outputs = {"C1": ssm.C, "C2": ssm.C_reverse}
        return {**encoded, **{leaf: pack(value) for leaf, value in outputs.items()}}


def _torch_layout(width: str) -> Layout:
    return {
        "Lambda": Tensor("pole", ("n",), kind="complex"),
        "B": Tensor("input", ("n", "m", 2)),
        "C": Tensor("output", ("m", width), kind="complex"),
        "D": Tensor("feedthrough", ("m",)),
        "log_step": Tensor("pole", ("n",)),
    }


@dataclass(frozen=True, kw_only=True)
class S5PyTorch(Adapter):
    """S5 of the package s5-pytorch (0.2.1), uni- or bidirectional.

    Arrays of a layer: ``Lambda`` (P,) complex, ``B`` (P, H, 2), ``C`` (H, P) or (H, 2P) complex, ``D`` (H,),
    ``log_step`` (P,). Every eigenvalue is stored, conjugate partners as separate states.

    Parameters
    ----------
    discretization : {"zoh", "bilinear"}, default "zoh"
        The package's ``S5`` and ``S5Block`` always use zoh; only a bare ``S5SSM`` can be built otherwise.
    step_scale : float, default 1.0
        Factor of all step sizes.

    Notes
    -----
    ``degree=1`` and ``liquid=False`` are assumed, the package's defaults. With ``liquid=True`` the poles depend on the
    input: such a layer is not time invariant, and nothing here applies to it; the file does not tell.

    Examples
    --------
    >>> S5PyTorch()
    S5PyTorch(discretization='zoh', step_scale=1.0)
    """

    discretization: str = "zoh"
    step_scale: float = 1.0

    name: ClassVar[str] = "s5_pytorch"
    layouts: ClassVar[tuple[Layout, ...]] = (_torch_layout("n"), _torch_layout("2n"))
    calls: ClassVar[tuple[Call, ...]] = (Call("torch", "lh", "lh"),)
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = _CHOICES
    limits: ClassVar[str] = S5.limits

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        step = self.step_scale * np.exp(tensors["log_step"])
        Lambda, B = METHODS[self.discretization][0](tensors["Lambda"], unpack(tensors["B"]), step)
        C, C_reverse = _halves(tensors["C"], Lambda.size)
        return DiagonalSSM(Lambda, B, C, np.diag(tensors["D"]), C_reverse, conj_sym=False)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        log_step = steps_for(ssm.order, tensors["log_step"])
        A, B = METHODS[self.discretization][1](ssm.Lambda, ssm.B, self.step_scale * np.exp(log_step))
        C: Any = ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=-1)
        return {"Lambda": A, "B": pack(B), "C": C, "D": np.diag(ssm.D), "log_step": log_step}
