"""S4DPLR, LrnnxS5, Centaurus and CentaurusFull, live: pruned in a network, and against the masked original."""

import copy

import numpy as np
import pytest

import ssmreduce as sr

torch = pytest.importorskip("torch")
from support import torch_layers as layers  # noqa: E402


class LrnnxS5(torch.nn.Module):
    """S5 of lrnnx with the zero-order hold."""

    def __init__(self, width, states):
        super().__init__()
        self.A = torch.nn.Parameter(torch.stack([torch.zeros(states), 3.0 * torch.arange(states)], dim=-1))
        self.B, self.C = layers.parameter(states, width), layers.parameter(width, states, 2)
        self.D, self.log_dt = layers.parameter(width, width), layers.parameter(states, low=-4, high=-1)

    def forward(self, x, integration_timesteps=None, lengths=None):
        A, dt = torch.complex(-torch.nn.functional.softplus(self.A[:, 0]), self.A[:, 1]), torch.exp(self.log_dt)
        powers = torch.exp((dt * A)[:, None] * torch.arange(x.shape[1]))
        B = ((torch.exp(dt * A) - 1) / A)[:, None] * self.B
        return causal(torch.einsum("on,nl,ni->oil", layers.pairs(self.C), powers, B).real, x) + x @ self.D


class Centaurus(torch.nn.Module):
    """Centaurus of lrnnx, in the modes neck and full."""

    def __init__(self, width, groups, states, full=False):
        super().__init__()
        self.full, groups = full, width * width if full else groups
        self.A = torch.nn.Parameter(torch.complex(torch.full((groups, states), -0.5), 5 * torch.randn(groups, states)))
        self.E, self.log_delta = layers.parameter(groups, states), layers.parameter(groups, low=-4, high=-1)
        self.B = layers.parameter(groups) if full else layers.parameter(groups, width)
        self.C = layers.parameter(groups) if full else layers.parameter(width, groups)

    def forward(self, x, integration_timesteps=None, lengths=None):
        step, width = torch.exp(self.log_delta), x.shape[-1]
        kernel = (
            torch.einsum(
                "nml,nm->nl", torch.exp((step[:, None] * self.A)[..., None] * torch.arange(x.shape[1])).real, self.E
            )
            * step[:, None]
        )
        if self.full:
            taps = ((self.B * self.C)[:, None] * kernel).reshape(width, width, -1)
        else:
            taps = torch.einsum("on,nl,ni->oil", self.C, kernel, self.B)
        return causal(taps, x)


def causal(taps, x):
    """Outputs (B, L, o) of taps (o, i, L) and inputs (B, L, i)."""
    size = 2 * x.shape[1]
    spectrum = torch.einsum("oif,bfi->bfo", torch.fft.rfft(taps, size), torch.fft.rfft(x, size, dim=1))
    return torch.fft.irfft(spectrum, size, dim=1)[:, : x.shape[1]]


class DPLRKernel(torch.nn.Module):
    """The kernel of S4 with a low-rank part, by the powers of its state matrix."""

    def __init__(self, width, states):
        super().__init__()
        self.A_real, self.A_imag = layers.parameter(width, states), layers.parameter(width, states, low=0, high=20)
        self.B, self.P = layers.parameter(1, width, states, 2), layers.parameter(1, width, states, 2)
        self.C, self.inv_dt = layers.parameter(1, width, states, 2), layers.parameter(width, 1, low=-4, high=-1)
        self.register_buffer("l_kernel", torch.tensor(0))

    def forward(self, L, rate=1.0, state=None):
        a = torch.complex(-torch.exp(self.A_real), -self.A_imag)
        both = [torch.cat([x, x.conj()], dim=-1) for x in (a, layers.pairs(self.P)[0], layers.pairs(self.B)[0])]
        A = torch.diag_embed(both[0]) - both[1][:, :, None] * both[1].conj()[:, None, :]
        step, one = torch.exp(self.inv_dt)[..., None] / 2, torch.eye(A.shape[-1])
        back = torch.linalg.inv(one - step * A)
        dA, x = back @ (one + step * A), 2 * step * (back @ both[2][..., None])
        C, taps = layers.pairs(self.C)[0], []
        C = torch.cat([C, C.conj()], dim=-1)[:, None, :]
        for _ in range(L):
            taps.append((C @ x)[:, 0, 0].real)
            x = dA @ x
        return torch.stack(taps, dim=-1)[None], None


S4_FLAGS = {"real_transform": "exp", "dt_transform": "exp"}
FAMILIES = {
    "s4dplr": (
        lambda: layers.Classifier(lambda: layers.FFTConv(6, DPLRKernel(6, 3), 1, True)),
        sr.adapters.S4DPLR(**S4_FLAGS),
    ),
    "lrnnx_s5": (
        lambda: layers.Classifier(lambda: LrnnxS5(6, 8), channels_first=False),
        sr.adapters.LrnnxS5(discretization="zoh"),
    ),
    "centaurus": (lambda: layers.Classifier(lambda: Centaurus(6, 4, 2), channels_first=False), sr.adapters.Centaurus()),
    "centaurus_full": (
        lambda: layers.Classifier(lambda: Centaurus(6, 0, 1, full=True), channels_first=False),
        sr.adapters.CentaurusFull(),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_pruned_live_and_fine_tuned(family):
    torch.manual_seed(0)
    make, adapter = FAMILIES[family]
    module, x = make().eval(), torch.randn(4, 20, 1, generator=torch.manual_seed(1))
    net = sr.network(module, adapter=adapter)
    expected = module(x).detach()
    np.testing.assert_allclose(net.outputs(net.model, x), expected, rtol=0, atol=2e-4 * expected.abs().max().item())
    pruned = sr.prune(net.model, sr.select(sr.score(net.model, "magnitude", scope="system"), ratio=0.4, scope="system"))
    small = sr.replace_layers(module, pruned, batch=x)
    got = small(x).detach().numpy()
    np.testing.assert_allclose(got, net.outputs(pruned, x), rtol=0, atol=2e-4 * np.abs(got).max())
    if family != "s4dplr":  # whose layer applies its activation itself
        np.testing.assert_allclose(got, silenced(module, net.model, pruned, x), rtol=0, atol=2e-4 * np.abs(got).max())
    small.train()
    small(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in small.parameters())


def silenced(module, model, pruned, x):
    """Outputs of the original with what the dropped states do taken off each layer's output."""
    module = copy.deepcopy(module)
    for name, ssm in model.items():

        def hook(layer, args, y, full=ssm, left=pruned[name]):
            u = args[0].double().numpy()
            return y + torch.as_tensor(sr.simulate(left, u) - sr.simulate(full, u)).float()

        module.get_submodule(name).register_forward_hook(hook)
    with torch.no_grad():
        return module(x).numpy()
