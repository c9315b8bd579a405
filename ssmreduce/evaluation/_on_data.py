"""What unlabelled sequences say of reduced models: the error of each layer's output, and of the network's."""

from collections.abc import Callable, Iterable, Mapping
from inspect import isroutine
from typing import Any

import numpy as np

from .._support.arrays import as_double, numbers_of
from ..errors import UnknownLayerError
from ..models import SSMModel
from ..networks import Network, network
from ..reduction.calibrated._finish import OutputError
from ..reduction.calibrated._network_data import Part, batch_list, recorded
from ..responses import simulate
from ..systems import DiagonalSSM


class LayerErrors:
    """Relative RMS errors of the outputs of all layers of some models, summed over several inputs.

    Parameters
    ----------
    model : SSMModel
        The original.
    candidates : mapping
        Label -> model.
    """

    def __init__(self, model: SSMModel, candidates: Mapping[str, SSMModel]) -> None:
        self._model, self._candidates = model, candidates
        self._sizes = dict.fromkeys(model, 0.0)
        self._errors = {label: dict.fromkeys(model, 0.0) for label in candidates}

    def add(self, name: str, u: np.ndarray, counted: np.ndarray | None = None) -> None:
        """Take an input of a layer, shape (..., L, width), and which steps of it are data, shape (batch, L)."""
        ssm = self._model[name]
        exact = simulate(ssm, u)
        self._sizes[name] += _square(exact, counted)
        for label, candidate in self._candidates.items():
            if candidate is not self._model:
                self._errors[label][name] += _square(exact - simulate(candidate[name], u), counted)

    def of(self, label: str, name: str) -> float:
        """Root of the squared error over the squared output; the error itself where the output is 0."""
        return float(np.sqrt(self._errors[label][name] / (self._sizes[name] or 1.0)))


def _square(y: np.ndarray, counted: np.ndarray | None) -> float:
    return float(np.sum(np.abs(y if counted is None else y[counted]) ** 2))


def add_inputs(errors: LayerErrors, model: SSMModel, inputs: Mapping[str, Any]) -> int:
    """Take one input a layer; returns the number of its steps."""
    for name in model:
        if name not in inputs:
            raise UnknownLayerError(f"inputs hold nothing for layer {name!r}; they have {', '.join(inputs)}")
        what = f"the input of layer {name!r}"
        errors.add(name, as_double(numbers_of(inputs[name], what), complex_=False, name=what))
    return int(np.shape(next(iter(inputs.values())))[-2])


def add_noise(errors: LayerErrors, model: SSMModel, length: int, rng: np.random.Generator) -> None:
    """Take Gaussian white noise."""
    for name, ssm in model.items():
        errors.add(name, rng.standard_normal((length, _width(ssm))))


def _width(ssm: DiagonalSSM) -> int:
    return ssm.systems * ssm.inputs


class OnData:
    """A network on unlabelled sequences, which the original runs through once.

    Parameters
    ----------
    net : Network
    batches : iterable
        As in `compress`.
    logits : bool, optional
        Whether the last axis of the outputs are logits. By default where they are (batch, classes) of two classes or
        more.
    visit : callable, optional
        Called with the network, a batch and the inputs of its layers, which are not held.
    """

    def __init__(
        self,
        net: Network,
        batches: Iterable[Any],
        *,
        logits: bool | None = None,
        visit: Callable[[Any, Mapping[str, np.ndarray]], None] = lambda batch, inputs: None,
    ) -> None:
        self.net, self.length = net, 0
        self.parts: list[Part] = []
        for batch in batch_list(batches):
            (part,) = recorded(net, [batch])
            visit(batch, part.inputs)
            self.length = max(self.length, *(u.shape[1] for u in part.inputs.values()))
            self.parts.append(Part(part.batch, part.outputs, {}, part.counted))
        if logits is None:
            logits = self.parts[0].outputs.ndim == 2 and self.parts[0].outputs.shape[1] > 1
        self.error = OutputError.of(self.parts, logits=bool(logits))

    @property
    def sequences(self) -> int:
        """Number of sequences."""
        return sum(map(len, self.parts))

    def figures(self, model: SSMModel) -> tuple[float, float | None]:
        """Relative RMS error of the network's outputs; share that says what the original says, None for no logits."""
        error, same, count = 0.0, 0, 0
        for part in self.parts:
            outputs = self.net.outputs(model, part.batch)
            error += self.error(outputs, part)[0]
            agree = outputs.argmax(-1) == part.outputs.argmax(-1) if self.error.logits else np.zeros(0, dtype=bool)
            agree = agree if part.counted is None or not agree.size else agree[part.counted]
            same, count = same + int(agree.sum()), count + agree.size
        relative = float(np.sqrt(error / self.sequences)) if np.isfinite(error) else float("inf")
        return relative, same / count if self.error.logits else None

    def agreement(self, model: SSMModel) -> float:
        """The agreement; of outputs that are no logits, 1 minus their relative error."""
        error, agreement = self.figures(model)
        return 1.0 - error if agreement is None else agreement


def network_of(obj: Any, model: SSMModel) -> Network:
    """The network of an object that is to run the systems of a model; a function gets the model itself."""
    net = network(obj, model=model) if isroutine(obj) else network(obj)
    if missing := [name for name in model if name not in net.model]:
        raise UnknownLayerError(
            f"the network has no layer {', '.join(missing)}; its layers are {', '.join(net.model)}. Compare models "
            "that were read from it: network(module).model"
        )
    return net
