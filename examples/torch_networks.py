"""Whole networks around the layers in PyTorch, with the parameter names of the checkpoints that are shipped here.

They are written for reading. Each layer is the family's formula in a few lines, with an explicit loop over time or a
Fourier transform; the library swaps it for a layer of its own when it reduces the network.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

ROOT = Path(__file__).resolve().parents[1]


class S5(nn.Module):
    """S5 with one state of each conjugate pair: zero-order hold, uni- or bidirectional."""

    def __init__(self, width: int, states: int, bidirectional: bool = False) -> None:
        super().__init__()
        self.Lambda_re = nn.Parameter(torch.full((states,), -0.5))
        self.Lambda_im = nn.Parameter(torch.arange(states) * 3.14)
        self.B = nn.Parameter(torch.randn(states, width, 2) / width**0.5)
        self.C = nn.Parameter(torch.randn(width, states * (1 + bidirectional), 2) / states**0.5)
        self.D = nn.Parameter(torch.randn(width))
        self.log_step = nn.Parameter(torch.full((states, 1), -3.0))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Map (batch, L, width) to the same shape."""
        eigenvalues = torch.complex(self.Lambda_re, self.Lambda_im)
        Lambda = torch.exp(eigenvalues * self.log_step[:, 0].exp())
        B = ((Lambda - 1) / eigenvalues)[:, None] * torch.view_as_complex(self.B)
        driven = u.to(B.dtype) @ B.T
        x = recurrence(Lambda, driven)
        if self.C.shape[1] > len(Lambda):
            x = torch.cat([x, recurrence(Lambda, driven.flip(1)).flip(1)], dim=-1)
        return 2 * (x @ torch.view_as_complex(self.C).T).real + self.D * u


class LRU(nn.Module):
    """The Linear Recurrent Unit with a full D, under the names of lru-reduction."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.nu_log = nn.Parameter(torch.full((states,), -3.0))
        self.theta_log = nn.Parameter(torch.log(torch.linspace(0.1, 3, states)))
        self.gamma_log = nn.Parameter(torch.full((states,), -1.0))
        self.B = nn.Parameter(torch.randn(states, width, dtype=torch.complex64) / width**0.5)
        self.C = nn.Parameter(torch.randn(width, states, dtype=torch.complex64) / states**0.5)
        self.D = nn.Parameter(torch.randn(width, width) / width**0.5)

    def forward(self, input: torch.Tensor, state: torch.Tensor | None = None, mode: str = "scan") -> torch.Tensor:
        """Map (batch, L, width) to the same shape."""
        Lambda = torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))
        driven = input.to(self.B.dtype) @ (self.gamma_log.exp()[:, None] * self.B).T
        return (recurrence(Lambda, driven, state) @ self.C.T).real + input @ self.D.T


class S4DKernel(nn.Module):
    """Convolution kernel of S4D, one system per feature."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.C = nn.Parameter(torch.randn(width, states, 2))
        self.log_dt = nn.Parameter(torch.full((width,), -3.0))
        self.log_A_real = nn.Parameter(torch.full((width, states), -0.7))
        self.A_imag = nn.Parameter(3.14 * torch.arange(states).repeat(width, 1))

    def forward(self, L: int) -> torch.Tensor:
        """Kernel (width, L)."""
        A = torch.complex(-self.log_A_real.exp(), self.A_imag)
        step = A * self.log_dt.exp()[:, None]
        C = torch.view_as_complex(self.C) * (step.exp() - 1) / A
        powers = torch.exp(step[..., None] * torch.arange(L, device=A.device))
        return 2 * torch.einsum("hn,hnl->hl", C, powers).real


class S4D(nn.Module):
    """S4D layer on (batch, width, L), with its activation and output map, which returns a state of None."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.D = nn.Parameter(torch.randn(width))
        self.kernel = S4DKernel(width, states)
        self.output_linear = nn.Sequential(nn.Conv1d(width, 2 * width, kernel_size=1), nn.GLU(dim=-2))

    def forward(self, u: torch.Tensor, **kwargs: object) -> tuple[torch.Tensor, None]:
        """Map (batch, width, L) to the same shape."""
        L = u.shape[-1]
        kernel = torch.fft.rfft(self.kernel(L=L), n=2 * L)
        y = torch.fft.irfft(torch.fft.rfft(u, n=2 * L) * kernel, n=2 * L)[..., :L] + u * self.D[:, None]
        return self.output_linear(nn.functional.gelu(y)), None


def recurrence(Lambda: torch.Tensor, driven: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
    """States of x[k] = Lambda x[k-1] + driven[k], in a loop over time."""
    x = torch.zeros_like(driven[:, 0]) if state is None else state
    states = []
    for v in driven.unbind(1):
        x = Lambda * x + v
        states.append(x)
    return torch.stack(states, dim=1)


class S5Block(nn.Module):
    """Pre-norm residual block: batch norm, S5, GELU and a sigmoid gate."""

    def __init__(self, width: int, states: int, bidirectional: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.seq = S5(width, states, bidirectional)
        self.out2 = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, L, width) to the same shape."""
        u = self.norm(x.flatten(0, 1)).view_as(x)
        g = nn.functional.gelu(self.seq(u), approximate="tanh")
        return x + g * torch.sigmoid(self.out2(g))


class S5Classifier(nn.Module):
    """Linear encoder, S5 blocks, mean over time, linear decoder."""

    def __init__(self, width: int = 32, states: int = 64, bidirectional: bool = False, layers: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, width)
        self.layers = nn.ModuleList(S5Block(width, states, bidirectional) for _ in range(layers))
        self.decoder = nn.Linear(width, 10)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) of sequences (batch, L, 1)."""
        x = self.encoder(u)
        for layer in self.layers:
            x = layer(x)
        return self.decoder(x.mean(dim=1))


class LRUBlock(nn.Module):
    """Pre-norm residual block: layer norm, LRU, GELU and a gated linear map."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width)
        self.lru = LRU(width, states)
        self.ff = nn.Module()
        self.ff.output_linear = nn.Sequential(nn.Linear(width, 2 * width), nn.GLU(dim=-1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, L, width) to the same shape."""
        z = self.lru(self.ln(x), None, "scan")
        return x + self.ff.output_linear(nn.functional.gelu(z))


class LRUClassifier(nn.Module):
    """The deep LRU of lru-reduction with mean pooling."""

    def __init__(self, width: int = 24, states: int = 48, layers: int = 3) -> None:
        super().__init__()
        self.dlru = nn.Module()
        self.dlru.encoder = nn.Linear(1, width)
        self.dlru.blocks = nn.ModuleList(LRUBlock(width, states) for _ in range(layers))
        self.dlru.decoder = nn.Linear(width, 10)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) of sequences (batch, L, 1)."""
        x = self.dlru.encoder(u)
        for block in self.dlru.blocks:
            x = block(x)
        return self.dlru.decoder(x).mean(dim=1)


class S4DClassifier(nn.Module):
    """The example network around the minimal S4D of state-spaces/s4 (post-norm)."""

    def __init__(self, width: int = 48, states: int = 32, layers: int = 4) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, width)
        self.s4_layers = nn.ModuleList(S4D(width, states) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.decoder = nn.Linear(width, 10)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Logits (batch, 10) of sequences (batch, L, 1)."""
        x = self.encoder(u)
        for layer, norm in zip(self.s4_layers, self.norms, strict=True):
            z, _ = layer(x.transpose(-1, -2))
            x = norm(x + z.transpose(-1, -2))
        return self.decoder(x.mean(dim=1))


def loaded(network: nn.Module, file: str) -> nn.Module:
    """A network with the parameters of a file of this repository, in evaluation mode."""
    network.load_state_dict(load_file(ROOT / file))
    return network.eval()


def s5_digits() -> nn.Module:
    """The trained S5 classifier of sequential digits."""
    return loaded(S5Classifier(), "examples/s5_digits/model.safetensors")


def s5_bidirectional_digits() -> nn.Module:
    """The trained bidirectional S5 classifier of sequential digits."""
    return loaded(S5Classifier(bidirectional=True), "tests/data/s5_bidirectional_digits64/model.safetensors")


def lru_digits() -> nn.Module:
    """The trained LRU classifier of sequential digits."""
    return loaded(LRUClassifier(), "tests/data/lru_forgi86_digits64/model.safetensors")


def s4d_mnist1d() -> nn.Module:
    """The trained S4D classifier of MNIST-1D."""
    return loaded(S4DClassifier(), "tests/data/s4d_minimal_mnist1d/model.safetensors")


def s5_last_digits() -> nn.Module:
    """The S5 classifier that was trained in Flax with the code of LAST, its parameters under the names used here."""
    import ssmreduce as sr

    folder = ROOT / "tests/data/s5_last_uni_digits64"
    adapter = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
    params = sr.load(folder / "checkpoint.msgpack", adapter=adapter).params
    state = {}
    for key, value in params.items():
        _, *path = key.split("/")
        tensor = torch.tensor(value)
        path = [part.replace("layers_", "layers.") for part in path if part != "encoder" or path.count("encoder") > 1]
        path = ["encoder", *path[2:]] if path.count("encoder") > 1 else path
        leaf = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}.get(
            path[-1], path[-1]
        )
        state[".".join([*path[:-1], leaf])] = tensor.T if path[-1] == "kernel" else tensor
    network = S5Classifier()
    network.load_state_dict(state, strict=False)
    return network.eval()
