"""Try hostile inputs, print the table of what came of them: ``python -m fuzz [--count 100000] [--seed 0]``."""

import argparse
import multiprocessing
import platform
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from .inputs import SUFFIXES
from .outcomes import BAD, FACTOR, LONGEST, SPARE, Tally
from .trials import alone


def main():
    """Run, print, and fail where anything bad came up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start, tally = time.perf_counter(), Tally()
    shares = [(args.count // len(SUFFIXES), [args.seed, i], (s,)) for i, s in enumerate(SUFFIXES)]
    with ProcessPoolExecutor(len(shares), multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(alone, *zip(*shares, strict=True)):
            tally.take(part)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    system = f"Python {platform.python_version()}, NumPy {np.__version__}, {sys.platform}"
    print(f"hostile inputs, seed {args.seed}; {system}")
    print("right: what was written came back; refused: an error of ssmreduce; unverifiable: other values in msgpack,")
    print(f"which has no checksums; WRONG: something else; RAW: another error; HANG: over {LONGEST:g} s;")
    print(f"MEMORY: over {FACTOR} x the file + {SPARE >> 20} MiB (watched in crafted files and every 20th damaged one)")
    print(tally.table())
    print(f"{time.perf_counter() - start:.0f} s, largest memory of a process {peak:,.0f} MiB")
    for row, found, why, example in tally.examples:
        print(" ".join(row), found, why, repr(example)[:300])
    print(f"{tally.bad()} bad outcomes ({', '.join(BAD)})")
    return int(tally.bad() > 0)


if __name__ == "__main__":
    sys.exit(main())
