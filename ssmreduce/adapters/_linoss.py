"""LinOSS, linear oscillators: tk-rusch/linoss, discretax, and the damped ones of both."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..errors import NotRepresentableError, UnknownNameError
from ..systems import DiagonalSSM
from ._base import Adapter
from ._call import Call
from ._layout import ABSENT, Layout, Tensor


class Oscillators(NamedTuple):
    """One oscillator each: (z, x) becomes M (z, x) + F b u, and x is put out."""

    M: np.ndarray
    """Shape (n, 2, 2)."""
    F: np.ndarray
    """Shape (n, 2)."""


def _layout(step: str, *, damped: bool) -> Layout:
    return {
        "A_diag": Tensor("pole", ("n",)),
        "G_diag": Tensor("pole", ("n",)) if damped else ABSENT,
        "B": Tensor("input", ("n", "m", 2)),
        "C": Tensor("output", ("m", "n", 2)),
        "D": Tensor("feedthrough", ("m",)),
        step: Tensor("pole", ("n",)),
    }


@dataclass(frozen=True, kw_only=True)
class LinOSS(Adapter):
    r"""LinOSS of tk-rusch/linoss and discretax, and the damped LinOSS of jaredbmit/damped-linoss and discretax.

    Arrays of a layer: ``A_diag``, ``steps`` (P,) (``dt`` in damped-linoss), ``B`` (P, H, 2), ``C`` (H, P, 2), ``D``
    (H,), and ``G_diag`` (P,) where the oscillators are damped. With a = relu(A_diag) and t = sigmoid(steps) an
    oscillator is

    .. math:: \begin{bmatrix} z \\ x \end{bmatrix}_k = M \begin{bmatrix} z \\ x \end{bmatrix}_{k-1} + F\, b\, u_k,
        \qquad y = \mathrm{Re}(C x) + D u

    Its two eigenvalues are the states i and P + i of the system, which stay or go together; B and C are complex, so
    that no conjugate symmetry can be used.

    Parameters
    ----------
    discretization : {"IM", "IMEX"}
        Must be given: the arrays are the same. ``IM`` is implicit, and damps; ``IMEX`` without damping keeps every pole
        on the unit circle, where no norm over all times exists: scores over a finite horizon (`finite_horizon_h2`) say
        which oscillators matter. Damped oscillators are ``IMEX``.

    Raises
    ------
    NotRepresentableError
        While reading: an oscillator with a double pole (``A_diag`` of 0 or less without damping, where it is an
        integrator of second order), which no diagonal system equals.

    Examples
    --------
    >>> LinOSS(discretization="IM")
    LinOSS(discretization='IM')
    """

    discretization: str

    name: ClassVar[str] = "linoss"
    layouts: ClassVar[tuple[Layout, ...]] = tuple(
        _layout(step, damped=damped) for damped in (True, False) for step in ("steps", "dt")
    )
    calls: ClassVar[tuple[Call, ...]] = (Call("equinox", "lh", "lh"),)
    flag_help: ClassVar[Mapping[str, str]] = {"discretization": "'IM' (implicit, damps) or 'IMEX' (conserves energy)"}
    choices: ClassVar[Mapping[str, tuple[str, ...]]] = {"discretization": ("IM", "IMEX")}
    limits: ClassVar[str] = (
        "LinOSS holds pairs of poles that its oscillators reach at the step sizes of the layer, with one input and one "
        "output vector a pair"
    )
    states_per_unit: ClassVar[int] = 2

    def check(self, params: Mapping[str, Any], name: str) -> None:
        """Raise also where an oscillator has a double pole, or damping does not go with the discretisation."""
        super().check(params, name)
        tensors = self._tensors(params, name)
        if "G_diag" in tensors and self.discretization == "IM":
            raise UnknownNameError(
                f"layer {name!r} has damped oscillators (G_diag), which are discretised by IMEX alone"
            )
        plus, minus, *_ = self._modes(tensors)
        if (double := np.flatnonzero(plus == minus)).size:
            raise NotRepresentableError(
                f"layer {name!r}: {double.size} oscillator(s), the first being {double[0]}, have a double pole at "
                f"{plus[double[0]]:.6g}, which no diagonal system equals; where they do not matter, silence them "
                "before (their rows of B set to 0 and their A_diag to 1)"
            )

    def _decode(self, tensors: Mapping[str, np.ndarray]) -> DiagonalSSM:
        plus, minus, weight_plus, weight_minus = self._modes(tensors)
        B = tensors["B"][..., 0] + 1j * tensors["B"][..., 1]
        C = tensors["C"][..., 0] + 1j * tensors["C"][..., 1]
        inputs = np.concatenate([weight_plus[:, None] * B, weight_minus[:, None] * B])
        return DiagonalSSM(np.concatenate([plus, minus]), inputs, np.concatenate([C, C], axis=1), np.diag(tensors["D"]))

    def _modes(self, tensors: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        r"""Both poles of every oscillator, and their weights in :math:`x_k = w_+ \lambda_+^k + w_- \lambda_-^k`."""
        M, F = self._oscillators(tensors)
        half, det = (M[:, 0, 0] + M[:, 1, 1]) / 2, M[:, 0, 0] * M[:, 1, 1] - M[:, 0, 1] * M[:, 1, 0]
        root = np.sqrt((half**2 - det).astype(complex))
        plus, minus = half + root, half - root
        first, second = F[:, 1], M[:, 1, 0] * F[:, 0] + M[:, 1, 1] * F[:, 1]
        if self.discretization == "IMEX" and "G_diag" not in tensors:
            circle = root.imag != 0  # there |lambda| is 1, which rounding must not turn into a stable pole
            plus, minus = (np.where(circle, value / np.abs(value) * (1 + 2e-16), value) for value in (plus, minus))
        with np.errstate(all="ignore"):  # a double pole, which `check` names
            weight = (second - minus * first) / (plus - minus)
            return plus, minus, weight, (plus * first - second) / (plus - minus)

    def _oscillators(self, tensors: Mapping[str, np.ndarray]) -> Oscillators:
        t = _steps(tensors)
        if "G_diag" in tensors:
            g = np.maximum(tensors["G_diag"], 0.0)
            root = 2 * np.sqrt(1 + t * g)
            low, high = (2 + t * g - root) / t**2, (2 + t * g + root) / t**2
            a = low + np.maximum(tensors["A_diag"] - low, 0) - np.maximum(tensors["A_diag"] - high, 0)
            s = 1 / (1 + t * g)
            return _stacked((s, -t * a * s), (t * s, 1 - t**2 * a * s), (t * s, t**2 * s))
        a = np.maximum(tensors["A_diag"], 0.0)
        if self.discretization == "IMEX":
            return _stacked((np.ones_like(t), -t * a), (t, 1 - t**2 * a), (t, t**2))
        s = 1 / (1 + t**2 * a)
        return _stacked((s, -t * a * s), (t * s, s), (t * s, t**2 * s))

    def _encode(self, ssm: DiagonalSSM, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        n = ssm.order // 2
        step = "steps" if "steps" in tensors else "dt"
        kept = tensors[step] if n == tensors[step].size else np.full(n, np.float32(tensors[step].mean()), dtype=float)
        arrays = {step: kept, **self._from_poles(ssm.Lambda[:n], ssm.Lambda[n:], _steps({step: kept}), tensors)}
        _, _, weight, _ = self._modes(arrays)
        B, C = ssm.B[:n] / weight[:, None], ssm.C[:, :n]
        return {
            **arrays,
            "B": np.stack([B.real, B.imag], axis=-1),
            "C": np.stack([C.real, C.imag], axis=-1),
            "D": np.diag(ssm.D),
        }

    def _from_poles(
        self, plus: np.ndarray, minus: np.ndarray, t: np.ndarray, tensors: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """``A_diag`` and ``G_diag`` of the oscillators with these poles, as nearly as there are any."""
        det, trace = (plus * minus).real, (plus + minus).real
        if "G_diag" in tensors:
            return {"A_diag": (1 + det - trace) / (det * t**2), "G_diag": (1 / det - 1) / t}
        if self.discretization == "IMEX":
            return {"A_diag": (2 - trace) / t**2}
        return {"A_diag": (1 / det - 1) / t**2}


def _steps(tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    raw = tensors["steps"] if "steps" in tensors else tensors["dt"]
    return 1 / (1 + np.exp(-raw))


def _stacked(upper: tuple, lower: tuple, inputs: tuple) -> Oscillators:
    M = np.stack([np.stack(upper, axis=-1), np.stack(lower, axis=-1)], axis=-2)
    return Oscillators(M, np.stack(inputs, axis=-1))
