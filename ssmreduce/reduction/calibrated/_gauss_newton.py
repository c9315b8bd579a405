"""Gauss-Newton finish: for networks of very few states, where Adam stops short of what the parameters can do."""

from collections.abc import Callable, Sequence

import numpy as np

from ...models import SSMModel
from ...networks import Network
from ._coordinates import ModelCoordinates
from ._finish import OutputError
from ._network_data import Part

_PROBE = 1e-2  # length of the step, in the coordinates, by which a directional derivative is measured
_TOLERANCE = 0.05  # of the conjugate gradients: relative residual at which they stop


def gauss_newton(
    net: Network,
    coordinates: ModelCoordinates,
    parts: Sequence[Part],
    error: OutputError,
    *,
    steps: int = 10,
    inner: int = 15,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    r"""Coordinates after some damped Gauss-Newton steps on the mean output error.

    Each step solves :math:`(J^T J + \mu I)\,\delta = -J^T r` by conjugate gradients (Levenberg, 1944; Marquardt, 1963)
    for the residuals :math:`r` of all sequences together. The Jacobian is never formed: :math:`J p` is a difference of
    outputs along :math:`p`, and :math:`J^T q` a pullback.

    Parameters
    ----------
    net : Network
    coordinates : ModelCoordinates
    parts : sequence of Part
    error : OutputError
    steps : int
        Steps at most.
    inner : int
        Conjugate gradients per step at most; each runs the network three times over all parts.
    progress : callable, optional
        Called after each step with the number of steps done and the number of all.
    """
    problem = _Problem(net, coordinates, parts, error)
    variables, damping = np.zeros(coordinates.size), 1e-2
    value, residuals = problem.residuals(variables)
    for step in range(1, steps + 1):
        gradient = problem.pulled(variables, residuals)
        delta = _conjugate_gradients(
            lambda p, at=variables, r=residuals: problem.pulled(at, problem.along(at, r, p)),  # type: ignore[misc]
            -gradient,
            damping,
            inner,
        )
        trial = variables + delta
        trial_value, trial_residuals = problem.residuals(trial)
        if trial_value < value:
            variables, value, residuals, damping = trial, trial_value, trial_residuals, damping / 4
        else:
            damping *= 8
        if progress is not None:
            progress(step, steps)
        if damping > 1e4:
            break
    return variables


class _Problem:
    """Residuals of the outputs, one array per part, scaled so that their squares sum up to the mean error."""

    def __init__(self, net: Network, coordinates: ModelCoordinates, parts: Sequence[Part], error: OutputError) -> None:
        self.net, self.coordinates, self.parts, self.error = net, coordinates, parts, error
        self.scale = 1.0 / np.sqrt(error.variance * sum(map(len, parts)))

    def residuals(self, variables: np.ndarray) -> tuple[float, list[np.ndarray]]:
        model = self.coordinates.model(variables)
        found = [self._residual(self.net.outputs(model, part.batch), part) for part in self.parts]
        value = sum(float(np.sum(r**2)) for r in found)
        return (value if np.isfinite(value) else np.inf), found

    def _residual(self, outputs: np.ndarray, part: Part) -> np.ndarray:
        return self.scale * self.error.difference(outputs, part)

    def along(self, variables: np.ndarray, residuals: list[np.ndarray], p: np.ndarray) -> list[np.ndarray]:
        """J p."""
        length = max(float(np.linalg.norm(p)), 1e-300)
        _, moved = self.residuals(variables + _PROBE / length * p)
        return [(b - a) * (length / _PROBE) for a, b in zip(residuals, moved, strict=True)]

    def pulled(self, variables: np.ndarray, q: list[np.ndarray]) -> np.ndarray:
        """Pull q back: J^T q."""
        model: SSMModel = self.coordinates.model(variables)
        total = np.zeros(self.coordinates.size)
        for part, seed in zip(self.parts, q, strict=True):
            _, pull = self.net.vjp(model, part.batch)
            gradients = pull(self.scale * self.error.centred(seed))
            total += self.coordinates.gradient(variables, model, gradients)
        return total


def _conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], b: np.ndarray, damping: float, most: int
) -> np.ndarray:
    """Approximate solution of (A + damping) x = b."""
    x, r, p = np.zeros_like(b), b.copy(), b.copy()
    energy = first = float(r @ r)
    for _ in range(most):
        if energy <= _TOLERANCE**2 * first:
            break
        Ap = apply(p) + damping * p
        step = energy / float(p @ Ap)
        if not step > 0:
            break
        x, r = x + step * p, r - step * Ap
        energy, before = float(r @ r), energy
        p = r + energy / before * p
    return x
