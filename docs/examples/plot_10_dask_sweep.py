"""
Spread a sweep over a Dask cluster
==================================

The cells of a sweep, one per method and ratio, do not depend on each other. joblib runs them on any backend; here on
the workers of a local Dask cluster. On a real cluster only the address of the client changes, and each worker needs
the checkpoint.
"""

import joblib
import matplotlib.pyplot as plt
from digits_data import held_out
from distributed import Client, LocalCluster

import ssmreduce as sr
from ssmreduce.networks import s5_digits

METHODS = ("last", "aire", "uniform_magnitude")
RATIOS = (0.0, 0.2, 0.4, 0.6, 0.8)


def cell(method, ratio):
    """Test accuracy of one reduction; loads what it needs, so that only names travel."""
    x, y = held_out()
    model = sr.load("../../examples/s5_digits/model.safetensors")
    pruned = sr.prune(model, sr.select(sr.score(model, method), ratio=ratio))
    return method, ratio, float((s5_digits(pruned, x).argmax(axis=1) == y).mean())


# %%
# Threads as workers are enough here: the library releases the interpreter's lock in its compiled parts.

with (
    LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
    Client(cluster),
    joblib.parallel_config(backend="dask"),
):
    cells = joblib.Parallel()(joblib.delayed(cell)(method, ratio) for method in METHODS for ratio in RATIOS)

# %%

figure, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
for method in METHODS:
    points = [(ratio, value) for name, ratio, value in cells if name == method]
    ax.plot([100 * ratio for ratio, _ in points], [100 * value for _, value in points], "o-", label=method)
ax.set(xlabel="states dropped (%)", ylabel="test accuracy (%)")
ax.legend(frameon=False)
