"""
A Flax S5, from end to end
==========================

A checkpoint of the authors' S5 code in, a smaller network out, with the layers inside ``nn.vmap`` as they are there.
The module is that of ``tests/support/flax_s5.py``, which has the classes and parameter names of lindermanlab/S5.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
from digits_data import others
from support.flax_s5 import classifier

import ssmreduce as sr

FOLDER = "../../tests/data/s5_last_uni_digits64"
adapter = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)  # what the variables do not tell
variables = sr.models.unflatten(sr.load(f"{FOLDER}/checkpoint.msgpack", adapter=adapter).params)
network = sr.network(classifier(), variables=variables, adapter=adapter)
with np.load(f"{FOLDER}/heldout.npz") as file:
    x_test, y_test = file["x_test"], file["y_test"]
print(network.model.orders)

# %%
# Compress on 120 unlabelled sequences. The result has ``apply`` and ``variables`` like any Flax module.

x, _ = others(120)
small = sr.compress(network, [x], ratio=0.8, finish=None)
run = jax.jit(small.apply)
print(sr.network(small).model.orders)

# %%


def accuracy(logits):
    return float((np.asarray(logits).argmax(axis=1) == y_test).mean())


print(f"full {accuracy(network.outputs(network.model, x_test)):.3f}, 20 % of the states", end=" ")
print(f"{accuracy(run(small.variables, x_test)):.3f}")

# %%
# Poles before (grey) and after (blue):

left = sr.network(small).model
figure, axes = plt.subplots(1, len(left), figsize=(9, 2.6), layout="constrained")
for ax, name in zip(axes, left, strict=True):
    for ssm, style in ((network.model[name], {"color": "0.7", "s": 6}), (left[name], {"color": "C0", "s": 14})):
        ax.scatter(np.abs(np.angle(ssm.Lambda)), abs(ssm.Lambda), **style)
    ax.set_title(name.split("/")[2], fontsize="small")
figure.supxlabel("angle (rad/sample)", fontsize="small")
figure.supylabel("|pole|", fontsize="small")
