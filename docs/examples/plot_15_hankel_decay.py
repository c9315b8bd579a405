"""
How fast Hankel singular values fall
====================================

No system of real order r comes closer to a layer than its singular value number r + 1, so their decay says how small
a layer can become in the worst case. Trained layers of three families, and a caution: the network need not mind the
worst case.
"""

import matplotlib.pyplot as plt
import numpy as np

import ssmreduce as sr

files = {
    "S5": "../../examples/s5_digits/model.safetensors",
    "LRU": "../../tests/data/lru_forgi86_digits64/model.safetensors",
    "S4D": "../../tests/data/s4d_minimal_mnist1d/model.safetensors",
}
figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharey=True, layout="constrained")
for ax, (family, file) in zip(axes, files.items(), strict=True):
    for name, ssm in sr.load(file).items():
        values = sr.hankel_singular_values(ssm)
        values = np.median(values, axis=0) if values.ndim == 2 else values  # S4D: a system per feature
        ax.semilogy(np.linspace(0, 100, values.size), values / values[0], lw=1, label=name)
    ax.set(title=family, xlabel="index (% of the real order)", ylim=(1e-6, 1.5))
axes[0].set_ylabel("singular value / largest")

# %%
# Slow decay over the first half means that no method, new poles or old, has a small error for all inputs at half
# the order. What the data excite is less than that: :ref:`sphx_glr_auto_examples_plot_03_three_ways.py` keeps the
# accuracy with a fifth.
