"""One sample at a time in PyTorch, compiled, in ONNX and in C; and a drop-in layer above its engine."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import ssmreduce as sr
from ssmreduce.networks._torch_kernels import _packed
from ssmreduce.networks._torch_stepper import LayerStepper, prepared

from . import networks
from .parallel import RATIO, STATES, WIDTH
from .timing import medians, row

STREAMS, SAMPLES = 64, 2000
MAIN = """#include <stdio.h>
#include <time.h>
#include "net.h"
int main(void) {
    static net_t net;
    float input[NET_INPUTS] = {0.5f}, output[NET_OUTPUTS], sum = 0.0f;
    net_reset(&net);
    const clock_t start = clock();
    for (int k = 0; k < 100000; k++) {
        net_step(&net, input, output);
        sum += output[0];
    }
    printf("%g %g", (double)(clock() - start) / CLOCKS_PER_SEC * 10.0, (double)sum);
    return 0;
}
"""


def c_step(module: torch.nn.Module) -> float:
    """Microseconds of a step in C; NaN without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return float("nan")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sr.export_c(module, place / "net.h", name="net")
        (place / "main.c").write_text(MAIN)
        flags = ["-std=c99", "-O3", "-march=native"]
        subprocess.run([compiler, *flags, place / "main.c", "-o", place / "main", "-lm"], check=True)
        return float(subprocess.run([place / "main"], check=True, capture_output=True, text=True).stdout.split()[0])


def onnx_step(module: torch.nn.Module, states: int) -> Callable | None:
    """A step in onnxruntime on one thread; None where it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        sr.networks.export_onnx(module, Path(folder) / "net.onnx")
        session = onnxruntime.InferenceSession(Path(folder) / "net.onnx", settings)
    feed = {"u": np.zeros((1, WIDTH), np.float32), "state": np.zeros((1, states), np.float32)}
    return lambda: session.run(None, feed)


def steps(title: str, module: torch.nn.Module, options: dict) -> None:
    """A row: microseconds of a step."""
    step = sr.networks.stepper(module)
    many, double = step.fork(STREAMS), sr.networks.stepper(module, state_dtype="double")
    layered = LayerStepper(*prepared(module, WIDTH), 1)
    plain = sr.networks.exportable(module)
    u, state, v = np.zeros(WIDTH, np.float32), plain.initial_state(), torch.zeros(1, WIDTH)
    block, each = np.zeros((SAMPLES, WIDTH), np.float32), np.zeros((STREAMS, WIDTH), np.float32)
    calls: dict[str, Callable] = {
        "plain torch": lambda: plain(v, state),
        "layer by layer": lambda: layered(u),
        "call": lambda: step(u),
        "state double": lambda: double(u),
        "in a loop": lambda: step.run(block),
        f"{STREAMS} streams": lambda: many(each),
    }
    if (onnx := onnx_step(module, step.program.states)) is not None:
        calls["ONNX"] = onnx
    with torch.no_grad():
        found = medians(calls, **options["clock"])
    found["in a loop"] /= SAMPLES
    print(row("us a step", *calls, "C"))
    print(row(title, *(f"{1e6 * seconds:.1f}" for seconds in found.values()), f"{c_step(module):.1f}"), flush=True)


def operator(title: str, module: torch.nn.Module, options: dict) -> None:
    """A row: microseconds of a layer in PyTorch, through the operator, and of its engine."""
    layer = next(part for part in module.modules() if isinstance(part, sr.networks.SSMLayer))
    u, tensors = torch.randn(1, 64, WIDTH), layer._tensors()
    if tensors[7] is None:
        return
    with torch.inference_mode():
        packed = _packed(tensors, layer.systems)
        first = np.zeros((1, packed.systems, packed.order), packed.kind)
        calls = {
            "engine": lambda: packed.ready.run(u.numpy(), first, None, threads=1),
            "layer": lambda: layer.run(u),
            "operator": lambda: torch.ops.ssmreduce.respond(u, tensors, layer.systems, None, False),
        }
        found = medians(calls, **options["clock"])
    print(row("us at 1 x 64", *calls, "above"))
    times = [1e6 * found[name] for name in calls]
    print(row(title, *(f"{t:.1f}" for t in times), f"{times[1] - times[0]:.1f}"), flush=True)


def run(options: dict) -> None:
    """S5 and S4D, all states and a fifth of them."""
    torch.manual_seed(0)
    print(f"\nSteps of networks of {networks.LAYERS} layers, width {WIDTH}")
    for name, module in (
        ("S5", networks.s5(WIDTH, STATES)),
        ("S4D", networks.S4DNetwork(WIDTH, STATES // 2, first=False).eval()),
    ):
        for share, ratio in (("all states", 0.0), ("a fifth", RATIO)):
            steps(f"{name}, {share}", networks.reduced(module, ratio), options)
    print("\nA drop-in layer above its engine")
    for share, ratio in (("S5, all states", 0.0), ("S5, a fifth", RATIO)):
        operator(share, networks.reduced(networks.s5(WIDTH, STATES), ratio), options)
