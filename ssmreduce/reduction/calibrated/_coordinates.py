r"""Coordinates in which all parameters of a layer matter alike: whitened outputs, inputs and poles by their effect."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..._support.arrays import one_minus_abs
from ...calibration import Moments
from ...models import SSMModel, replace_system
from ...networks import Gradients
from ...selection._outputs import is_diagonal, output_weights, with_weights
from ...systems import DiagonalSSM

FLOOR = 1e-3  # of the eigenvalues of the states' correlations, below which a direction is noise
_LEAST_RATE = 1e-3  # rad: the angle of a slower pole moves as if it were this fast


@dataclass(frozen=True, eq=False)
class LayerCoordinates:
    r"""Steps from the system of one layer, each of unit size in its effect on the layer's output.

    With the states' real coordinates :math:`r` of second moments :math:`S = T^{-T} T^{-1}`, and the root mean square
    :math:`\sigma` of an output,

    .. math:: W = W_0 + \sigma V T^T, \qquad D = D_0 + \sigma E T_u^T, \qquad
              B_i = B_{0,i} + c_i \|B_{0,i}\| F_i / \sqrt m, \qquad
              \lambda_i = e^{-e^{\nu_i + c_i a_i} + j (\theta_i + c_i e^{\nu_i} b_i)}

    so that a step of 1 in an entry of :math:`V` or :math:`E` changes its output by its own root mean square. The
    factors :math:`c_i = \min(1, \sigma / \|C_i x_i\|)` cap what a step of B or of a pole does where the outputs of
    several states cancel.
    """

    start: DiagonalSSM
    valid: np.ndarray
    whiten: np.ndarray
    whiten_inputs: np.ndarray
    input_units: np.ndarray
    pole_units: np.ndarray
    angle_units: np.ndarray
    nu: np.ndarray
    side: np.ndarray
    free_inputs: bool
    diagonal: bool

    @classmethod
    def at(cls, ssm: DiagonalSSM, valid: np.ndarray, moments: Moments) -> "LayerCoordinates":
        """Coordinates around a system, whose states and inputs have these second moments."""
        s, n, width = len(valid), ssm.order, 4 if ssm.bidirectional else 2
        W, D = output_weights(ssm)
        N = n * width
        second = moments.second / moments.steps
        joint = np.concatenate([W, D], axis=2)
        sigma = np.sqrt(np.einsum("spi,sij,spj->s", joint, second, joint) / ssm.outputs)
        sigma = np.where(sigma > 0, sigma, 1.0)
        power = np.einsum("sii->si", second)
        states = np.sqrt(power[:, :N].reshape(s, n, width).mean(axis=2))
        effect = np.linalg.norm(W.reshape(s, ssm.outputs, n, width), axis=(1, 3)) * states
        cap = np.minimum(1.0, np.sqrt(ssm.outputs) * sigma[:, None] / np.maximum(effect, 1e-300)) * valid
        B = ssm.B.reshape(s, n, ssm.inputs)
        log_radius = np.maximum(np.log1p(-one_minus_abs(ssm.Lambda).reshape(s, n)), -700.0)
        rate = np.maximum(np.abs(log_radius), 1e-12)
        diagonal = is_diagonal(D)
        inputs = second[:, N:, N:]
        if diagonal:
            inputs = inputs * np.eye(ssm.inputs)
        return cls(
            ssm,
            valid,
            sigma[:, None, None] * _whitening(second[:, :N, :N], np.repeat(states, width, axis=1)),
            sigma[:, None, None] * _whitening(inputs, np.sqrt(power[:, N:])),
            (cap * np.linalg.norm(B, axis=2) / np.sqrt(ssm.inputs))[..., None],
            cap,
            cap * np.clip(rate, _LEAST_RATE, 1.0),
            np.log(rate),
            np.where(log_radius < 0, 1.0, -1.0),
            ssm.inputs > 1 or ssm.outputs > 1,  # of one input and output only the product of B and C counts
            diagonal,
        )

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        s, n = self.valid.shape
        m, p = self.start.inputs, self.start.outputs
        shapes: dict[str, tuple[int, ...]] = {"nu": (s, n), "angle": (s, n)}
        if self.free_inputs:
            shapes |= {"B_re": (s, n, m), "B_im": (s, n, m)}
        return {**shapes, "W": (s, p, self.whiten.shape[1]), "D": (s, m) if self.diagonal else (s, p, m)}

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(math.prod(shape) for shape in self._shapes().values())

    def _split(self, variables: np.ndarray) -> dict[str, np.ndarray]:
        parts, first = {}, 0
        for name, shape in self._shapes().items():
            count = math.prod(shape)
            parts[name] = variables[first : first + count].reshape(shape)
            first += count
        return parts

    def _log_poles(self, parts: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Rate and angle."""
        rate = np.exp(np.clip(self.nu + self.pole_units * parts["nu"], -28.0, 6.5))
        return rate, np.angle(self.start.Lambda.reshape(rate.shape)) + self.angle_units * parts["angle"]

    def system(self, variables: np.ndarray) -> DiagonalSSM:
        """The system at a vector of coordinates, zeros for the start."""
        parts, start = self._split(variables), self.start
        rate, angle = self._log_poles(parts)
        B = start.B
        if self.free_inputs:
            B = B + (self.input_units * (parts["B_re"] + 1j * parts["B_im"])).reshape(B.shape)
        W, D = output_weights(start)
        W = W + parts["W"] @ self.whiten.swapaxes(1, 2)
        step = parts["D"][:, :, None] * np.eye(start.inputs) if self.diagonal else parts["D"]
        Lambda = np.where(self.valid, np.exp(-self.side * rate + 1j * angle), start.Lambda.reshape(rate.shape))
        moved = replace(start, Lambda=Lambda.reshape(start.Lambda.shape), B=B)
        return with_weights(moved, W, D + step @ self.whiten_inputs.swapaxes(1, 2))

    def gradient(self, variables: np.ndarray, ssm: DiagonalSSM, given: Gradients) -> np.ndarray:
        """Gradient in the coordinates of what has the gradients `given` in the matrices of ``system(variables)``."""
        rate, _ = self._log_poles(self._split(variables))
        s, n = self.valid.shape
        along = np.conj(ssm.Lambda.reshape(s, n)) * given.Lambda.reshape(s, n)
        parts = {
            "nu": -along.real * self.side * rate * self.pole_units,
            "angle": along.imag * self.angle_units,
        }
        if self.free_inputs:
            B = given.B.reshape(s, n, -1) * self.input_units
            parts |= {"B_re": B.real, "B_im": B.imag}
        halves = [given.C] if given.C_reverse is None else [given.C, given.C_reverse]
        pairs = [part for C in halves for part in (C.real, -C.imag)]
        W = np.stack(pairs, axis=-1).reshape(s, ssm.outputs, -1) / ssm.kappa
        parts["W"] = W @ self.whiten
        D = given.D.reshape(s, ssm.outputs, ssm.inputs) @ self.whiten_inputs
        parts["D"] = np.einsum("sii->si", D) if self.diagonal else D
        return np.concatenate([parts[name].ravel() for name in self._shapes()])


def _whitening(second: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """T with T^T S T close to 1; what has no power stays out, and weak directions count as if they were stronger."""
    live = scale > 0
    inverse = np.where(live, 1.0 / np.where(live, scale, 1.0), 0.0)
    values, vectors = np.linalg.eigh(second * inverse[:, :, None] * inverse[:, None, :])
    floor = FLOOR * np.maximum(values[:, -1:], 1e-300)
    return inverse[:, :, None] * vectors / np.sqrt(np.maximum(values, floor))[:, None, :]


class ModelCoordinates:
    """The coordinates of all layers of a model in one vector."""

    def __init__(self, model: SSMModel, moments: Mapping[str, Moments]) -> None:
        self.start = model
        self.layers = {
            name: LayerCoordinates.at(ssm, model.state_index(name)[1], moments[name]) for name, ssm in model.items()
        }
        sizes = [layer.size for layer in self.layers.values()]
        self._ends = np.cumsum(sizes)
        self.size = int(self._ends[-1])

    def _parts(self, variables: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.layers, np.split(variables, self._ends[:-1]), strict=True))

    def model(self, variables: np.ndarray) -> SSMModel:
        """The model at a vector of coordinates, its layers re-realised."""
        result = self.start
        for name, part in self._parts(variables).items():
            layer = self.layers[name]
            result = replace_system(result, name, layer.system(part), valid=layer.valid)
        return result

    def gradient(self, variables: np.ndarray, model: SSMModel, given: Mapping[str, Gradients]) -> np.ndarray:
        """Gradient in the coordinates at ``model``, which is ``self.model(variables)``."""
        parts = self._parts(variables)
        return np.concatenate(
            [layer.gradient(parts[name], model[name], given[name]) for name, layer in self.layers.items()]
        )
