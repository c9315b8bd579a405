"""Whole networks around the layers, in NumPy: those of the examples, and how to write such a forward for your own.

Each function takes a model (anything that maps layer names to systems, with the parameters around them) and a batch of
sequences, shape (batch, L, channels), and returns the logits or log-probabilities, shape (batch, classes). Before each
layer it calls `tap`, if given, with the layer's name and input: so `NumpyNetwork` records what calibration needs.
"""

from collections.abc import Callable

import numpy as np
import scipy

from ..models import SSMModel
from ..responses import simulate
from ..systems import DiagonalSSM


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    """GELU in its tanh form, as in JAX."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def _gelu(x: np.ndarray) -> np.ndarray:
    """GELU in its exact form, as in PyTorch."""
    return 0.5 * x * (1 + scipy.special.erf(x / np.sqrt(2)))


def _glu(x: np.ndarray) -> np.ndarray:
    """Gated linear unit over the last axis."""
    value, gate = np.split(x, 2, axis=-1)
    return value * scipy.special.expit(gate)


def _layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Normalise the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


Tap = Callable[[str, np.ndarray], None]


def _layer(name: str, ssm: DiagonalSSM, u: np.ndarray, tap: Tap | None) -> np.ndarray:
    if tap is not None:
        tap(name, u)
    return simulate(ssm, u)


def _batch_norm(
    x: np.ndarray, mean: np.ndarray, variance: np.ndarray, scale: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """Batch norm with stored statistics."""
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def _s5_gate(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """After the system of a pre-norm S5 block: GELU, half GLU, residual."""
    g = _gelu_tanh(y)
    return x + g * scipy.special.expit(g @ weight + bias)


def s5_digits(model: SSMModel, x: np.ndarray, *, tap: Tap | None = None) -> np.ndarray:
    """Run the network of `examples/train_s5_digits.py`.

    Parameters
    ----------
    model : SSMModel
        Of a checkpoint that the script writes, causal or bidirectional.
    x : array, shape (batch, L, channels)
    tap : callable, optional
        Called before each layer with its name and input (batch, L, width).

    Returns
    -------
    ndarray, shape (batch, classes)
        Logits.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> s5_digits(model, np.zeros((2, 64, 1))).shape
    (2, 10)
    """
    p = model.params
    x = x @ p["encoder.weight"].T + p["encoder.bias"]
    for i, (name, ssm) in enumerate(model.items()):
        norm = (p[f"layers.{i}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        y = _layer(name, ssm, _batch_norm(x, *norm), tap)
        x = _s5_gate(x, y, p[f"layers.{i}.out2.weight"].T, p[f"layers.{i}.out2.bias"])
    return x.mean(1) @ p["decoder.weight"].T + p["decoder.bias"]


def s5_flax(model: SSMModel, x: np.ndarray, *, tap: Tap | None = None) -> np.ndarray:
    """Run a classifier of lindermanlab/S5 or LAST (batch norm, half_glu1, pre-norm, mean pooling).

    Parameters
    ----------
    model : SSMModel
        Of its variables.
    x : array, shape (batch, L, channels)
    tap : callable, optional
        Called before each layer with its name and input (batch, L, width).

    Returns
    -------
    ndarray, shape (batch, classes)
        Log-probabilities.
    """
    p = model.params
    x = x @ p["params/encoder/encoder/kernel"] + p["params/encoder/encoder/bias"]
    for i, (name, ssm) in enumerate(model.items()):
        layer, stats = f"params/encoder/layers_{i}", f"batch_stats/encoder/layers_{i}/norm"
        norm = (p[f"{stats}/mean"], p[f"{stats}/var"], p[f"{layer}/norm/scale"], p[f"{layer}/norm/bias"])
        y = _layer(name, ssm, _batch_norm(x, *norm), tap)
        x = _s5_gate(x, y, p[f"{layer}/out2/kernel"], p[f"{layer}/out2/bias"])
    return scipy.special.log_softmax(x.mean(1) @ p["params/decoder/kernel"] + p["params/decoder/bias"], axis=-1)


def s4d_minimal(model: SSMModel, x: np.ndarray, *, tap: Tap | None = None) -> np.ndarray:
    """Run the example network around the minimal S4D of state-spaces/s4 (post-norm).

    Parameters
    ----------
    model : SSMModel
        Of its state dict.
    x : array, shape (batch, L, channels)
    tap : callable, optional
        Called before each layer with its name and input (batch, L, width).

    Returns
    -------
    ndarray, shape (batch, classes)
        Logits.
    """
    p = model.params
    x = x @ p["encoder.weight"].T + p["encoder.bias"]
    for i, (name, ssm) in enumerate(model.items()):
        linear = f"s4_layers.{i}.output_linear.0"
        z = _glu(_gelu(_layer(name, ssm, x, tap)) @ p[f"{linear}.weight"][..., 0].T + p[f"{linear}.bias"])
        x = _layer_norm(x + z, p[f"norms.{i}.weight"], p[f"norms.{i}.bias"])
    return x.mean(1) @ p["decoder.weight"].T + p["decoder.bias"]


def lru_deep(model: SSMModel, x: np.ndarray, *, tap: Tap | None = None) -> np.ndarray:
    """Run the deep LRU of forgi86/lru-reduction with mean pooling.

    Parameters
    ----------
    model : SSMModel
        Of its state dict.
    x : array, shape (batch, L, channels)
    tap : callable, optional
        Called before each layer with its name and input (batch, L, width).

    Returns
    -------
    ndarray, shape (batch, classes)
        Logits.
    """
    p = model.params
    x = x @ p["dlru.encoder.weight"].T + p["dlru.encoder.bias"]
    for i, (name, ssm) in enumerate(model.items()):
        block = f"dlru.blocks.{i}"
        u = _layer_norm(x, p[f"{block}.ln.weight"], p[f"{block}.ln.bias"])
        linear = f"{block}.ff.output_linear.0"
        x = x + _glu(_gelu(_layer(name, ssm, u, tap)) @ p[f"{linear}.weight"].T + p[f"{linear}.bias"])
    return (x @ p["dlru.decoder.weight"].T + p["dlru.decoder.bias"]).mean(1)
