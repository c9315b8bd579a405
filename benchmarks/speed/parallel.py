"""Whole networks and layers alone on whole sequences: stock, drop-in, kernel."""

from collections.abc import Callable

import numpy as np
import torch

from ssmreduce.networks import SSMLayer

from . import networks
from .timing import medians, ms, row

WIDTH, STATES, RATIO = 64, 64, 0.8
LARGEST = 2**17  # samples of a batch; beyond it the stock networks need more memory and time than there is here


def sizes(quick: bool) -> list[tuple[int, int]]:
    """Pairs (batch, length)."""
    if quick:
        return [(1, 64), (1, 1024), (8, 1024)]
    lengths = (64, 256, 1024, 4096, 16384)
    return [(batch, length) for batch in (1, 8, 64) for length in lengths if batch * length <= LARGEST]


def kernel_calls(module: torch.nn.Module, batch: int, length: int) -> Callable:
    """All layers of a network on their engine, without PyTorch."""
    from ssmreduce.networks._torch_kernels import _packed

    runs = []
    for part in module.modules():
        if isinstance(part, SSMLayer):
            tensors = part._tensors()
            width = part.systems * part.inputs
            if tensors[7] is None:  # the layer around it has D
                tensors[7] = torch.ones(width)
            packed = _packed(tensors, part.systems)
            u = np.random.default_rng(0).standard_normal((batch, length, width)).astype(np.float32)
            first = np.zeros((batch, packed.systems, packed.order), packed.kind)
            runs.append((packed.ready, u, first, tensors))

    def call() -> None:
        for ready, u, first, _ in runs:
            ready.run(u, first, None, threads=torch.get_num_threads())

    return call


def measure(title: str, stock: dict[str, torch.nn.Module], base: str, options: dict) -> None:
    """One table: times of the stock networks and of the drop-ins, and speed-ups over `base`."""
    module = next(iter(stock.values()))
    with torch.no_grad():
        candidates = {
            **stock,
            "all states": networks.reduced(module, 0.0),
            "a fifth": networks.reduced(module, RATIO),
            "no layers": networks.without_layers(module),
        }
    print(f"\n{title}: ms a call, {options['threads']} thread(s); speed-ups over '{base}'")
    names = [*candidates, "kernels alone"]
    print(row("batch x length", *names, "all states", "a fifth", "limit"), flush=True)
    for batch, length in sizes(options["quick"]):
        u = torch.randn(batch, length, WIDTH, generator=torch.manual_seed(0))
        calls = {name: (lambda m=m, u=u: m(u)) for name, m in candidates.items()}
        calls["kernels alone"] = kernel_calls(candidates["a fifth"], batch, length)
        with torch.no_grad():
            found = medians(calls, **options["clock"])
        gains = [f"{found[base] / found[name]:.2f}x" for name in ("all states", "a fifth", "no layers")]
        print(row(f"{batch} x {length}", *(ms(found[name]) for name in names), *gains), flush=True)


def run(options: dict) -> None:
    """S5, then S4D in both layouts."""
    torch.manual_seed(0)
    measure("S5, blocks of s5-pytorch", {"stock": networks.s5(WIDTH, STATES)}, "stock", options)
    for first in (False, True):
        published = networks.S4DNetwork(WIDTH, STATES // 2, first=first).eval()
        stock = {"published": published, "cached": networks.kept(published)}
        layout = "(batch, width, L)" if first else "(batch, L, width)"
        measure(f"S4D, blocks in {layout}", stock, "cached", options)
