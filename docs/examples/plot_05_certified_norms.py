"""
Certified norms and reductions for control engineers
====================================================

From a ``control.StateSpace`` to a proven H-infinity norm and a reduced system with a proven error. The system: a
lightly damped structure with 60 modes, sampled. No network is needed.
"""

import time

import control
import matplotlib.pyplot as plt
import numpy as np
import slycot
from scipy.linalg import block_diag

import ssmreduce as sr

rng = np.random.default_rng(0)
radius, angle = 1 - 10.0 ** rng.uniform(-4, -1, 60), rng.uniform(0.05, 3, 60)
modes = [r * np.array([[np.cos(w), -np.sin(w)], [np.sin(w), np.cos(w)]]) for r, w in zip(radius, angle, strict=True)]
B = rng.standard_normal((120, 2)) * np.repeat((1 - radius) * 10 ** rng.uniform(-3, 0, 60), 2)[:, None]
C = rng.standard_normal((3, 120)) / 60
plant = control.ss(block_diag(*modes), B, C, np.zeros((3, 2)), True)
print(plant.nstates, "states,", plant.ninputs, "inputs,", plant.noutputs, "outputs")

# %%
# The H-infinity norm, proven
# ---------------------------
#
# The norm lies between ``gain`` and ``upper``; the upper end comes with a proof, not with a grid. SLICOT's
# ``ab13dd`` iterates on the eigenvalues of a symplectic pencil.

ssm = sr.systems.from_control(plant)
sr.peak_gain(ssm)  # compiles once
start = time.perf_counter()
peak = sr.peak_gain(ssm)
ours = time.perf_counter() - start
start = time.perf_counter()
norm, _ = slycot.ab13dd("D", "I", "N", "D", 120, 2, 3, plant.A, np.eye(120), plant.B, plant.C, plant.D, 1e-6)[:2]
theirs = time.perf_counter() - start
print(f"ssmreduce {peak.gain:.8f} <= norm <= {peak.upper:.8f}")
print(f"slycot    {norm:.8f}, in {theirs / ours:.0f} times the time")

# %%
# Reduce within a tolerance
# -------------------------
#
# Balanced truncation to the smallest order whose proven bound is below 20 % of the Hankel norm, and a certificate of
# the error itself, beside the bound that no system of that order can beat:

reduced = sr.reduction.balanced_truncation(ssm, tolerance=0.2).ssm
certificate = sr.certify(ssm, reduced)
print(f"{ssm.order} pairs -> {reduced.order}")
print(f"error {certificate.upper / certificate.norm:.2%} of the norm, proven;", end=" ")
print(f"no system of that order is below {certificate.lower_bound / certificate.norm:.2%}")

# %%
# Hankel singular values, and the gain of the system and of the error over frequency:

omega = np.linspace(0, np.pi, 2000)
error = sr.systems.error_system(ssm, reduced)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
axes[0].semilogy(sr.hankel_singular_values(ssm), ".")
axes[0].axvline(2 * reduced.order, color="0.6", lw=0.8)
axes[0].set(xlabel="index", title="Hankel singular values")
for system, label in ((ssm, "system"), (error, "error")):
    gains = np.linalg.svd(sr.frequency_response(system, omega), compute_uv=False)[..., 0]
    axes[1].semilogy(omega, gains, lw=1, label=label)
axes[1].axhline(peak.upper, color="0.6", lw=0.8, label="proven norm")
axes[1].set(xlabel="omega (rad/sample)", title="largest gain")
axes[1].legend(frameon=False, fontsize="small")
