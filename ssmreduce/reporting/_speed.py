"""How long the layers take, measured."""

import time
from collections.abc import Mapping

import numpy as np

from .._support.arguments import random_numbers
from ..models import SSMModel
from ..responses import simulate

_ROUNDS = 20
_SECONDS = 3.0


def layer_seconds(models: Mapping[str, SSMModel], length: int, seed: int) -> dict[str, float]:
    """Least seconds in which all layers of each model run one sequence of noise in single precision, on one thread.

    The models take turns, after a first round that is not counted; rounds end after some seconds.
    """
    rng = random_numbers(seed)
    model = next(iter(models.values()))
    inputs = {
        name: rng.standard_normal((1, length, ssm.systems * ssm.inputs)).astype(np.float32)
        for name, ssm in model.items()
    }
    for one in models.values():
        _run(one, inputs)
    seconds: dict[str, list[float]] = {label: [] for label in models}
    end = time.perf_counter() + _SECONDS
    for round_ in range(_ROUNDS):
        if round_ and time.perf_counter() > end:
            break
        for label, one in models.items():
            seconds[label].append(_run(one, inputs))
    return {label: min(values) for label, values in seconds.items()}


def _run(model: SSMModel, inputs: Mapping[str, np.ndarray]) -> float:
    start = time.perf_counter()
    for name, u in inputs.items():
        simulate(model[name], u, threads=1)
    return time.perf_counter() - start
