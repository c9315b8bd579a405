"""End-to-end finish without labels: a reduced network's outputs are matched to the original's through its systems."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import NonFiniteError, SelectionError
from ...models import SSMModel
from ...networks import Network
from ._coordinates import ModelCoordinates
from ._network_data import Part

_BETAS = (0.9, 0.98)
_WARM_UP = 10
_CLIP = 1.0
PIECE = 20  # sequences a step


@dataclass(frozen=True)
class OutputError:
    """Squared error of a network's outputs, relative to the variance of the original's.

    Attributes
    ----------
    logits : bool
        The outputs are logits: the mean of the last axis, which a softmax ignores, is subtracted.
    variance : float
        Mean squared distance of a sequence's outputs from their mean over all sequences.
    """

    logits: bool
    variance: float

    @classmethod
    def of(cls, parts: Sequence[Part], *, logits: bool) -> "OutputError":
        """Made for the outputs of the original network."""
        arrays = [_centred(part.outputs, logits) * _counted(part) for part in parts]
        count = sum(map(len, arrays))
        same = len({z.shape[1:] for z in arrays}) == 1 and all(part.counted is None for part in parts)
        mean = sum(z.sum(axis=0) for z in arrays) / count if same else 0.0
        variance = sum(float(np.sum((z - mean) ** 2)) for z in arrays) / count
        return cls(logits, variance if variance > 0 else 1.0)

    def __call__(self, outputs: np.ndarray, part: Part) -> tuple[float, np.ndarray]:
        """Sum over the sequences of a part, and its gradient in `outputs`."""
        difference = self.difference(outputs, part)
        return float(np.sum(difference**2)) / self.variance, 2.0 * self.centred(difference) / self.variance

    def difference(self, outputs: np.ndarray, part: Part) -> np.ndarray:
        """Of the outputs from the original's, where they count."""
        return self.centred(outputs - part.outputs) * _counted(part)

    def centred(self, z: np.ndarray) -> np.ndarray:
        """Logits without their mean, other outputs as they are."""
        return _centred(z, self.logits)

    def mean(self, net: Network, model: SSMModel, parts: Sequence[Part]) -> float:
        """Mean over the sequences of some parts; infinite where the outputs are not finite."""
        total = sum(self(net.outputs(model, part.batch), part)[0] for part in parts)
        return total / sum(map(len, parts)) if np.isfinite(total) else np.inf


def _centred(z: np.ndarray, logits: bool) -> np.ndarray:
    return z - z.mean(axis=-1, keepdims=True) if logits else z


def _counted(part: Part) -> np.ndarray | float:
    """1 for outputs that count, 0 for those of padding."""
    if part.counted is None:
        return 1.0
    return part.counted.reshape(*part.counted.shape, *(1,) * (part.outputs.ndim - 2)).astype(float)


def pieces(parts: Sequence[Part], seed: int, size: int = PIECE) -> list[Part]:
    """Parts of at most `size` sequences, drawn from each part at random."""
    rng, found = np.random.default_rng(seed), []
    for part in parts:
        order = rng.permutation(len(part))
        found += [part.take(order[first : first + size]) for first in range(0, len(part), size)]
    return found


def adam(
    net: Network,
    coordinates: ModelCoordinates,
    parts: Sequence[Part],
    error: OutputError,
    *,
    steps: int = 400,
    rate: float = 0.03,
    batch: int = PIECE,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Coordinates after some steps of Adam (Kingma and Ba, ICLR 2015) with warm-up and a cosine.

    Parameters
    ----------
    net : Network
    coordinates : ModelCoordinates
    parts : sequence of Part
        A few sequences each; steps take as many parts as make `batch` sequences.
    error : OutputError
    steps : int
    rate : float
        Largest learning rate, in the coordinates.
    batch : int
        Sequences a step.
    seed : int
        Of the order of the parts.
    progress : callable, optional
        Called after each step with the number of steps done and the number of all.
    """
    variables, first, second = np.zeros((3, coordinates.size))
    queue = _endless(len(parts), np.random.default_rng(seed))
    for step in range(1, steps + 1):
        gradient, count = np.zeros(coordinates.size), 0
        model = coordinates.model(variables)
        while count < batch:
            part = parts[next(queue)]
            outputs, pull = net.vjp(model, part.batch)
            _, seed_gradient = error(outputs, part)
            gradient += coordinates.gradient(variables, model, pull(seed_gradient))
            count += len(part)
        gradient /= count
        if not np.isfinite(gradient).all():
            raise NonFiniteError(f"the gradient of the outputs is not finite at step {step} of the finish")
        gradient *= min(1.0, _CLIP / max(float(np.linalg.norm(gradient)), 1e-300))
        first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient**2
        mean, power = first / (1 - _BETAS[0] ** step), second / (1 - _BETAS[1] ** step)
        now = rate * min(1.0, step / _WARM_UP) * 0.5 * (1 + np.cos(np.pi * step / steps))
        variables = variables - now * mean / (np.sqrt(power) + 1e-12)
        if progress is not None:
            progress(step, steps)
    return variables


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    if not count:
        raise SelectionError("there are no sequences to finish on")
    while True:
        yield from rng.permutation(count)
