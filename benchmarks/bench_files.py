"""What safety costs: the share of reading back in a save, checksums in a load, and the peak memory of both.

Each save and load of a model of `--mebibytes` in eight tensors is a process of its own, so that its peak memory is its
own; times are medians over the repetitions, kinds taken in turn.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import numpy as np

from ssmreduce.models import _checkpoints

SUFFIXES = (".safetensors", ".npz", ".msgpack", ".pt")


def memory():
    """Largest memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def params_of(mebibytes):
    """Eight tensors of random numbers."""
    rng = np.random.default_rng(0)
    return {f"layers.{i}.weight": rng.random(mebibytes * 2**18 // 8, dtype=np.float32) for i in range(8)}


def one(task, path, mebibytes):
    """Seconds and memory, over that of the process before, of one save or load."""
    warm = path.with_name(f"warm{path.suffix}")
    _checkpoints.write_file(warm, {"a": np.ones(2)}, {})
    _checkpoints.read_file(warm)
    params = None if task == "load" else params_of(mebibytes)
    unchecked = mock.patch.object(_checkpoints, "_read_back", return_value=None)
    before = memory()
    start = time.perf_counter()
    with unchecked if task == "save unchecked" else nullcontext():
        if params is None:
            params = _checkpoints.read_file(path)[0]
        else:
            _checkpoints.write_file(path, params, {})
    seconds = time.perf_counter() - start
    held = 0 if task == "load" else sum(array.nbytes for array in params.values())
    print(json.dumps({"seconds": seconds, "memory": memory() - before + held}))


def main():
    """Run every kind in turn, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return one(args.one[0], Path(args.one[1]), args.mebibytes)
    print(f"{args.mebibytes} MiB in 8 tensors, median of {args.repetitions}; memory over that of the tensors")
    print(f"{'':14}{'save, s':>10}{'read back':>12}{'load, s':>10}{'save, memory':>15}{'load, memory':>15}")
    tasks = ("save unchecked", "save", "load")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        for suffix in SUFFIXES:
            found = {task: [] for task in tasks}
            for _ in range(args.repetitions):
                for task in tasks:
                    command = [sys.executable, __file__, "--mebibytes", str(args.mebibytes)]
                    command += ["--one", task, str(Path(folder, f"x{suffix}"))]
                    found[task].append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))
            seconds = {task: statistics.median(run["seconds"] for run in runs) for task, runs in found.items()}
            peak = {task: max(run["memory"] for run in runs) / args.mebibytes / 2**20 for task, runs in found.items()}
            share = 1 - seconds["save unchecked"] / seconds["save"]
            print(
                f"{suffix:14}{seconds['save']:10.2f}{share:12.0%}{seconds['load']:10.2f}"
                f"{peak['save']:15.2f}{peak['load']:15.2f}",
                flush=True,
            )
    return None


if __name__ == "__main__":
    main()
