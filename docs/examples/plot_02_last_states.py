"""
Prune an S5 by LAST, and see which states go
============================================

LAST [1]_ scores a state by the H-infinity norm that it adds to its layer, made comparable across layers. This page
shows the scores, the states that are left at each ratio, and what the network then says.

.. [1] Gwak et al., "Layer-Adaptive State Pruning for Deep State Space Models", NeurIPS 2024.
"""

import matplotlib.pyplot as plt
import numpy as np
from digits_data import held_out

import ssmreduce as sr
from ssmreduce.networks import s5_digits

model = sr.load("../../examples/s5_digits/model.safetensors")
scores = sr.score(model, "last")
x_test, y_test = held_out()

# %%
# Importance per state
# --------------------
#
# Each point is a state. The score of the states in the deeper layers falls off earlier: a few slow states carry the
# norm.

figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name, values in scores.items():
    ax.semilogy(np.sort(values)[::-1], ".-", label=name)
ax.set(xlabel="state, by its score", ylabel="score (LAST)")
ax.legend(frameon=False)

# %%
# Which states go
# ---------------
#
# The poles that are left, per layer and ratio. Poles near the unit circle are slow states.

ratios = (0.0, 0.2, 0.4, 0.6, 0.8)
figure, axes = plt.subplots(len(model), len(ratios), figsize=(9, 4.6), sharex=True, sharey=True, layout="constrained")
for column, ratio in enumerate(ratios):
    pruned = sr.prune(model, sr.select(scores, ratio=ratio))
    correct = float((s5_digits(pruned, x_test).argmax(1) == y_test).mean())
    axes[0, column].set_title(f"{ratio:.0%} dropped\n{correct:.1%} right", fontsize="small")
    for row, (name, ssm) in enumerate(pruned.items()):
        ax = axes[row, column]
        ax.scatter(abs(np.angle(ssm.Lambda)), abs(ssm.Lambda), s=5)
        ax.text(0.97, 0.06, f"{ssm.order}", transform=ax.transAxes, ha="right", fontsize="small")
        if column == 0:
            ax.set_ylabel(name.removesuffix(".seq"), fontsize="small")
figure.supxlabel("angle of the pole (rad/sample)", fontsize="small")
figure.supylabel("|pole|", fontsize="small")

# %%
# LAST empties the deeper layers of this network first. Their few large norms make the other states look small, but
# the network uses them; :ref:`sphx_glr_auto_examples_plot_03_three_ways.py` shows what does better.
