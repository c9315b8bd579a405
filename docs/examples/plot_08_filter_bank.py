"""
A filter bank to state space
============================

Impulse responses in, small recurrent systems out: a gammatone bank, as models of hearing use it, becomes a diagonal
system per channel with a proven error. A convolution over the whole past turns into a few multiplications per step.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.signal import gammatone

import ssmreduce as sr

rate, length = 16_000, 2048
centres = np.geomspace(200, 6000, 12)
impulse = np.zeros(length)
impulse[0] = 1
kernels = np.stack([gammatone(f, "fir", numtaps=length, fs=rate)[0] for f in centres])

# %%
# Each system gets the lowest order that meets the tolerance, relative to the peak gain of its filter:

found = sr.realize(kernels, tolerance=1e-3)
for f, order, upper, tail in zip(centres, found.order, found.upper, found.tail, strict=True):
    print(f"{f:7.0f} Hz: order {order}, error <= {upper:.1e} over the samples, <= {tail:.1e} after them")

# %%
# Filter and realisation over frequency:

omega = np.geomspace(2 * np.pi * 100 / rate, np.pi * 0.98, 1500)
response = sr.frequency_response(found.ssm, omega)[..., 0, 0]
exact = np.exp(-1j * np.outer(omega, np.arange(length))) @ kernels.T
figure, ax = plt.subplots(figsize=(8, 3.4), layout="constrained")
hertz = omega * rate / (2 * np.pi)
ax.loglog(hertz, abs(exact), color="0.7", lw=3)
ax.loglog(hertz, abs(response if response.shape == exact.shape else response.T), "C0", lw=0.8)
ax.set(xlabel="Hz", ylabel="gain", ylim=(1e-4, 2), title="filters (grey) and systems (blue)")
