"""The networks that are timed: S5 of s5-pytorch, and S4D as published, with its kernel kept, and in both layouts."""

import sys
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import torch_networks

import ssmreduce as sr

LAYERS = 4


class S4DNetwork(nn.Module):
    """Post-norm residual blocks; `first`: (batch, width, L) between blocks, as published, else (batch, L, width)."""

    def __init__(self, width: int, states: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.s4_layers = nn.ModuleList(torch_networks.S4D(width, states) for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(LAYERS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (batch, L, width) to the same shape."""
        x = x.mT.contiguous() if self.first else x
        for layer, norm in zip(self.s4_layers, self.norms, strict=True):
            x = norm((x + layer(x)[0]).mT).mT if self.first else norm(x + layer(x.mT)[0].mT)
        return x.mT if self.first else x


class KeptKernel(nn.Module):
    """The kernel of an S4D layer, computed once for each length."""

    def __init__(self, kernel: nn.Module) -> None:
        super().__init__()
        self.kernel, self.kept = kernel, {}

    def forward(self, L: int) -> torch.Tensor:
        """Kernel (width, L)."""
        if L not in self.kept:
            self.kept[L] = self.kernel(L=L)
        return self.kept[L]


class Nothing(nn.Module):
    """In place of a state-space layer that takes no time."""

    def __init__(self, *, pair: bool) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, u: torch.Tensor, *more: object, **options: object) -> object:
        """Return the input."""
        return (u, None) if self.pair else u


def s5(width: int, states: int) -> nn.Module:
    """Blocks of s5-pytorch."""
    from s5 import S5Block

    return nn.Sequential(*(S5Block(width, states, bidir=False) for _ in range(LAYERS))).eval()


def reduced(module: nn.Module, ratio: float) -> nn.Module:
    """With drop-ins in all places, a share of the states dropped; `ratio` 0 keeps all."""
    net = sr.network(module)
    if ratio == 0.0:
        return net.with_all_layers()
    scope = "system" if isinstance(module, S4DNetwork) else "layer"
    selection = sr.select(sr.score(net.model, "uniform_hinf"), ratio=ratio, scope=scope)
    return sr.replace_layers(module, sr.prune(net.model, selection)).eval()


def kept(module: nn.Module) -> nn.Module:
    """An S4D network that computes its kernels once."""
    other = S4DNetwork(*module.s4_layers[0].kernel.A_imag.shape, first=module.first)
    other.load_state_dict(module.state_dict())
    for layer in other.s4_layers:
        layer.kernel = KeptKernel(layer.kernel)
    return other.eval()


def without_layers(module: nn.Module) -> nn.Module:
    """The network around its state-space layers: what no faster layer can fall below."""
    import copy

    other = copy.deepcopy(module)
    for parent in list(other.modules()):
        for name, part in list(parent.named_children()):
            if type(part).__name__ == "S5":
                setattr(parent, name, Nothing(pair=False))
            elif isinstance(part, torch_networks.S4D):
                part.forward = _output_map(part)
    return other


def _output_map(layer: nn.Module):
    def forward(u: torch.Tensor, **ignored: object) -> tuple[torch.Tensor, None]:
        return layer.output_linear(nn.functional.gelu(u)), None

    return forward
