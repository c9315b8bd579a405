"""The layers of the Annotated S4 in Flax: S4D, and S4 with a diagonal-plus-low-rank state matrix."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..systems import DiagonalSSM, bilinear, inverse_zoh, zoh
from ._base import Adapter
from ._call import Call
from ._dplr import DPLR
from ._layout import Layout, Tensor
from ._lowrank import Modes, diagonalised, without_truncation

_CLIP = -1e-4  # upper limit of the real parts, as in the original code
_CALLS = (Call("flax", "lh", "lh"),)


def _diagonal_arrays(ssm: DiagonalSSM, step: np.ndarray, old: np.ndarray | None) -> dict[str, np.ndarray]:
    """Arrays of S4D for a batch of systems, features last."""
    A, _ = inverse_zoh(ssm.Lambda, ssm.B, step)
    if old is not None:  # the full turns a step of the old poles, which C depends on
        A = A + 2j * np.pi / step * np.round((old.imag - A.imag) * step / (2 * np.pi))
    _, unit = zoh(A, np.ones((*A.shape, 1)), step)
    C = (ssm.C[:, 0, :] * (ssm.B / unit)[..., 0]).T
    return {
        "A_re": A.real.T,
        "A_im": A.imag.T,
        "B_re": np.ones(C.shape),
        "B_im": np.zeros(C.shape),
        "C": np.stack([C.real, C.imag], axis=-1),
        "D": ssm.D[:, 0, 0][None],
        "log_step": np.log(step)[:, 0][None],
    }


@dataclass(frozen=True, kw_only=True)
class AnnotatedS4D(Adapter):
    """S4D of srush/annotated-s4 (``s4d.py``): a batch of H systems, one a feature, every eigenvalue stored.

    Arrays of a layer, features last: ``A_re``, ``A_im`` (N, H), ``C`` (N, H, 2), ``D``, ``log_step`` (1, H). ``B_re``
    and ``B_im`` are there and not used: B is 1 before the zero-order hold. Real parts are clipped to at most -1e-4.

    Examples
    --------
    >>> AnnotatedS4D()
    AnnotatedS4D()
    """

    name: ClassVar[str] = "annotated_s4d"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {
            "A_re": Tensor("pole", ("n", "s")),
            "A_im": Tensor("pole", ("n", "s")),
            "B_re": Tensor("unused", ("n", "s")),
            "B_im": Tensor("unused", ("n", "s")),
            "C": Tensor("output", ("n", "s", 2)),
            "D": Tensor("feedthrough", (1, "s")),
            "log_step": Tensor("pole", (1, "s")),
        },
    )
    calls: ClassVar[tuple[Call, ...]] = _CALLS
    limits: ClassVar[str] = "the annotated S4D holds poles inside the unit circle other than 0, some way from it"

    def _poles(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        return (np.minimum(tensors["A_re"], _CLIP) + 1j * tensors["A_im"]).T

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        A, step = self._poles(tensors), np.exp(tensors["log_step"]).T
        Lambda, B = zoh(A, np.ones((*A.shape, 1)), step)
        C = (tensors["C"][..., 0] + 1j * tensors["C"][..., 1]).T
        return DiagonalSSM(Lambda, B, C[:, None, :], tensors["D"].T[..., None])

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        same = ssm.order == len(tensors["A_re"])
        arrays = _diagonal_arrays(ssm, np.exp(tensors["log_step"]).T, self._poles(tensors) if same else None)
        unused = {leaf: tensors[leaf] for leaf in ("B_re", "B_im")} if same else {}
        return {**arrays, **unused, "log_step": tensors["log_step"]}


@dataclass(frozen=True, kw_only=True)
class AnnotatedS4(DPLR):
    r"""S4 of srush/annotated-s4 (``s4.py``), with a diagonal-plus-low-rank state matrix a feature, in convolution mode.

    Arrays of a layer, features last: ``Lambda_re``, ``Lambda_im`` (N, H), ``P``, ``B`` (N, H) complex, ``C`` (N, H, 2),
    ``D``, ``log_step`` (1, H). It is read in diagonal form; what is stored is the conjugate of
    :math:`\tilde C = C (I - \bar A^L)`. A changed layer is written as `AnnotatedS4D`.

    Parameters
    ----------
    l_max : int
        L, the length that the model was trained for. Must be given: the arrays are the same.

    Raises
    ------
    NotRepresentableError
        While reading: eigenvectors too badly conditioned for double precision, with the condition number.

    Examples
    --------
    >>> AnnotatedS4(l_max=784)
    AnnotatedS4(l_max=784)
    """

    l_max: int

    name: ClassVar[str] = "annotated_s4"
    layouts: ClassVar[tuple[Layout, ...]] = (
        {
            "Lambda_re": Tensor("pole", ("n", "s")),
            "Lambda_im": Tensor("pole", ("n", "s")),
            "P": Tensor("pole", ("n", "s"), "complex"),
            "B": Tensor("input", ("n", "s"), "complex"),
            "C": Tensor("output", ("n", "s", 2)),
            "D": Tensor("feedthrough", (1, "s")),
            "log_step": Tensor("pole", (1, "s")),
        },
    )
    calls: ClassVar[tuple[Call, ...]] = _CALLS
    written_as: ClassVar[str] = "annotated_s4d"
    flag_help: ClassVar[Mapping[str, str]] = {"l_max": "the length that the model was trained for"}

    def _reader(self) -> Adapter:
        return AnnotatedS4D()

    def _modes(self, tensors: Mapping[str, np.ndarray]) -> Modes:
        a = (np.minimum(tensors["Lambda_re"], _CLIP) + 1j * tensors["Lambda_im"]).T
        P, B = tensors["P"].T, tensors["B"].T
        stored = (tensors["C"][..., 0] - 1j * tensors["C"][..., 1]).T
        matrices = [np.diag(row) - np.outer(p, p.conj()) for row, p in zip(a, P, strict=True)]
        return diagonalised(matrices, B, stored[None])

    def _from_modes(self, modes: Modes, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        step = np.exp(tensors["log_step"]).T
        Lambda, B = bilinear(modes.poles, modes.inputs[..., None], step)
        C = without_truncation(modes.outputs[0], modes.poles, step, self.l_max)
        return DiagonalSSM(Lambda, B, C[:, None, :], tensors["D"].T[..., None])

    def _diagonal(self, modes: Modes, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        arrays = _diagonal_arrays(ssm, np.exp(tensors["log_step"]).T, None)
        return {leaf: value for leaf, value in arrays.items() if leaf != "D"}
