"""A model to try things on, without a file."""

import numpy as np

from .._support.arguments import positive_integer, random_numbers
from .._support.trees import Params
from ..adapters import S5
from ._loading import read
from ._model import SSMModel


def example(*, layers: int = 4, order: int = 64, width: int = 32, seed: int = 0) -> SSMModel:
    r"""Untrained S5 classifier of sequences of numbers, which `networks.s5_digits` runs.

    Poles :math:`-1/2 + j \pi k` (S4D-Lin [1]_), steps between 0.001 and 0.1, normal B, C and D.

    Parameters
    ----------
    layers : int, default 4
    order : int, default 64
        Stored states per layer.
    width : int, default 32
    seed : int, default 0

    Returns
    -------
    SSMModel
        With float32 parameters, those of encoder, norms, gates and decoder included.

    Raises
    ------
    ArgumentError, OptionError
        A size that is no positive integer, or something else than a seed.

    References
    ----------
    .. [1] Gu, Gupta, Goel and Re, "On the Parameterization and Initialization of Diagonal State Space Models",
       NeurIPS 2022.

    Examples
    --------
    >>> example()
    SSMModel(4 layers, 256 states, adapter=S5(conj_sym=True, discretization='zoh', clip_eigs=False, step_rescale=1.0))
    """
    for value, name in ((layers, "layers"), (order, "order"), (width, "width")):
        positive_integer(value, name)
    rng = random_numbers(seed)

    def normal(*shape: int, size: float) -> np.ndarray:
        return rng.normal(size=shape) / np.sqrt(size)

    params: Params = {"encoder.weight": normal(width, 1, size=1.0), "encoder.bias": np.zeros(width)}
    for i in range(layers):
        arrays = {
            "norm.weight": np.ones(width),
            "norm.bias": np.zeros(width),
            "norm.running_mean": np.zeros(width),
            "norm.running_var": np.ones(width),
            "seq.Lambda_re": np.full(order, -0.5),
            "seq.Lambda_im": np.pi * np.arange(order),
            "seq.log_step": rng.uniform(np.log(1e-3), np.log(1e-1), size=(order, 1)),
            "seq.B": normal(order, width, 2, size=width),
            "seq.C": normal(width, order, 2, size=order),
            "seq.D": normal(width, size=1.0),
            "out2.weight": normal(width, width, size=width),
            "out2.bias": np.zeros(width),
        }
        params |= {f"layers.{i}.{leaf}": array for leaf, array in arrays.items()}
    params |= {"decoder.weight": normal(10, width, size=width), "decoder.bias": np.zeros(10)}
    params = {name: array.astype(np.float32) for name, array in params.items()}
    return read(params, adapter=S5(conj_sym=True, discretization="zoh", clip_eigs=False))
