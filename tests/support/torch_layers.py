"""Live layers whose code is on no package index, as their authors write them: parameter names, calls and formulas."""

import torch
from torch import nn


def parameter(*shape, low=-1.0, high=1.0):
    """Uniform parameters."""
    return nn.Parameter(torch.empty(*shape).uniform_(low, high))


def pairs(tensor):
    """Real pairs as complex numbers."""
    return torch.view_as_complex(tensor)


class S4DKernel(nn.Module):
    """The diagonal kernel of state-spaces/s4, version 4, under zero-order hold."""

    def __init__(self, width, states, channels):
        super().__init__()
        self.C = parameter(channels, width, states, 2)
        self.B = parameter(1, width, states, 2)
        self.inv_dt = parameter(width, 1, low=-4, high=-1)
        self.A_real, self.A_imag = parameter(width, states), parameter(width, states, low=0.5, high=30)

    def forward(self, L, state=None, rate=1.0):
        dt = torch.exp(self.inv_dt) * rate
        A = torch.complex(-torch.exp(self.A_real), -self.A_imag)
        C = pairs(self.C) * pairs(self.B) * (torch.exp(dt * A) - 1) / A
        powers = torch.exp((dt * A)[..., None] * torch.arange(L))
        return 2 * torch.einsum("chn,hnl->chl", C, powers).real, None


class FFTConv(nn.Module):
    """Kernel, convolution, D, dropout and activation: a layer of both S4Block and DSS."""

    def __init__(self, width, kernel, channels, transposed):
        super().__init__()
        self.D, self.kernel, self.transposed = parameter(channels, width), kernel, transposed
        self.drop, self.activation = nn.Dropout(0.1), nn.GELU()

    def convolved(self, x, k):
        L = x.shape[-1]
        k_f, x_f = torch.fft.rfft(k, n=2 * L), torch.fft.rfft(x, n=2 * L)
        y = torch.fft.irfft(torch.einsum("bhl,chl->bchl", x_f, k_f), n=2 * L)[..., :L]
        return (y + torch.einsum("bhl,ch->bchl", x, self.D)).flatten(1, 2)

    def forward(self, x, state=None, rate=1.0, **kwargs):
        x = x if self.transposed else x.transpose(-1, -2)
        k, _ = self.kernel(L=x.shape[-1], rate=rate, state=state)
        y = self.drop(self.convolved(x, k))
        return self.activation(y if self.transposed else y.transpose(-1, -2)), None


class S4Block(nn.Module):
    """The block of version 4: layer and output map, ``(u) -> (y, state)``, channels first by default."""

    def __init__(self, width, states, channels=1, transposed=True):
        super().__init__()
        self.transposed = transposed
        self.layer = FFTConv(width, S4DKernel(width, states, channels), channels, transposed=False)
        self.output_linear = nn.Sequential(nn.Linear(channels * width, 2 * width), nn.GLU(dim=-1))

    def forward(self, x, lengths=None, **kwargs):
        x = x.transpose(-1, -2) if self.transposed else x
        y, state = self.layer(x, **kwargs)
        y = self.output_linear(y)
        return (y.transpose(-1, -2) if self.transposed else y), state


class DSSKernel(nn.Module):
    """The kernel of ag1988/dss, version ``exp``: all features share their poles."""

    def __init__(self, width, states, channels):
        super().__init__()
        self.W = parameter(channels, width, states, 2)
        self.log_dt = parameter(width, low=-4, high=-1)
        self.Lambda_log_neg_re, self.Lambda_im = parameter(states), parameter(states, low=-20, high=20)

    def forward(self, L, state=None):
        Lambda = torch.complex(-torch.exp(self.Lambda_log_neg_re), self.Lambda_im)
        z = torch.exp(self.log_dt)[:, None] * Lambda
        powers = torch.exp(z[..., None] * torch.arange(L))
        return torch.einsum("chn,hnl->chl", pairs(self.W) * (torch.exp(z) - 1) / Lambda, powers).real, None


class DSS(FFTConv):
    """The layer of ag1988/dss, channels first by default, with its own output map."""

    def __init__(self, width, states, channels=1, transposed=True):
        super().__init__(width, DSSKernel(width, states, channels), channels, transposed)
        self.output_linear = nn.Linear(channels * width, width)

    def forward(self, u):
        u = u if self.transposed else u.transpose(-1, -2)
        y = self.activation(self.convolved(u, self.kernel(L=u.shape[-1])[0])).transpose(-1, -2)
        y = self.output_linear(y)
        return (y.transpose(-1, -2) if self.transposed else y), None


class ATENNuate(nn.Module):
    """``SSMLayer`` of the package attenuate on (batch, width, L): an Euler input, real B and C, no feedthrough."""

    def __init__(self, width, states):
        super().__init__()
        self.A = nn.Parameter(torch.stack([torch.zeros(states), 3.0 * torch.arange(states)], dim=-1))
        self.B, self.C = parameter(states, width), parameter(width, states)
        self.log_dt = parameter(states, low=-4, high=-1)

    def forward(self, x):
        dt = torch.exp(self.log_dt)
        A = torch.complex(-nn.functional.softplus(self.A[:, 0]), self.A[:, 1])
        L = x.shape[-1]
        K = torch.exp((dt * A)[:, None] * torch.arange(L)).real
        driven = torch.einsum("bhl,nh->bnl", x, dt[:, None] * self.B)
        states = torch.fft.irfft(torch.fft.rfft(driven, n=2 * L) * torch.fft.rfft(K, n=2 * L), n=2 * L)[..., :L]
        return torch.einsum("bnl,hn->bhl", states, self.C)


class Classifier(nn.Module):
    """A residual network around two such layers, whatever they return and whichever axis has the channels."""

    def __init__(self, make, width=6, channels_first=True, classes=4):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(1, width), nn.Linear(width, classes)
        self.layers, self.channels_first = nn.ModuleList(make() for _ in range(2)), channels_first

    def forward(self, x):
        x = self.encoder(x)
        for layer in self.layers:
            y = layer(x.transpose(-1, -2) if self.channels_first else x)
            y = y[0] if isinstance(y, tuple) else y
            x = x + torch.tanh(y.transpose(-1, -2) if self.channels_first else y)
        return self.decoder(x.mean(1))
