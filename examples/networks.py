"""Whole networks around the layers, in NumPy: what the demo evaluates, and how to write such a forward for your own.

Each function takes a model (anything that maps layer names to systems, with the parameters around them) and a batch of
sequences, shape (batch, L, channels), and returns the logits or log-probabilities, shape (batch, classes).
"""

import numpy as np
from scipy.special import erf, expit, log_softmax

import ssmreduce as sr


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """GELU in its tanh form, as in JAX."""
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


def gelu(x: np.ndarray) -> np.ndarray:
    """GELU in its exact form, as in PyTorch."""
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def glu(x: np.ndarray) -> np.ndarray:
    """Gated linear unit over the last axis."""
    value, gate = np.split(x, 2, axis=-1)
    return value * expit(gate)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Normalise the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def _s5_block(ssm: sr.DiagonalSSM, x: np.ndarray, norm: tuple, gate: tuple) -> np.ndarray:
    """Pre-norm S5 block: batch norm with stored statistics, system, GELU, half GLU, residual."""
    mean, variance, scale, bias = norm
    u = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    g = gelu_tanh(sr.simulate(ssm, u))
    return x + g * expit(g @ gate[0] + gate[1])


def s5_digits(model: sr.SSMModel, x: np.ndarray) -> np.ndarray:
    """Logits of the network of `train_s5_digits.py`."""
    p = model.params
    x = x @ p["encoder.weight"].T + p["encoder.bias"]
    for i, ssm in enumerate(model.values()):
        norm = (p[f"layers.{i}.norm.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        x = _s5_block(ssm, x, tuple(norm), (p[f"layers.{i}.out2.weight"].T, p[f"layers.{i}.out2.bias"]))
    return x.mean(1) @ p["decoder.weight"].T + p["decoder.bias"]


def s5_flax(model: sr.SSMModel, x: np.ndarray) -> np.ndarray:
    """Log-probabilities of a classifier of lindermanlab/S5 or LAST (batch norm, half_glu1, pre-norm, mean pooling)."""
    p = model.params
    x = x @ p["params/encoder/encoder/kernel"] + p["params/encoder/encoder/bias"]
    for i, ssm in enumerate(model.values()):
        layer, stats = f"params/encoder/layers_{i}", f"batch_stats/encoder/layers_{i}/norm"
        norm = (p[f"{stats}/mean"], p[f"{stats}/var"], p[f"{layer}/norm/scale"], p[f"{layer}/norm/bias"])
        x = _s5_block(ssm, x, norm, (p[f"{layer}/out2/kernel"], p[f"{layer}/out2/bias"]))
    return log_softmax(x.mean(1) @ p["params/decoder/kernel"] + p["params/decoder/bias"], axis=-1)


def s4d_minimal(model: sr.SSMModel, x: np.ndarray) -> np.ndarray:
    """Logits of the example network around the minimal S4D of state-spaces/s4 (post-norm)."""
    p = model.params
    x = x @ p["encoder.weight"].T + p["encoder.bias"]
    for i, ssm in enumerate(model.values()):
        linear = f"s4_layers.{i}.output_linear.0"
        z = glu(gelu(sr.simulate(ssm, x)) @ p[f"{linear}.weight"][..., 0].T + p[f"{linear}.bias"])
        x = layer_norm(x + z, p[f"norms.{i}.weight"], p[f"norms.{i}.bias"])
    return x.mean(1) @ p["decoder.weight"].T + p["decoder.bias"]


def lru_deep(model: sr.SSMModel, x: np.ndarray) -> np.ndarray:
    """Logits of the deep LRU of forgi86/lru-reduction with mean pooling."""
    p = model.params
    x = x @ p["dlru.encoder.weight"].T + p["dlru.encoder.bias"]
    for i, ssm in enumerate(model.values()):
        block = f"dlru.blocks.{i}"
        u = layer_norm(x, p[f"{block}.ln.weight"], p[f"{block}.ln.bias"])
        linear = f"{block}.ff.output_linear.0"
        x = x + glu(gelu(sr.simulate(ssm, u)) @ p[f"{linear}.weight"].T + p[f"{linear}.bias"])
    return (x @ p["dlru.decoder.weight"].T + p["dlru.decoder.bias"]).mean(1)
