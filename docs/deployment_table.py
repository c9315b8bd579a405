"""The table of ``guide/deployment.rst``, made by trying each form on a network: ``python docs/deployment_table.py``."""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

import torch_networks

import ssmreduce as sr
from ssmreduce.networks import _torch_kernels

HEAD = ("family", "kernel", "compiled step", "torch.export", "ONNX step", "ONNX blocks", "ONNX scan", "C")
LENGTH = 16


def _s5_pytorch() -> torch.nn.Module:
    from s5 import S5Block

    return S5Block(8, 8, bidir=False).eval()


NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "S5": torch_networks.s5_digits,
    "S5 of s5-pytorch": _s5_pytorch,
    "S5, bidirectional": torch_networks.s5_bidirectional_digits,
    "LRU": torch_networks.lru_digits,
    "S4D": torch_networks.s4d_mnist1d,
}


def _kernel(net: sr.networks.TorchNetwork) -> None:
    """Raise unless the drop-ins run on the kernels."""
    module, width = net.with_all_layers(), _width(net)
    with torch.no_grad():
        module(torch.zeros(1, LENGTH, width))
    layers = [part for part in module.modules() if isinstance(part, sr.networks.SSMLayer)]
    if not all(layer.C.data_ptr() in _torch_kernels._KEPT for layer in layers):
        raise RuntimeError("a layer did not run on its kernel")


def _width(net: sr.networks.TorchNetwork) -> int:
    from ssmreduce.networks._torch_stepper import input_width

    return input_width(net.module)


def _export(net: sr.networks.TorchNetwork) -> None:
    """The network itself, with the operator, which is what every family can do."""
    with torch.no_grad():
        torch.export.export(net.with_all_layers(), (torch.zeros(1, LENGTH, _width(net)),), strict=False)


def _onnx(form: str, length: int | None = None) -> Callable:
    def attempt(net: sr.networks.TorchNetwork) -> None:
        with tempfile.TemporaryDirectory() as folder:
            sr.networks.export_onnx(net, Path(folder) / "net.onnx", form, length=length)

    return attempt


def _c(net: sr.networks.TorchNetwork) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sr.export_c(net, Path(folder) / "net.h")


ATTEMPTS: tuple[Callable, ...] = (
    _kernel,
    sr.networks.stepper,
    _export,
    _onnx("step"),
    _onnx("blocks", LENGTH),
    _onnx("scan"),
    _c,
)


def row(name: str) -> tuple[str, ...]:
    """One family: which forms its network takes."""
    net = sr.network(NETWORKS[name]())
    cells = []
    for attempt in ATTEMPTS:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporters' own deprecations
                attempt(net)
            cells.append("yes")
        except (sr.errors.NotCausalError, sr.errors.NotRepresentableError):
            cells.append("")
    return name, *cells


def table() -> str:
    """The table in reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for cells in [HEAD, *map(row, NETWORKS)]:
        lines += [f"   {'*' if i == 0 else ' '} - {cell}".rstrip() for i, cell in enumerate(cells)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table())
