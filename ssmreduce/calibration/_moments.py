"""The second moments of a layer, and of a model: summed, never edited."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .._support.frozen import LayerMapping
from ..errors import ShapeError, printable

STATIONARY = 2**30
"""Length of a sequence without end: any response has died out by then."""

CALIBRATION_ADVICE = "a calibration is needed, as calibrate, calibrate_stationary or load_calibration return it"


@dataclass(frozen=True, eq=False)
class Moments:
    r"""Second moments of one layer: of its states and inputs, and of outputs to be reproduced with them.

    With the real coordinates of state :math:`i` side by side, :math:`(\mathrm{Re}\,x_i, \mathrm{Im}\,x_i)`, and behind
    them those of the reverse half where there is one, and with :math:`z_k = (r_k, u_k)`: all coordinates, then the
    inputs,

    .. math:: Z = \sum_k z_k z_k^T, \qquad T = \sum_k y_k z_k^T, \qquad E = \sum_k \|y_k\|^2 .

    Attributes
    ----------
    Lambda : ndarray, shape (s, n), complex128
        Poles of the s systems of the layer that were run; they tell which states the moments are of.
    B : ndarray, shape (s, n, m), complex128
        Their inputs, likewise.
    second : ndarray, shape (s, N + m, N + m), float64
        :math:`Z`; N is 2 n, or 4 n for a bidirectional layer.
    steps : int
        Number of samples summed.
    length : int
        Steps of the longest sequence; `STATIONARY` where there is no end.
    cross : ndarray, shape (s, p, N + m), float64, or None
        :math:`T`, where outputs to be reproduced were given; None: those of the layer itself.
    energy : ndarray, shape (s,), float64, or None
        :math:`E`.
    """

    Lambda: np.ndarray
    B: np.ndarray
    second: np.ndarray
    steps: int
    length: int
    cross: np.ndarray | None = None
    energy: np.ndarray | None = None

    def __add__(self, other: "Moments") -> "Moments":
        if not isinstance(other, Moments):
            return NotImplemented
        kinds = [(m.second.shape, m.cross is None, m.length == STATIONARY) for m in (self, other)]
        if kinds[0] != kinds[1] or not self.is_of(other.Lambda, other.B):
            raise ShapeError(
                "moments of different systems, with and without targets, or with and without data, cannot be added"
            )
        return Moments(
            self.Lambda,
            self.B,
            self.second + other.second,
            self.steps + other.steps,
            max(self.length, other.length),
            None if self.cross is None else self.cross + other.cross,
            None if self.energy is None else self.energy + other.energy,
        )

    def is_of(self, Lambda: np.ndarray, B: np.ndarray) -> bool:
        """Whether the states are those of a system with these poles and inputs, bit for bit."""
        return np.array_equal(self.Lambda, Lambda.reshape(self.Lambda.shape)) and np.array_equal(
            self.B, B.reshape(self.B.shape)
        )


@dataclass(frozen=True, eq=False)
class Calibration(LayerMapping[Moments]):
    """Second moments by layer; made by `calibrate`, summed with ``+``.

    Attributes
    ----------
    by_layer : mapping
        Layer name -> `Moments`.
    """

    whole = "the calibration"
    by_layer: Mapping[str, Moments]

    def __add__(self, other: "Calibration") -> "Calibration":
        if not isinstance(other, Calibration):
            return NotImplemented
        merged = dict(self.by_layer)
        for name, moments in other.items():
            merged[name] = merged[name] + moments if name in merged else moments
        return Calibration(merged)

    def __repr__(self) -> str:
        return "Calibration(" + ", ".join(f"{printable(name)}: {m.steps} steps" for name, m in self.items()) + ")"
