"""A deep LRU in Flax nnx, around the same layer as `equinox_lru`."""

import jax
import jax.numpy as jnp
from flax import nnx

from .jax_scan import parallel_scan


class LRU(nnx.Module):
    """Sequences (batch, L, H) in and out."""

    def __init__(self, width, states, *, rngs):
        def normal(*shape):
            return jax.random.normal(rngs.params(), shape)

        modulus = jax.random.uniform(rngs.params(), (states,), minval=0.6, maxval=0.99)
        self.nu_log = nnx.Param(jnp.log(-jnp.log(modulus)))
        self.theta_log = nnx.Param(jnp.log(jax.random.uniform(rngs.params(), (states,), minval=0.05, maxval=3.0)))
        self.gamma_log = nnx.Param(jnp.log(jnp.sqrt(1 - modulus**2)))
        self.B_re, self.B_im = (nnx.Param(normal(states, width) / (2 * width) ** 0.5) for _ in range(2))
        self.C_re, self.C_im = (nnx.Param(normal(width, states) / states**0.5) for _ in range(2))
        self.D = nnx.Param(normal(width))

    def __call__(self, u):
        Lambda = jnp.exp(-jnp.exp(self.nu_log[...]) + 1j * jnp.exp(self.theta_log[...]))
        B = (self.B_re + 1j * self.B_im[...]) * jnp.exp(self.gamma_log[...])[:, None]
        x = parallel_scan(Lambda, u @ B.T, axis=1)
        return (x @ (self.C_re + 1j * self.C_im[...]).T).real + self.D * u


class DeepLRU(nnx.Module):
    """Sequences (batch, L, channels) to logits (batch, classes)."""

    def __init__(self, *, channels=1, width=8, states=12, layers=2, classes=4, rngs):
        self.encoder = nnx.Linear(channels, width, rngs=rngs)
        self.layers = nnx.List([LRU(width, states, rngs=rngs) for _ in range(layers)])
        self.norms = nnx.List([nnx.BatchNorm(width, rngs=rngs) for _ in range(layers)])
        self.decoder = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        x = self.encoder(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = x + jax.nn.gelu(layer(norm(x)))
        return self.decoder(x.mean(1))
