"""CPU seconds of first calls, nothing compiled or a filled cache: ``python benchmarks/bench_first_call.py``.

Each row is two fresh processes with one cache of compiled code, empty for the first. Imports, reading and scoring are
not counted, threads are. "compiled" is how many functions the first process compiled.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUP = """
import time
import numba
import numpy as np
from numba.core import event
import ssmreduce as sr

model = sr.load("examples/s5_digits/model.safetensors")
pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.3))
layer, rng = model["layers.0.seq"], np.random.default_rng(0)
channels = sr.DiagonalSSM(
    np.exp((-0.5 + 1j * np.pi * np.arange(16)) * rng.uniform(1e-3, 1e-1, (128, 1))),
    np.ones((128, 16, 1)), rng.standard_normal((128, 1, 16)), np.zeros((128, 1, 1)), conj_sym=True,
)
functions = event.RecordingListener()
event.register("numba:compile", functions)
start = time.process_time()
"""
CALLS = {
    "compare of a trained S5 network (4 layers, 64 states)": 'sr.compare(model, {"LAST": pruned})',
    "peak_gain of one of its layers": "sr.peak_gain(layer)",
    "peak_gain of 128 channels of S4D": "sr.peak_gain(channels)",
    "simulate, a layer of S5": "sr.simulate(layer, np.ones((64, 32)))",
    "simulate, 128 channels of S4D": "sr.simulate(channels, np.ones((64, 128)))",
    "scan": "sr.scan(layer.Lambda, np.ones((1, 64, 64), complex))",
    "hankel_singular_values of a layer of S5": "sr.hankel_singular_values(layer)",
}
REPORT = "\nprint(time.process_time() - start, sum(done.is_start for _, done in functions.buffer))\n"


def seconds(call: str, cache: str) -> tuple[float, int]:
    """CPU seconds of a call in a fresh process, and the functions that Numba was asked to compile."""
    environment = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SETUP + call + REPORT]
    found = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return float(found[0]), int(found[1])


def main() -> None:
    import numba

    print(f"Python {sys.version.split()[0]}, Numba {numba.__version__}; CPU seconds of a first call")
    print(f"{'call':58}{'nothing kept':>14}{'compiled':>10}{'kept':>8}")
    for title, call in CALLS.items():
        with tempfile.TemporaryDirectory() as cache:
            (first, count), (again, _) = seconds(call, cache), seconds(call, cache)
        print(f"{title:58}{first:14.2f}{count:10}{again:8.2f}", flush=True)


if __name__ == "__main__":
    main()
