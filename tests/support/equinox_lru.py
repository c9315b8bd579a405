"""A deep LRU in Equinox: the equations and parameter names of Orvieto et al. (2023), as in minimal code."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .jax_scan import parallel_scan


class LRU(eqx.Module):
    """One sequence (L, H) in, one out."""

    nu_log: jax.Array
    theta_log: jax.Array
    gamma_log: jax.Array
    B_re: jax.Array
    B_im: jax.Array
    C_re: jax.Array
    C_im: jax.Array
    D: jax.Array

    def __init__(self, width, states, *, key, r_min=0.6, r_max=0.99):
        keys = jax.random.split(key, 7)
        u1, u2 = jax.random.uniform(keys[0], (states,)), jax.random.uniform(keys[1], (states,))
        self.nu_log = jnp.log(-0.5 * jnp.log(u1 * (r_max**2 - r_min**2) + r_min**2))
        self.theta_log = jnp.log(jnp.pi * u2)
        modulus = jnp.exp(-jnp.exp(self.nu_log))
        self.gamma_log = jnp.log(jnp.sqrt(1 - modulus**2))
        self.B_re, self.B_im = (jax.random.normal(k, (states, width)) / (2 * width) ** 0.5 for k in keys[2:4])
        self.C_re, self.C_im = (jax.random.normal(k, (width, states)) / states**0.5 for k in keys[4:6])
        self.D = jax.random.normal(keys[6], (width,))

    def __call__(self, u):
        Lambda = jnp.exp(-jnp.exp(self.nu_log) + 1j * jnp.exp(self.theta_log))
        B = (self.B_re + 1j * self.B_im) * jnp.exp(self.gamma_log)[:, None]
        x = parallel_scan(Lambda, u @ B.T)
        return (x @ (self.C_re + 1j * self.C_im).T).real + self.D * u


class Block(eqx.Module):
    norm: eqx.nn.LayerNorm
    lru: LRU
    linear: eqx.nn.Linear

    def __init__(self, width, states, *, key):
        first, second = jax.random.split(key)
        self.norm = eqx.nn.LayerNorm(width)
        self.lru = LRU(width, states, key=first)
        self.linear = eqx.nn.Linear(width, 2 * width, key=second)

    def __call__(self, x):
        y = jax.nn.gelu(self.lru(jax.vmap(self.norm)(x)))
        return x + jax.nn.glu(jax.vmap(self.linear)(y))


class DeepLRU(eqx.Module):
    """One sequence (L, channels) to logits (classes,)."""

    encoder: eqx.nn.Linear
    blocks: list[Block]
    decoder: eqx.nn.Linear

    def __init__(self, *, channels=1, width=8, states=12, layers=2, classes=4, key):
        first, last, *keys = jax.random.split(key, layers + 2)
        self.encoder = eqx.nn.Linear(channels, width, key=first)
        self.blocks = [Block(width, states, key=k) for k in keys]
        self.decoder = eqx.nn.Linear(width, classes, key=last)

    def __call__(self, x):
        x = jax.vmap(self.encoder)(x)
        for block in self.blocks:
            x = block(x)
        return self.decoder(x.mean(0))
