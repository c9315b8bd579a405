"""S5 in Flax, with the classes, parameter names and transformations of lindermanlab/S5: the stock network of the tests.

Written for these tests after the published description; only the initial values are simpler than there.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .jax_scan import parallel_scan


def _pairs(scale):
    return lambda key, shape: scale * jax.random.normal(key, (*shape, 2))


def _log_steps(key, shape):
    return jax.random.uniform(key, (shape[0], 1), minval=jnp.log(0.001), maxval=jnp.log(0.1))


class S5SSM(nn.Module):
    """One sequence (L, H) in, one out. All discretised in `setup`, as in the original."""

    H: int
    P: int
    conj_sym: bool = True
    clip_eigs: bool = False
    bidirectional: bool = False
    discretization: str = "zoh"
    step_rescale: float = 1.0

    def setup(self):
        P, H = self.P, self.H
        Lambda_re = self.param("Lambda_re", lambda _, shape: -0.5 * jnp.ones(shape), (P,))
        Lambda_im = self.param("Lambda_im", lambda _, shape: jnp.pi * jnp.arange(shape[0], dtype=float), (P,))
        real = jnp.clip(Lambda_re, None, -1e-4) if self.clip_eigs else Lambda_re
        Lambda = real + 1j * Lambda_im
        B = self.param("B", _pairs(H**-0.5), (P, H))
        if self.bidirectional:
            C = jnp.concatenate([self.param(name, _pairs(P**-0.5), (H, P)) for name in ("C1", "C2")], axis=1)
        else:
            C = self.param("C", _pairs(P**-0.5), (H, P))
        self.D = self.param("D", nn.initializers.normal(1.0), (H,))
        step = self.step_rescale * jnp.exp(self.param("log_step", _log_steps, (P,))[:, 0])
        B, self.C_tilde = B[..., 0] + 1j * B[..., 1], C[..., 0] + 1j * C[..., 1]
        if self.discretization == "zoh":
            self.Lambda_bar = jnp.exp(Lambda * step)
            self.B_bar = (1 / Lambda * (self.Lambda_bar - 1))[:, None] * B
        else:
            inverse = 1 / (1 - step / 2 * Lambda)
            self.Lambda_bar, self.B_bar = inverse * (1 + step / 2 * Lambda), (inverse * step)[:, None] * B

    def __call__(self, u):
        driven = u @ self.B_bar.T
        directions = (False, True) if self.bidirectional else (False,)
        x = jnp.concatenate([parallel_scan(self.Lambda_bar, driven, reverse=r) for r in directions], axis=1)
        return (1 + self.conj_sym) * (x @ self.C_tilde.T).real + self.D * u


class SequenceLayer(nn.Module):
    """Pre-norm, GELU, half GLU, residual; batch norm over the mapped axis."""

    ssm: Callable
    d_model: int
    dropout: float = 0.0
    training: bool = True
    step_rescale: float = 1.0

    def setup(self):
        self.seq = self.ssm(step_rescale=self.step_rescale)
        self.out2 = nn.Dense(self.d_model)
        self.norm = nn.BatchNorm(use_running_average=not self.training, momentum=0.9, axis_name="batch")
        self.drop = nn.Dropout(self.dropout, broadcast_dims=[0], deterministic=not self.training)

    def __call__(self, x):
        y = self.drop(nn.gelu(self.seq(self.norm(x))))
        return x + self.drop(y * jax.nn.sigmoid(self.out2(y)))


class StackedEncoderModel(nn.Module):
    ssm: Callable
    d_model: int
    n_layers: int
    dropout: float = 0.0
    training: bool = True

    def setup(self):
        self.encoder = nn.Dense(self.d_model)
        self.layers = [
            SequenceLayer(ssm=self.ssm, d_model=self.d_model, dropout=self.dropout, training=self.training)
            for _ in range(self.n_layers)
        ]

    def __call__(self, x):
        x = self.encoder(x)
        for layer in self.layers:
            x = layer(x)
        return x


class ClassificationModel(nn.Module):
    """One sequence (L, channels) to log-probabilities (classes,)."""

    ssm: Callable
    d_output: int
    d_model: int
    n_layers: int
    dropout: float = 0.0
    training: bool = True

    def setup(self):
        self.encoder = StackedEncoderModel(
            ssm=self.ssm, d_model=self.d_model, n_layers=self.n_layers, dropout=self.dropout, training=self.training
        )
        self.decoder = nn.Dense(self.d_output)

    def __call__(self, x, integration_timesteps=None):
        return nn.log_softmax(self.decoder(jnp.mean(self.encoder(x), axis=0)), axis=-1)


BatchClassificationModel = nn.vmap(
    ClassificationModel,
    in_axes=0,
    out_axes=0,
    variable_axes={"params": None, "dropout": None, "batch_stats": None, "cache": 0, "prime": None},
    split_rngs={"params": False, "dropout": True},
    axis_name="batch",
)


def classifier(*, width=32, states=64, layers=4, classes=10, training=False, dropout=0.0, **ssm: Any):
    """The network of the shipped and recorded digits models."""
    return BatchClassificationModel(
        ssm=partial(S5SSM, H=width, P=states, **ssm),
        d_output=classes,
        d_model=width,
        n_layers=layers,
        dropout=dropout,
        training=training,
    )


def variables_of(params, dtype=jnp.float32):
    """Variables of `classifier` with the weights of `train_s5_digits.py`, a flat mapping with PyTorch's names."""

    def array(name):
        return jnp.asarray(params[name], dtype)

    def dense(name):
        return {"kernel": array(f"{name}.weight").T, "bias": array(f"{name}.bias")}

    encoder, stats = {"encoder": dense("encoder")}, {}
    for i in range(sum(name.endswith(".seq.D") for name in params)):
        layer, start = f"layers.{i}", f"layers.{i}.seq."
        encoder[f"layers_{i}"] = {
            "seq": {name.removeprefix(start): array(name) for name in params if name.startswith(start)},
            "norm": {"scale": array(f"{layer}.norm.weight"), "bias": array(f"{layer}.norm.bias")},
            "out2": dense(f"{layer}.out2"),
        }
        stats[f"layers_{i}"] = {
            "norm": {"mean": array(f"{layer}.norm.running_mean"), "var": array(f"{layer}.norm.running_var")}
        }
    return {"params": {"encoder": encoder, "decoder": dense("decoder")}, "batch_stats": {"encoder": stats}}
