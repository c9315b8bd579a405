"""
A live LRU in Equinox
=====================

Train a small LRU network on the digits, then compress the live module. Nothing is registered: the layer is found by
the names of its arrays, and its drop-in is compared with it before anything changes.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from digits_data import held_out, others
from support.equinox_lru import DeepLRU

import ssmreduce as sr

x, y = others()
x_test, y_test = held_out()
network = DeepLRU(width=16, states=32, layers=2, classes=10, key=jax.random.key(0))

# %%
# Train
# -----

optimiser = optax.adam(optax.cosine_decay_schedule(4e-3, 300))
state = optimiser.init(eqx.filter(network, eqx.is_inexact_array))


@eqx.filter_jit
def step(network, state, x, y):
    def loss(network):
        logits = jax.vmap(network)(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    updates, state = optimiser.update(eqx.filter_grad(loss)(network), state)
    return eqx.apply_updates(network, updates), state


rng = np.random.default_rng(0)
for _ in range(300):
    batch = rng.choice(len(x), 64)
    network, state = step(network, state, jnp.asarray(x[batch]), jnp.asarray(y[batch]))


def accuracy(network):
    return float((np.asarray(eqx.filter_jit(jax.vmap(network))(x_test)).argmax(axis=1) == y_test).mean())


# %%
# Compress
# --------
#
# On 200 sequences without their labels, to several sizes:

sizes = {0.0: accuracy(network)}
for ratio in (0.5, 0.8):
    small = sr.compress(network, [x[:200]], ratio=ratio, finish=None)
    sizes[ratio] = accuracy(small)
    print(f"{ratio:.0%} dropped, left {sr.network(small).model.orders}: {sizes[ratio]:.3f}")

# %%

figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
ax.plot([100 * ratio for ratio in sizes], [100 * value for value in sizes.values()], "o-")
ax.set(xlabel="states dropped (%)", ylabel="test accuracy (%)", ylim=(0, 100))
