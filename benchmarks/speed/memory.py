"""Peak memory of a forward pass above that of its input, each in a process of its own."""

import resource
import subprocess
import sys

import torch

from . import networks
from .parallel import RATIO, STATES, WIDTH
from .timing import row

BATCH, LENGTH = 8, 16384
CASES = ("s5 stock", "s5 a fifth", "s4d published", "s4d cached", "s4d a fifth")


def peak(case: str) -> float:
    """MB that a pass adds to the peak of the process; to be called once in a process."""
    torch.set_num_threads(1)
    family, kind = case.split(" ", 1)
    stock = networks.s5(WIDTH, STATES) if family == "s5" else networks.S4DNetwork(WIDTH, STATES // 2, first=False)
    module = stock.eval()
    if kind == "a fifth":
        module = networks.reduced(stock, RATIO)
    elif kind == "cached":
        module = networks.kept(stock)
    with torch.no_grad():
        module(torch.zeros(1, 64, WIDTH))
        u = torch.zeros(BATCH, LENGTH, WIDTH)
        u += 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        module(u)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def run(options: dict) -> None:
    """A row for each case."""
    size = BATCH * LENGTH * WIDTH * 4 / 2**20
    print(f"\nPeak memory of a pass, MB; batch {BATCH}, {LENGTH} samples, an array of activations has {size:.0f} MB")
    for case in CASES:
        command = [sys.executable, "-m", "benchmarks.speed", "--peak", case]
        found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(row(case, f"{float(found):.0f}"), flush=True)
