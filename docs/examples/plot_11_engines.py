"""
One engine against another
==========================

The same layer on every engine of this machine: the reference in NumPy, which defines what a layer computes, Numba,
PyTorch and JAX. Their results agree to rounding, in double and in single precision.
"""

import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import torch

import ssmreduce as sr

jax.config.update("jax_enable_x64", True)  # systems are held in double precision
rng = np.random.default_rng(0)
n, width, length = 64, 32, 4096
poles = (1 - 10.0 ** rng.uniform(-4, -1, n)) * np.exp(1j * rng.uniform(0, 3, n))
B = (rng.standard_normal((n, width)) + 1j * rng.standard_normal((n, width))) * (1 - abs(poles))[:, None]
ssm = sr.DiagonalSSM(poles, B, rng.standard_normal((width, n)) / n, np.eye(width), conj_sym=True)
u = rng.standard_normal((4, length, width))
exact = sr.simulate(ssm, u, engine="reference")

# %%
# Single precision in, single precision out. The library of the array chooses the engine.

makers = {"numba": np.asarray, "torch": torch.from_numpy, "jax": jnp.asarray}
rows = {}
for name, make in makers.items():
    signal = make(np.float32(u))
    layer = sr.DiagonalSSM(*map(make, (ssm.Lambda, ssm.B, ssm.C, ssm.D)), conj_sym=True)
    sr.simulate(layer, signal)  # compiles
    times = []
    for _ in range(5):
        start = time.perf_counter()
        y = np.asarray(sr.simulate(layer, signal))
        times.append(time.perf_counter() - start)
    error = abs(y - exact).max() / abs(exact).max()
    rows[name] = (1000 * np.median(times), error)
    print(f"{name:6s} largest error {error:.1e} of the largest output")

# %%
# Time per call on this machine, one thread for NumPy arrays. :doc:`/benchmarks` has the careful measurements.

figure, ax = plt.subplots(figsize=(5, 2.4), layout="constrained")
ax.barh(list(rows), [milliseconds for milliseconds, _ in rows.values()])
ax.set(xlabel="milliseconds", title=f"4 x {length} steps, {n} states, {width} inputs and outputs")
