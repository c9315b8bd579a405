"""``python -m benchmarks.speed [--quick] [--sections parallel steps memory] [--threads 1 2] [--clock wall]``.

Networks of 4 layers, width 64, float32, no gradients. 'stock' is the network as its package makes it; 'published' is
S4D as published, which computes its kernel in each pass, and 'cached' the same with the kernels kept. 'all states' and
'a fifth' are drop-ins with all states and with 80 % of them removed, 'no layers' the network around its state-space
layers, 'kernels alone' the engine of 'a fifth' without PyTorch. Calls take turns; medians of rounds are shown.
"""

import argparse
import os
import platform

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import torch

from . import memory, parallel, steps
from .timing import CLOCKS

SECTIONS = ("parallel", "steps", "memory")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few sizes and rounds")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of the process, on a shared machine")
    parser.add_argument("--peak", choices=memory.CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak is not None:
        print(memory.peak(args.peak))
        return
    print(f"{platform.processor() or platform.machine()}, PyTorch {torch.__version__}, {args.clock} time")
    timing = {"rounds": 3 if args.quick else 5, "turn": 0.02 if args.quick else 0.1, "clock": args.clock}
    for threads in args.threads if "parallel" in args.sections else []:
        torch.set_num_threads(threads)
        parallel.run({"threads": threads, "quick": args.quick, "clock": timing})
    torch.set_num_threads(1)
    if "steps" in args.sections:
        steps.run({"clock": timing})
    if "memory" in args.sections:
        memory.run({})


if __name__ == "__main__":
    main()
