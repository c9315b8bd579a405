"""
LAST, balanced truncation and elimination on one model
======================================================

Three ways to make the same layers smaller: drop states by a norm (LAST), find new states (balanced truncation), or
drop states by their cost on unlabelled data and refit the others (elimination). One call of :func:`~ssmreduce.sweep`
draws them together.
"""

import matplotlib.pyplot as plt
from digits_data import held_out, others

import ssmreduce as sr
from ssmreduce.networks import s5_digits

model = sr.load("../../examples/s5_digits/model.safetensors")
x_test, y_test = held_out()

# %%
# Elimination needs what the layers are fed on some unlabelled sequences; the network records it.

x, _ = others(300)
calibration = sr.calibrate(model, sr.network(s5_digits, model=model).layer_inputs(model, x))


def accuracy(candidate):
    return float((s5_digits(candidate, x_test).argmax(axis=1) == y_test).mean())


# %%
# Every method at every ratio, with the same total number of states:

curve = sr.sweep(
    model,
    accuracy,
    methods=["last", "aire", "balanced", "eliminate"],
    ratios=[0.0, 0.2, 0.4, 0.6, 0.8, 0.9],
    calibration=calibration,
)
figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
sr.plot.trade_off(curve, ax=ax, label="test accuracy")
ax.set_title("S5 on digits, no retraining")

# %%
# The errors of the layers tell another story. Balanced truncation is within a factor of two or three of the least
# possible peak gain, and elimination far from it: it spends its states where the data are, not where all inputs
# could be.

small = sr.eliminate(model, calibration, ratio=0.8)
balanced = sr.reduce(model, small.orders, method="balanced")
print(sr.compare(model, {"balanced": balanced, "eliminated": small}))
