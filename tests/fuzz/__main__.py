"""Try hostile inputs, print the table of what came of them: ``python -m fuzz [--count 100000] [--seed 0]``."""

import argparse
import itertools
import platform
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import ssmreduce as sr
from ssmreduce.calibration import load_calibration, save_calibration

from . import hostile, inputs
from .outcomes import BAD, FACTOR, GOOD, LONGEST, SPARE, Tally, outcome

SHARES = {"damaged": 0.55, "crafted": 0.27, "written": 0.13}
"""Of the whole count; what is left goes to the surroundings."""


def run(count, seed, folder, suffixes=inputs.SUFFIXES):
    """Try `count` inputs and more; the tally."""
    rng, tally = np.random.default_rng(seed), Tally()
    damaged(tally, int(SHARES["damaged"] * count), rng, folder, suffixes)
    crafted(tally, int(SHARES["crafted"] * count), rng, folder, suffixes)
    written(tally, int(SHARES["written"] * count), rng, folder, suffixes)
    surroundings(tally, count - int(sum(SHARES.values()) * count), rng, folder, suffixes)
    return tally


def damaged(tally, count, rng, folder, suffixes):
    """Good files with damage of each kind; calibrations too."""
    kinds = list(itertools.product(suffixes, inputs.DAMAGE))
    each = count // (len(kinds) + 1)
    for suffix, kind in kinds:
        path, row = folder / f"x{suffix}", (suffix, kind)
        data = inputs.good_file(suffix, path)
        with tally.timed(row):
            for i in range(each):
                content = inputs.DAMAGE[kind](data, rng)
                path.write_bytes(content)
                checked = suffix != ".msgpack"
                found = outcome(lambda: inputs.look(path, checked), len(content) if i % 20 == 0 else None)  # noqa: B023
                tally.add(row, *found, content)
    row = ("calibrations", "one bit")
    moments = rng.standard_normal((2, 9, 32))
    model = sr.load("examples/s5_digits/model.safetensors")
    small = sr.prune(model, {layer: [0, 1] for layer in model})
    save_calibration(sr.calibrate(small, {next(iter(small)): moments}), folder / "c.npz")
    data, wanted = (folder / "c.npz").read_bytes(), load_calibration(folder / "c.npz")
    with tally.timed(row):
        for _ in range(each):
            (folder / "d.npz").write_bytes(inputs.one_bit(data, rng))
            tally.add(row, *outcome(lambda: inputs.look_at_calibration(folder / "d.npz", wanted)))


def crafted(tally, count, rng, folder, suffixes):
    """Files whose headers say anything; the memory of each is watched."""
    for suffix in suffixes:
        path, row = folder / f"y{suffix}", (suffix, "crafted")
        with tally.timed(row):
            for _ in range(count // len(suffixes)):
                content = inputs.CRAFTED[suffix](rng)
                path.write_bytes(content)
                tally.add(row, *outcome(lambda: inputs.look_at_anything(path), len(content)), content)  # noqa: B023


def written(tally, count, rng, folder, suffixes):
    """Names, shapes and dtypes that are hard to write."""
    for suffix in suffixes:
        path, row = folder / f"z{suffix}", (suffix, "hard names and arrays")
        with tally.timed(row):
            for _ in range(count // len(suffixes)):
                params = inputs.hard_params(rng)
                tally.add(row, *outcome(lambda: inputs.write_and_look(path, params)), params)  # noqa: B023


def surroundings(tally, count, rng, folder, suffixes):
    """Threads, processes, signals, limits."""
    each = max(1, count // (10 * len(suffixes)))
    alike = hostile.namespaces()
    for suffix in suffixes:
        for one in (False, True):
            what = "one file" if one else "a file each"
            place = hostile.folder_of(folder, "threads")
            several(tally, (suffix, "threads,", what), lambda: hostile.in_threads(place, suffix, 16 * each, one))  # noqa: B023
            place = hostile.folder_of(folder, "processes")
            several(tally, (suffix, "processes,", what), lambda: hostile.in_processes(place, suffix, each, one))  # noqa: B023
            if alike:
                row = (suffix, "processes numbered alike,", what)
                place = hostile.folder_of(folder, "alike")
                several(tally, row, lambda: hostile.in_processes(place, suffix, each, one, True))  # noqa: B023
        place = hostile.folder_of(folder, "limits")
        for row, attempt, most in (
            ("no room", hostile.with_little_room, 40_000),
            ("no descriptors", hostile.with_few_descriptors, 6),
        ):
            with tally.timed((suffix, row)):
                for _ in range(each):
                    limit = int(rng.integers(most))
                    tally.add((suffix, row), *outcome(lambda: attempt(place, suffix, limit)))  # noqa: B023
        place, sizes = hostile.folder_of(folder, "disk"), rng.integers(1, 8000, each)
        several(tally, (suffix, "disk full"), lambda: hostile.on_a_full_disk(place, suffix, sizes))  # noqa: B023
        place = hostile.folder_of(folder, "signals")
        for row, number in (("kill -9", signal.SIGKILL), ("interrupt", signal.SIGINT)):
            with tally.timed((suffix, row)):
                for _ in range(each):
                    seconds = float(rng.uniform(0, 0.05))
                    tally.add((suffix, row), *outcome(lambda: hostile.stopped(place, suffix, number, seconds)))  # noqa: B023
    layer = hostile.wide_layer(rng)
    with tally.timed(("simulate", "no threads")):
        for _ in range(each):
            started = int(rng.integers(6))
            tally.add(("simulate", "no threads"), *outcome(lambda: hostile.with_few_threads(*layer, started)))  # noqa: B023


def several(tally, row, attempt):
    """Count each of many outcomes that come at once."""
    with tally.timed(row):
        for said in attempt():
            tally.add(row, said if said in GOOD else "WRONG", said)


def main():
    """Run, print, and fail where anything bad came up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = run(args.count, args.seed, Path(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    system = f"Python {platform.python_version()}, NumPy {np.__version__}, {sys.platform}"
    print(f"hostile inputs, seed {args.seed}; {system}")
    print("right: what was written came back; refused: an error of ssmreduce; unverifiable: other values in msgpack,")
    print(f"which has no checksums; WRONG: something else; RAW: another error; HANG: over {LONGEST:g} s;")
    print(f"MEMORY: over {FACTOR} x the file + {SPARE >> 20} MiB (watched in crafted files and every 20th damaged one)")
    print(tally.table())
    print(f"{time.perf_counter() - start:.0f} s, largest memory of the process {peak:,.0f} MiB")
    for row, found, why, example in tally.examples:
        print(" ".join(row), found, why, repr(example)[:300])
    print(f"{tally.bad()} bad outcomes ({', '.join(BAD)})")
    return int(tally.bad() > 0)


if __name__ == "__main__":
    sys.exit(main())
