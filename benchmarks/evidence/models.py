"""Networks of four state-space layers in PyTorch, and the same networks around reduced systems."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn

import ssmreduce as sr

from .files import write_atomically
from .layers import LRU, S4D, S5, Matrices, matrices_of, run

WIDTH, LAYERS = 32, 4
STATES = {"s5": 32, "s5-bi": 32, "s4d": 16, "lru": 64}
ADAPTERS: dict[str, sr.adapters.Adapter] = {
    "s5": sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False),
    "s5-bi": sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False),
    "s4d": sr.adapters.S4D(),
    "lru": sr.adapters.LRU(),
}


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes
    ----------
    width, layers : int
    states : int, optional
        Stored states per layer (S4D: per feature); by default those of `STATES`.
    blocks : int
        Of the initial state matrix of S5.
    """

    width: int = WIDTH
    layers: int = LAYERS
    states: int | None = None
    blocks: int = 4


def make_layer(kind: str, size: Size, rng: np.random.Generator) -> nn.Module:
    """A freshly initialised layer: ``s5``, ``s5-bi`` (bidirectional), ``s4d`` or ``lru``."""
    states = size.states or STATES[kind]
    if kind in ("s5", "s5-bi"):
        return S5(size.width, states, rng, bidirectional=kind == "s5-bi", blocks=size.blocks)
    return {"s4d": S4D, "lru": LRU}[kind](size.width, states, rng)


class TiedDropout(nn.Module):
    """Dropout with one mask per sequence and feature, the same at all steps."""

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map x (batch, L, width) to the same shape."""
        if not self.training or self.p == 0:
            return x
        keep = torch.rand(x.shape[0], 1, x.shape[2]) >= self.p
        return x * keep / (1 - self.p)


class Block(nn.Module):
    """Pre-norm residual block: batch norm, state-space layer, GELU, sigmoid gate."""

    def __init__(self, kind: str, size: Size, dropout: float, rng: np.random.Generator):
        super().__init__()
        self.norm = nn.BatchNorm1d(size.width)
        self.seq = make_layer(kind, size, rng)
        self.gate = nn.Linear(size.width, size.width)
        self.drop = TiedDropout(dropout)

    def forward(self, x: torch.Tensor, system: Matrices | None = None, tap: Callable | None = None) -> torch.Tensor:
        """Map x (batch, L, width) to the same shape, with another system in place of the layer's own if given."""
        u = self.norm(x.flatten(0, 1)).view_as(x)
        if tap is not None:
            tap(u)
        y = run(self.seq.matrices() if system is None else system, u)
        g = self.drop(nn.functional.gelu(y, approximate="tanh"))
        return x + self.drop(g * torch.sigmoid(self.gate(g)))


class Network(nn.Module):
    """Encoder, blocks, mean over time, linear decoder.

    Parameters
    ----------
    kind : {"s5", "s5-bi", "s4d", "lru"}
    channels, classes : int
    tokens : int
        Size of the vocabulary, 0 for real channels.
    size : Size, optional
    dropout : float
    seed : int
        Of the initial parameters.
    """

    def __init__(
        self,
        kind: str,
        channels: int,
        classes: int,
        *,
        tokens: int = 0,
        size: Size | None = None,
        dropout: float = 0.05,
        seed: int = 0,
    ):
        super().__init__()
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        size = Size() if size is None else size
        self.kind = kind
        self.encoder = nn.Embedding(tokens, size.width) if tokens else nn.Linear(channels, size.width)
        self.layers = nn.ModuleList(Block(kind, size, dropout, rng) for _ in range(size.layers))
        self.decoder = nn.Linear(size.width, classes)

    def forward(
        self, x: torch.Tensor, systems: Mapping[int, Matrices] | None = None, tap: Callable | None = None
    ) -> torch.Tensor:
        """Map sequences to logits (batch, classes); `tap` is called with each layer's number and input."""
        h = self.encoder(x)
        for i, block in enumerate(self.layers):
            h = block(h, None if systems is None else systems[i], None if tap is None else _numbered(tap, i))
        return self.decoder(h.mean(dim=1))


def _numbered(tap: Callable, number: int) -> Callable:
    return lambda u: tap(number, u)


def layer_name(number: int) -> str:
    """Name under which the library's adapters find a layer."""
    return f"layers.{number}.seq"


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and the model that the library reads from it: what reductions start from.

    Attributes
    ----------
    network : Network
        In evaluation mode, never changed.
    model : SSMModel
    """

    network: Network
    model: sr.SSMModel
    info: Mapping[str, Any] = field(default_factory=dict)

    def logits(self, model: sr.SSMModel, x: np.ndarray, *, batch: int = 250) -> np.ndarray:
        """Logits (count, classes) of the network with the systems of `model`."""
        return self._forward(model, x, batch, None)

    def layer_inputs(self, model: sr.SSMModel, x: np.ndarray, *, batch: int = 250) -> dict[str, np.ndarray]:
        """What every layer is fed: layer name -> array (count, L, width), float64."""
        taken: dict[str, list[np.ndarray]] = {}
        self._forward(model, x, batch, lambda i, u: taken.setdefault(layer_name(i), []).append(u.numpy()))
        return {name: np.concatenate(parts).astype(np.float64) for name, parts in taken.items()}

    def correct(self, model: sr.SSMModel, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Whether each sequence is put into its class: bool, shape (count,)."""
        return self.logits(model, x).argmax(axis=1) == y

    @torch.no_grad()
    def _forward(self, model: sr.SSMModel, x: np.ndarray, batch: int, tap: Callable | None) -> np.ndarray:
        systems = {i: matrices_of(model[layer_name(i)]) for i in range(len(self.network.layers))}
        parts = torch.from_numpy(np.ascontiguousarray(x)).split(batch)
        return np.concatenate([self.network(part, systems, tap).numpy() for part in parts])


def save_network(network: Network, path: Path, info: Mapping[str, Any]) -> None:
    """Write the float32 parameters, the adapter's flags and what is needed to build the network again."""
    tensors = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    adapter = ADAPTERS[network.kind]
    flags = {key: value for key, value in vars(adapter).items() if value is not None}
    metadata = {
        "format": "pt",
        "ssmreduce.adapter": json.dumps({"name": adapter.name, **flags}),
        "evidence": json.dumps(dict(info), sort_keys=True),
    }
    write_atomically(path, save(tensors, metadata))


def load_network(path: Path) -> Trained:
    """Read what `save_network` wrote: the network for PyTorch, and the model through the library's adapter."""
    model = sr.load(path)
    info = json.loads(model.metadata["evidence"])
    size = Size(**info.get("size", {}))
    network = Network(info["kind"], info["channels"], info["classes"], tokens=info["tokens"], size=size)
    network.load_state_dict(load_file(path))
    return Trained(network.eval(), model, info)
