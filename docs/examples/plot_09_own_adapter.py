"""
Write an adapter
================

A layer class that the library does not know becomes known by two functions: from its arrays to a system, and back.
Finding, checking, pruning and writing come with the base class. :doc:`/guide/own_family` explains each line.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch

import ssmreduce as sr
from ssmreduce.adapters import Adapter, Call, Tensor


class LeakyBank(torch.nn.Module):
    """y = C x + D u, x[k] = exp(-softplus(rate)) x[k-1] + B u[k]; u has shape (batch, L, width)."""

    def __init__(self, width, states):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.linspace(-4, 2, states))
        self.B = torch.nn.Parameter(torch.randn(states, width))
        self.C = torch.nn.Parameter(torch.randn(width, states) / states)
        self.D = torch.nn.Parameter(torch.ones(width))

    def forward(self, u):
        decay = torch.exp(-torch.nn.functional.softplus(self.rate))
        return sr.scan(decay + 0j, (u @ self.B.T) + 0j).real @ self.C.T + self.D * u


# %%
# The adapter
# -----------


@dataclass(frozen=True, kw_only=True)
class Leaky(Adapter):
    """Arrays of LeakyBank."""

    name = "leaky"
    layouts = (
        {
            "rate": Tensor("pole", ("n",)),
            "B": Tensor("input", ("n", "m")),
            "C": Tensor("output", ("m", "n")),
            "D": Tensor("feedthrough", ("m",)),
        },
    )
    limits = "LeakyBank holds real poles between 0 and 1, and real inputs and outputs"
    calls = (Call("torch", "blh", "blh"),)

    def _decode(self, tensors):
        poles = np.exp(-np.logaddexp(0, tensors["rate"]))
        return sr.DiagonalSSM(poles, tensors["B"], tensors["C"], np.diag(tensors["D"]))

    def _encode(self, ssm, tensors):
        decay = -np.log(ssm.Lambda.real)
        rate = decay + np.log(-np.expm1(-decay))
        return {"rate": rate, "B": ssm.B.real, "C": ssm.C.real, "D": np.diag(ssm.D)}


# %%
# Everything else works now
# -------------------------

torch.manual_seed(0)
network = torch.nn.Sequential(LeakyBank(3, 24), torch.nn.Tanh(), LeakyBank(3, 24))
model = sr.read(network, adapter=Leaky())
small = sr.prune(model, sr.select(sr.score(model, "h2", allocation="uniform"), ratio=0.5))
smaller = torch.nn.Sequential(LeakyBank(3, 12), torch.nn.Tanh(), LeakyBank(3, 12))
smaller.load_state_dict({name: torch.as_tensor(value.copy()) for name, value in sr.export(small).items()})

u = torch.randn(1, 200, 3)
with torch.no_grad():
    before, after = network(u)[0], smaller(u)[0]
figure, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
ax.plot(before[:, 0], color="0.6", lw=3, label="24 states per layer")
ax.plot(after[:, 0], "C0", lw=1, label="12 states per layer")
ax.set(xlabel="step", ylabel="output")
ax.legend(frameon=False)
