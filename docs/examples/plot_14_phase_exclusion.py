"""
Why no peak hides between two samples
=====================================

A grid can miss a narrow resonance; the bracket of :func:`~ssmreduce.peak_gain` cannot. Two samples of the gain bound
every peak between them, because the response of a system with known poles falls no faster than a cosine of its phase
on either side of the peak (:ref:`peak_gain`). This page refines the cover by hand, for a system with five resonances.
"""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np

import ssmreduce as sr

poles = np.array([0.5, 0.9, 0.97, 0.99, 0.95]) * np.exp(1j * np.array([0.3, 0.8, 1.3, 1.32, 2.2]))
rng = np.random.default_rng(1)
B, C = ((rng.standard_normal(s) + 1j * rng.standard_normal(s)) * 0.9 for s in ((5, 1), (1, 5)))
ssm = sr.DiagonalSSM(poles, B * (1 - abs(poles))[:, None], C, [[0.1]], conj_sym=True)


def gain(omega):
    return np.linalg.norm(sr.frequency_response(ssm, omega), axis=(-2, -1))


def phase(omega):
    """Argument of the Blaschke product of all poles, conjugates included."""
    return sum(
        omega + 2 * np.arctan2(abs(p) * np.sin(omega - np.angle(p)), 1 - abs(p) * np.cos(omega - np.angle(p)))
        for p in np.concatenate([poles, poles.conj()])
    )


def cover(omega, a, b):
    """Largest peak that the samples at a and b allow at the frequencies between them."""
    left, right = (phase(omega) - phase(a)) / 2, (phase(b) - phase(omega)) / 2
    bounds = [
        np.where(part < np.pi / 2, gain(np.array([end])) / np.maximum(np.cos(part), 1e-9), np.inf)
        for part, end in ((left, a), (right, b))
    ]
    return np.minimum(*bounds)


# %%
# Start with the ends of the half circle and the angles of the poles. Where the cover is higher than the largest
# sample, a peak may hide: sample there. Each step splits the interval with the highest cover.

samples = [0.0, *sorted(np.angle(poles)), np.pi]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True, layout="constrained")
fine = np.linspace(0, np.pi, 3000)
for ax, steps in zip(axes, (0, 12, 30), strict=True):
    while len(samples) < 7 + steps:
        inner = [np.linspace(a, b, 41)[1:-1] for a, b in pairwise(samples)]
        heights = [cover(w, *ends) for w, ends in zip(inner, pairwise(samples), strict=True)]
        worst = int(np.argmax([np.minimum(h, 1e6).max() for h in heights]))
        samples = sorted([*samples, inner[worst][np.argmax(np.minimum(heights[worst], 1e6))]])
    for a, b in pairwise(samples):
        inside = fine[(fine > a) & (fine < b)]
        if inside.size:
            ax.fill_between(inside, gain(inside), np.minimum(cover(inside, a, b), 10), color="C1", alpha=0.35, lw=0)
    ax.plot(fine, gain(fine), "C0", lw=1)
    ax.plot(samples, gain(np.array(samples)), "k.", ms=5)
    ax.set(title=f"{len(samples)} samples", xlabel="omega (rad/sample)", yscale="log", ylim=(5e-2, 10))
axes[0].set_ylabel("gain; orange: where a peak may be")

# %%
# The library does the same with bounds that are a little sharper, and says when it may stop:

print(sr.peak_gain(ssm, rtol=1e-3))
