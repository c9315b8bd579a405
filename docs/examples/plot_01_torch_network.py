"""
A PyTorch network, from end to end
==================================

Compress a trained network without labels, run it, fine-tune it, save it and load it again. The network is the S5
classifier of handwritten digits that ships in ``examples/``: 4 layers with 64 stored states each, read pixel by
pixel.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from digits_data import held_out, others
from torch_networks import s5_digits

import ssmreduce as sr

torch.manual_seed(0)
network = s5_digits()  # any trained torch.nn.Module with layers of a known family

# %%
# The test set of the checkpoint, and all other digits. 200 of these, without labels, are enough to compress.

x_test, y_test = held_out()
x, y = (torch.tensor(array) for array in others())
x_test = torch.tensor(x_test)


def accuracy(module):
    with torch.no_grad():
        return float((module(x_test).argmax(1).numpy() == y_test).mean())


# %%
# Compress
# --------
#
# One call. The states that the data miss least leave, the outputs are fitted, and the remaining parameters are
# moved until the network says what it said before. The original stays as it is.

small = sr.compress(network, [x[:200]], ratio=0.9, steps=40)
print(f"full {accuracy(network):.3f}, 10 % of the states {accuracy(small):.3f}")

# %%
# Which states stay, layer by layer:

full, left = sr.network(network).model, sr.network(small).model
figure, axes = plt.subplots(1, len(full), figsize=(9, 1.9), subplot_kw={"aspect": "equal"}, layout="constrained")
circle = np.exp(1j * np.linspace(0, np.pi, 200))
for ax, name in zip(axes, full, strict=True):
    ax.plot(circle.real, circle.imag, color="0.6", lw=0.8)
    for ssm, style in ((full[name], {"color": "0.7", "s": 6}), (left[name], {"color": "C0", "s": 14})):
        ax.scatter(ssm.Lambda.real, abs(ssm.Lambda.imag), **style)
    ax.set_title(f"{name}: {left[name].order} of {full[name].order}", fontsize="small")

# %%
# Fine-tune
# ---------
#
# The result is an ordinary module. Here, one pass over all digits that are not tested on, with their labels:

optimizer = torch.optim.Adam(small.parameters(), lr=3e-4)
small.train()
for batch in torch.randperm(len(x)).split(50):
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(small(x[batch]), y[batch]).backward()
    optimizer.step()
small.eval()
print(f"after fine-tuning {accuracy(small):.3f}")

# %%
# Save and load
# -------------

sr.networks.save_module(small, "small.safetensors")
again = sr.networks.restore(network, "small.safetensors")
print(f"loaded {accuracy(again):.3f}")
