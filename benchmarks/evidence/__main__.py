"""Command line: ``python -m benchmarks.evidence train|run|tables``."""

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def main() -> None:
    """Read the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="benchmarks.evidence", description="Train, reduce, tabulate.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the networks that have no checkpoint yet")
    train.add_argument("--tasks", nargs="+")
    train.add_argument("--kinds", nargs="+")
    train.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    if args.command == "train":
        _train(args)


def _train(args: argparse.Namespace) -> None:
    import torch

    from .settings import SETTINGS
    from .train import Job, train_all

    torch.set_num_threads(1)
    pairs = [
        (task, kind)
        for task, kind in SETTINGS
        if task in (args.tasks or [task]) and kind in (args.kinds or [kind])
    ]
    train_all([Job(task, kind, seed) for task, kind in pairs for seed in args.seeds], say=_say)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
