"""S4Block with a diagonal kernel (S4D) of state-spaces/s4, in the names of versions 2 to 4."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import UnknownNameError
from ..systems import DiagonalSSM
from ..systems._discretize import METHODS
from ._base import Adapter
from ._call import Call, Kernel
from ._layout import Layout
from ._positive import TRANSFORM_CHOICES, TRANSFORMS, stored
from ._s4names import canonical, diagonal_layouts, original

S4_FLAG_HELP = {
    "real_transform": "how A_real is stored: 'none', 'exp', 'relu', 'sigmoid' or 'softplus'; 'exp' is the default",
    "dt_transform": "how inv_dt is stored, as real_transform; 'exp' is the default",
}


@dataclass(frozen=True, kw_only=True)
class S4Block(Adapter):
    r"""S4Block with a diagonal kernel (``mode="s4d"``, ``"diag"``) of state-spaces/s4, versions 2 to 4, and its forks.

    A batch of H systems, one a feature, with one input and as many outputs as there are channels, and one state of each
    conjugate pair. Arrays of a layer in version 4: ``kernel.C`` (c, H, N, 2), ``kernel.B`` (1, S, N, 2),
    ``kernel.inv_dt`` (H, 1) or (H, N), ``kernel.A_real`` and ``kernel.A_imag`` (S, N), ``D`` (channels, H). Feature h
    uses the states of copy ``h mod S`` (``n_ssm``). Found in the arrays: bidirectional layers (c is twice the channels
    of ``D``), tied copies, step sizes per state, real kernels (``is_real``: no ``A_imag``), and the names of versions 2
    and 3 (``kernel.kernel.log_dt``, ``inv_w_real`` or ``log_w_real``, ``w_imag``).

    .. math:: A = -f(A_\mathrm{real}) - i\,g(A_\mathrm{imag}), \qquad \Delta = h(\mathrm{inv\_dt})

    Parameters
    ----------
    disc : {"zoh", "bilinear"}
        Must be given: the arrays are the same. (``"dss"`` depends on the length of the sequence and is not covered.)
    real_transform, dt_transform : {"none", "exp", "relu", "sigmoid", "softplus"}
        f and h. Must be given: the arrays are the same.
    imag_transform : {"none", "exp", "relu", "sigmoid", "softplus"}, default "none"
        g.
    dt_fast : bool, default False
        ``inv_dt`` is stored under asinh.
    bandlimit : float, optional
        States with :math:`\Delta |\mathrm{Im} A| / 2\pi` of half this or more are silenced, as the model does.
    rate : float, default 1.0
        Factor of all step sizes (the sampling rate that the model is called with).
    swap_channels : bool, default False
        The layer flattens its channels feature by feature.

    Notes
    -----
    The reverse half is strictly anticausal, :math:`y_k \mathrel{+}= \sum_j k_1[j]\, u_{k+1+j}`; simulate with
    ``strict_reverse=True``. Tied copies share one set of states: they stay or go together in compact arrays.

    Examples
    --------
    >>> S4Block(disc="zoh", real_transform="exp", dt_transform="exp").imag_transform
    'none'
    """

    disc: str
    real_transform: str
    dt_transform: str
    imag_transform: str = "none"
    dt_fast: bool = False
    bandlimit: float | None = None
    rate: float = 1.0
    swap_channels: bool = False

    name: ClassVar[str] = "s4block"
    layouts: ClassVar[tuple[Layout, ...]] = diagonal_layouts()
    calls: ClassVar[tuple[Call, ...]] = (
        Call(
            "torch",
            "blh",
            "blh",
            returns=("y", "state"),
            after=("drop", "activation"),
            kernel=Kernel("kernel", "chl", returns=("k", "state")),
            transposed="transposed",
        ),
    )
    flag_help: ClassVar[Mapping[str, str]] = {
        "disc": "'zoh' or 'bilinear'; 'zoh' is the default of S4",
        **S4_FLAG_HELP,
    }
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"disc": tuple(METHODS), **TRANSFORM_CHOICES}
    limits: ClassVar[str] = (
        "S4Block holds the poles that its transforms reach (those inside the unit circle, other than 0, "
        "with 'exp' or 'softplus'), the same for all features of a copy"
    )
    strict_reverse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.disc == "dss":
            raise UnknownNameError(
                f"there is no disc 'dss' here; choose from {', '.join(METHODS)}; 'dss' depends on the length of the "
                "sequence: no linear recurrence computes it"
            )
        super().__post_init__()

    @property
    def channels_first(self) -> bool:  # type: ignore[override]
        """Whether the layer gives all features of the first channel first."""
        return not self.swap_channels

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        t = canonical(tensors)
        step, A = self._step(t), self.poles_of(t, tensors)
        A = np.tile(A, (len(step) // len(A), 1))
        B = np.tile(complex_of(t["B"], "A_imag" in t)[0], (len(A) // t["B"].shape[1], 1))
        Lambda, B = METHODS[self.disc][0](A, B[..., None], self.rate * step)
        C = np.moveaxis(complex_of(t["C"], "A_imag" in t), 0, 1) * self._audible(A, step)[:, None, :]
        channels = len(t["D"])
        reverse = C[:, channels:] if C.shape[1] > channels else None
        return DiagonalSSM(Lambda, B, C[:, :channels], t["D"].T[..., None], reverse, conj_sym=True)

    def _step(self, t: Mapping[str, np.ndarray]) -> np.ndarray:
        inv_dt = np.sinh(t["inv_dt"]) if self.dt_fast else t["inv_dt"]
        return TRANSFORMS[self.dt_transform][0](inv_dt)

    def poles_of(self, t: Mapping[str, np.ndarray], tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """Continuous-time poles of every copy, shape (S, N)."""
        real = TRANSFORMS[self.real_transform][0](t["A_real"]) - self._floor(tensors)
        imag = TRANSFORMS[self.imag_transform][0](t["A_imag"]) if "A_imag" in t else 0.0
        return -real - 1j * imag

    def _floor(self, tensors: Mapping[str, np.ndarray]) -> float:
        """What version 4 adds under relu, and version 3 does not."""
        return 1e-4 if self.real_transform == "relu" and "kernel.kernel.w_imag" in tensors else 0.0

    def _audible(self, A: np.ndarray, step: np.ndarray) -> np.ndarray:
        if self.bandlimit is None:
            return np.ones(A.shape)
        return np.where(step * np.abs(A.imag) / (2 * np.pi) < self.bandlimit / 2, 1.0, 0.0)

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        t = canonical(tensors)
        same = ssm.order == t["A_real"].shape[1]
        inv_dt = t["inv_dt"] if same or t["inv_dt"].shape[1] == 1 else _averaged(t["inv_dt"], ssm.order)
        step = self.rate * self._step({"inv_dt": inv_dt})
        old = np.tile(self.poles_of(t, tensors), (len(step) // len(t["A_real"]), 1)) if same else None
        A = continuous_poles(ssm, step, self.disc, old)
        flip = (A.imag > 0) & (self.imag_transform != "none")
        A, B_bar, C = _flipped(A, flip), _flipped(ssm.B[..., 0], flip), _flipped(_stacked(ssm), flip[:, None, :])
        copies = len(t["A_real"])
        shared = A.reshape(-1, copies, A.shape[1]).mean(axis=0)
        B = np.ones(shared.shape, dtype=complex)
        if same and "B" in t:
            kept = complex_of(t["B"], "A_imag" in t)[0]
            B = np.where(kept == 0, 1.0, kept)
        repeats = (len(A) // copies, 1)
        _, unit = METHODS[self.disc][0](np.tile(shared, repeats), np.tile(B, repeats)[..., None], step)
        C = np.moveaxis(C * (B_bar / unit[..., 0])[:, None, :], 1, 0)
        pack = pair_of if "A_imag" in t else np.real
        arrays = {
            "A_real": stored(self.real_transform, -shared.real + self._floor(tensors)),
            "A_imag": stored(self.imag_transform, -shared.imag, zero=True),
            "inv_dt": inv_dt,
            "B": pack(B)[None],
            "C": pack(C),
            "D": ssm.D[..., 0].T,
        }
        return original(arrays, tensors)


def continuous_poles(ssm: DiagonalSSM, step: np.ndarray, disc: str, old: np.ndarray | None) -> np.ndarray:
    """Continuous-time poles; a zero-order hold leaves full turns a step open, which are those of the old poles."""
    A, _ = METHODS[disc][1](ssm.Lambda, ssm.B, step)
    if disc == "zoh" and old is not None and old.shape == A.shape:
        A = A + 2j * np.pi / step * np.round((old.imag - A.imag) * step / (2 * np.pi))
    return A


def complex_of(value: np.ndarray, paired: bool = True) -> np.ndarray:
    """Complex array of one whose last axis is (re, im), where `paired`, else of a real one."""
    return value[..., 0] + 1j * value[..., 1] if paired else value.astype(complex)


def pair_of(value: np.ndarray) -> np.ndarray:
    """Array with a last axis (re, im)."""
    return np.stack([value.real, value.imag], axis=-1)


def _stacked(ssm: DiagonalSSM) -> np.ndarray:
    """Outputs of both halves, shape (H, c, N)."""
    return ssm.C if ssm.C_reverse is None else np.concatenate([ssm.C, ssm.C_reverse], axis=1)


def _flipped(value: np.ndarray, flip: np.ndarray) -> np.ndarray:
    return np.where(flip, value.conj(), value)


def _averaged(inv_dt: np.ndarray, order: int) -> np.ndarray:
    """Step sizes for another number of states: the mean of each feature, in single precision as it will be stored."""
    return np.repeat(np.float32(inv_dt.mean(axis=1, keepdims=True)).astype(np.float64), order, axis=1)
