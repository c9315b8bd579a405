r"""The least-squares problem of a layer's outputs in its states: from second moments, for any subset."""

from dataclasses import dataclass, replace

import numpy as np

from ..._support.arguments import real_number
from ...calibration import Moments
from ...errors import SelectionError, ShapeError
from ...systems import DiagonalSSM

RIDGE = 1e-10
"""Default ridge, relative to the power of each coordinate: far below any signal, enough for Cholesky factors."""


@dataclass(frozen=True, eq=False)
class OutputProblem:
    r"""Minimise :math:`E - 2\,\mathrm{tr}(V T^T) + \mathrm{tr}(V S V^T)` over the weights of the states that stay.

    The coordinates of each state are scaled to a mean power of 1.

    Attributes
    ----------
    second : ndarray, shape (s, N, N)
        :math:`S`.
    cross : ndarray, shape (s, p, N)
        :math:`T`.
    energy : ndarray, shape (s,)
        :math:`E`, of the outputs to be reproduced, the share of the inputs included.
    scale : ndarray, shape (s, N)
        Root mean power of the coordinates of the state.
    width : int
        Coordinates a state: 2, or 4 for a bidirectional layer.
    """

    second: np.ndarray
    cross: np.ndarray
    energy: np.ndarray
    scale: np.ndarray
    width: int


def output_weights(ssm: DiagonalSSM) -> tuple[np.ndarray, np.ndarray]:
    """Real weights W, shape (s, p, N), and D, shape (s, p, m), with y = W r + D u in the coordinates of `Moments`."""
    s = ssm.systems
    halves = [ssm.C] if ssm.C_reverse is None else [ssm.C, ssm.C_reverse]
    parts = [part for C in halves for part in (C.real, -C.imag)]
    W = ssm.kappa * np.stack(parts, axis=-1).reshape(s, ssm.outputs, -1)
    return W, ssm.D.reshape(s, ssm.outputs, ssm.inputs)


def with_weights(ssm: DiagonalSSM, W: np.ndarray, D: np.ndarray) -> DiagonalSSM:
    """The system with other real weights: the inverse of `output_weights`."""
    width = 4 if ssm.bidirectional else 2
    parts = W.reshape(*ssm.batch, ssm.outputs, ssm.order, width) / ssm.kappa
    reverse = parts[..., 2] - 1j * parts[..., 3] if ssm.bidirectional else None
    return replace(ssm, C=parts[..., 0] - 1j * parts[..., 1], C_reverse=reverse, D=D.reshape(ssm.D.shape))


def check_moments(ssm: DiagonalSSM, moments: Moments, name: str) -> None:
    """Raise `ShapeError` unless the moments are of this system's states."""
    s = ssm.systems
    size = (4 if ssm.bidirectional else 2) * ssm.order + ssm.inputs
    if moments.second.shape != (s, size, size) or not moments.is_of(ssm.Lambda, ssm.B):
        raise ShapeError(
            f"layer {name!r}: the calibration is of a system with moments of shape {moments.second.shape} and other "
            f"poles or inputs than {ssm!r}; calibrate the model that you reduce"
        )
    if moments.cross is not None and moments.cross.shape != (s, ssm.outputs, size):
        raise ShapeError(f"layer {name!r}: the targets of the calibration have {moments.cross.shape[1]} outputs")


def is_diagonal(D: np.ndarray) -> bool:
    """Whether a feedthrough (s, p, m) has a diagonal form that a fit must keep; (s, 1, 1) is full as well."""
    p, m = D.shape[1:]
    return p == m and p > 1 and not D[:, ~np.eye(p, dtype=bool)].any()


def _power(second: np.ndarray, states: int, width: int) -> np.ndarray:
    """Power of each input, and of each coordinate the mean over its state, shape (s, N + m).

    The imaginary part of a state with a real pole is rounding noise. By its own power it would look like a signal.
    """
    power = np.einsum("sii->si", second).copy()
    blocks = power[:, :states].reshape(len(power), -1, width)
    power[:, :states] = np.repeat(blocks.mean(axis=2), width, axis=1)
    return power


class OutputFit:
    """The problem of one layer, and its solution for the states that stay.

    Parameters
    ----------
    ssm : DiagonalSSM
        The system whose weights the ridge pulls towards, and whose outputs are reproduced unless the moments have
        targets.
    moments : Moments
    ridge : float
        Every coordinate counts as if noise of this share of its state's mean power were added to it, and every input
        likewise. The weights are pulled towards those of `ssm`: what the data do not determine stays.
    feedthrough : bool
        Fit D as well: in full, or its diagonal where it is diagonal.
    """

    def __init__(self, ssm: DiagonalSSM, moments: Moments, *, ridge: float, feedthrough: bool) -> None:
        if not 1e-14 <= real_number(ridge, "ridge") < np.inf:
            raise SelectionError(f"ridge must be a number of at least 1e-14, got {ridge}")
        W, self.D = output_weights(ssm)
        N = W.shape[2]
        width = 4 if ssm.bidirectional else 2
        power = _power(moments.second, N, width)
        joint = np.concatenate([W, self.D], axis=2)
        own = joint @ moments.second
        cross = own if moments.cross is None else moments.cross
        energy = np.sum(own * joint, axis=(1, 2)) if moments.energy is None else moments.energy
        cross = cross + ridge * power[:, None, :] * joint
        Z = moments.second + (ridge * power)[:, :, None] * np.eye(power.shape[1])
        # A state or an input that was never excited has no say: give it a diagonal of 1, and no correlation.
        Z = Z + np.where(power > 0, 0.0, 1.0)[:, :, None] * np.eye(power.shape[1])
        self.S, self.R, self.U = Z[:, :N, :N], Z[:, :N, N:], Z[:, N:, N:]
        self.T, self.Tu = cross[:, :, :N], cross[:, :, N:]
        self.kind = "keep" if not feedthrough else "diagonal" if is_diagonal(self.D) else "full"
        if self.kind == "full":
            self.X = np.linalg.solve(self.U, self.R.transpose(0, 2, 1))
            second, cross = self.S - self.R @ self.X, self.T - self.Tu @ self.X
        else:
            second, cross = self.S, self.T - self.D @ self.R.transpose(0, 2, 1)
        scale = np.sqrt(np.where(power > 0, power, 1.0)[:, :N])
        self.problem = OutputProblem(
            second / (scale[:, :, None] * scale[:, None, :]),
            cross / scale[:, None, :],
            np.maximum(energy, 0.0),
            scale,
            width,
        )

    def solve(self, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights, zero outside `keep`, shape (s, n) bool, and D."""
        problem = self.problem
        kept = np.repeat(keep, problem.width, axis=1)
        A = np.where(kept[:, :, None] & kept[:, None, :], problem.second, 0.0) + np.eye(kept.shape[1]) * ~kept[:, None]
        if self.kind == "diagonal":
            return self._solve_diagonal(A, kept)
        rows = np.where(kept[:, None, :], problem.cross, 0.0).transpose(0, 2, 1)
        W = np.linalg.solve(A, rows).transpose(0, 2, 1) / problem.scale[:, None, :]
        if self.kind == "keep":
            return W, self.D
        D = np.linalg.solve(self.U, (self.Tu - W @ self.R).transpose(0, 2, 1)).transpose(0, 2, 1)
        return W, D

    def _solve_diagonal(self, A: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Each output has the states and one input of its own: the bordered systems share one factor."""
        scale = self.problem.scale
        R = np.where(kept[:, :, None], self.R / scale[:, :, None], 0.0)
        T = np.where(kept[:, None, :], self.T / scale[:, None, :], 0.0)
        X = np.linalg.solve(A, R)
        pivot = np.einsum("sii->si", self.U) - np.sum(R * X, axis=1)
        d = (np.einsum("sii->si", self.Tu) - np.sum(T * X.transpose(0, 2, 1), axis=2)) / pivot
        W = np.linalg.solve(A, T.transpose(0, 2, 1)) - X * d[:, None, :]
        return W.transpose(0, 2, 1) / scale[:, None, :], d[:, :, None] * np.eye(d.shape[1])
