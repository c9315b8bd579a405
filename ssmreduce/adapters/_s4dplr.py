"""S4 with a diagonal-plus-low-rank kernel, the original one of state-spaces/s4."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..errors import MissingFlagError
from ..systems import DiagonalSSM, bilinear
from ._base import Adapter
from ._call import Call
from ._dplr import DPLR
from ._layout import Layout
from ._lowrank import Modes, diagonalised, real_form, without_truncation
from ._positive import TRANSFORM_CHOICES, TRANSFORMS, stored
from ._s4block import S4_FLAG_HELP, S4Block, complex_of, pair_of
from ._s4names import canonical, dplr_layouts


@dataclass(frozen=True, kw_only=True)
class S4DPLR(DPLR):
    r"""S4 with a diagonal-plus-low-rank kernel (``mode="s4"``, ``"dplr"``) of state-spaces/s4, versions 2 to 4.

    The arrays of `S4Block`, and ``kernel.P`` (rank, S, N, 2) and ``kernel.l_kernel`` (). The state matrix of a copy is

    .. math:: A = \mathrm{diag}(a, \bar a) - \sum_r p_r p_r^*, \qquad p_r = (P_r, \bar P_r)

    under a bilinear transform. It is read in diagonal form: the eigenvalues are the poles, one of each conjugate pair
    stored, real ones with half of their output. The arrays hold :math:`\tilde C = C (I - \bar A^L)` with
    L = ``l_kernel``, from which C is found. A changed layer is written as `S4Block` with ``disc="bilinear"``; the
    number of copies (``n_ssm``) and the step sizes stay.

    Parameters
    ----------
    real_transform, dt_transform : {"none", "exp", "relu", "sigmoid", "softplus"}
        As in `S4Block`. Must be given: the arrays are the same.
    imag_transform : str, default "none"
    dt_fast : bool, default False
    swap_channels : bool, default False
        As in `S4Block`.
    l_kernel : int, optional
        L. Must be given only where the file has none (version 2, and its forks such as SSSD).

    Raises
    ------
    NotRepresentableError
        While reading: eigenvectors too badly conditioned for double precision, with the condition number.

    Examples
    --------
    >>> S4DPLR(real_transform="exp", dt_transform="exp").l_kernel is None
    True
    """

    real_transform: str
    dt_transform: str
    imag_transform: str = "none"
    dt_fast: bool = False
    swap_channels: bool = False
    l_kernel: int | None = None

    name: ClassVar[str] = "s4dplr"
    layouts: ClassVar[tuple[Layout, ...]] = dplr_layouts()
    calls: ClassVar[tuple[Call, ...]] = S4Block.calls
    flag_help: ClassVar[Mapping[str, str]] = S4_FLAG_HELP
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = TRANSFORM_CHOICES
    written_as: ClassVar[str] = "s4block"
    strict_reverse: ClassVar[bool] = True

    @property
    def channels_first(self) -> bool:  # type: ignore[override]
        """Whether the layer gives all features of the first channel first."""
        return not self.swap_channels

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise also where the kernel's length is not in the file and was not given."""
        tensors = canonical(self._tensors(params, name))
        if "l_kernel" not in tensors and self.l_kernel is None:
            raise MissingFlagError(
                f"layer {name!r} holds C (I - A^L) and not L, the length that its kernel was set up for: give "
                "l_kernel=... (the l_max of the model, doubled as often as a longer sequence was run)"
            )
        super().check(params, name)

    def _reader(self) -> Adapter:
        return S4Block(
            disc="bilinear",
            real_transform=self.real_transform,
            dt_transform=self.dt_transform,
            imag_transform=self.imag_transform,
            dt_fast=self.dt_fast,
            swap_channels=self.swap_channels,
        )

    def _gone(self) -> tuple[str, ...]:
        return ("omega", "z")  # what version 3 keeps for its own kernel

    def _modes(self, tensors: Mapping[str, np.ndarray]) -> Modes:
        t = canonical(tensors)
        reader = self._reader()
        assert isinstance(reader, S4Block)
        a, P = reader.poles_of(t, tensors), complex_of(t["P"])
        B, C = complex_of(t["B"])[0], complex_of(t["C"])
        matrices = [real_form(a[j], P[:, j]) for j in range(len(a))]
        inputs = np.concatenate([B.real, B.imag], axis=-1)
        return diagonalised(matrices, inputs, 2 * np.concatenate([C.real, -C.imag], axis=-1))

    def _from_modes(self, modes: Modes, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        t = canonical(tensors)
        poles, inputs, step = self._tiled(modes, t)
        Lambda, B = bilinear(poles, inputs[..., None], step)
        C = np.moveaxis(self._outputs(modes, t), 0, 1)
        channels = len(t["D"])
        reverse = C[:, channels:] if C.shape[1] > channels else None
        return DiagonalSSM(Lambda, B, C[:, :channels], t["D"].T[..., None], reverse, conj_sym=True)

    def _tiled(self, modes: Modes, t: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Poles, inputs and steps of every feature; steps of a state are those of its feature."""
        inv_dt = np.sinh(t["inv_dt"]) if self.dt_fast else t["inv_dt"]
        step = TRANSFORMS[self.dt_transform][0](inv_dt)
        repeats = (len(step) // len(modes.poles), 1)
        return np.tile(modes.poles, repeats), np.tile(modes.inputs, repeats), step

    def _outputs(self, modes: Modes, t: Mapping[str, np.ndarray]) -> np.ndarray:
        poles, _, step = self._tiled(modes, t)
        length = self.l_kernel if "l_kernel" not in t else int(t["l_kernel"])
        assert length is not None
        return without_truncation(modes.outputs, poles, step, length)

    def _diagonal(self, modes: Modes, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        t = canonical(tensors)
        arrays = {"B": pair_of(modes.inputs)[None], "C": pair_of(self._outputs(modes, t))}
        real = stored(self.real_transform, -modes.poles.real)
        imag = stored(self.imag_transform, -modes.poles.imag, zero=True)
        if "kernel.kernel.w_imag" in tensors:
            floor = 1e-4 if self.real_transform == "relu" else 0.0
            return {**arrays, "log_dt": t["inv_dt"][:, 0], "inv_w_real": real + floor, "w_imag": -imag}
        return {**arrays, "inv_dt": t["inv_dt"], "A_real": real, "A_imag": imag}
