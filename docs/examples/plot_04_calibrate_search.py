"""
Calibrate and search without labels
===================================

How small can a network become before it says something else? :func:`~ssmreduce.search` finds out on unlabelled data:
it compresses to several ratios and asks how often the smaller network agrees with the original on sequences kept
apart.
"""

import matplotlib.pyplot as plt
import numpy as np
from digits_data import held_out, others

import ssmreduce as sr
from ssmreduce.networks import s5_digits

model = sr.load("../../examples/s5_digits/model.safetensors")
network = sr.network(s5_digits, model=model)
x, _ = others(300)  # no labels

# %%
# What calibration sees
# ---------------------
#
# A norm asks what an input *could* do to a state; the data say what inputs do. Both are shown as ranks within the
# layer. A state far below the diagonal has a large norm and little to do on the data.

calibration = sr.calibrate(model, network.layer_inputs(model, x))
norms, cost = sr.score(model, "hinf"), sr.score(model, "calibrated", calibration=calibration)
figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
for name in model:
    order = np.argsort(np.argsort(norms[name])), np.argsort(np.argsort(cost[name]))
    ax.scatter(*order, s=10, label=name)
ax.plot([0, 63], [0, 63], color="0.6", lw=0.8)
ax.set(xlabel="rank by the H-infinity norm", ylabel="rank by the cost on data")
figure.legend(loc="outside right upper", frameon=False, fontsize="small")

# %%
# Search
# ------

result = sr.search(network, [x], agreement=0.97, finish=None)
for point in result.points:
    print(f"{point.ratio:.0%} dropped: agreement {point.value:.3f} {'accepted' if point.accepted else ''}")

# %%
# With labels, which the search did not have:

x_test, y_test = held_out()
for name, candidate in {"original": model, "found": result.model}.items():
    correct = (s5_digits(candidate, x_test).argmax(axis=1) == y_test).mean()
    print(f"{name}: {sum(candidate.orders.values())} states, test accuracy {correct:.3f}")
