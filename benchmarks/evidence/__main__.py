"""Command line: ``python -m benchmarks.evidence train|run|tables``."""

import argparse
import os
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

SMALL = [  # tasks and kinds of `small`
    (task, kind) for task in ("digits", "mnist1d", "smnist14") for kind in ("s5", "s4d")
]


def main() -> None:
    """Read the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="benchmarks.evidence", description="Train, reduce, tabulate.")
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser("train", help="train the networks that have no checkpoint yet")
    train.add_argument(
        "--data", type=Path, metavar="DIR", help="original data sets: trains on those, at the papers' sizes"
    )
    run = commands.add_parser("run", help="run the cells that have no record yet, for the networks that are trained")
    for command in (train, run):
        command.add_argument("--tasks", nargs="+")
        command.add_argument("--kinds", nargs="+")
        command.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--methods", nargs="+")
    run.add_argument("--ratios", nargs="+", type=float)
    run.add_argument("--workers", type=int, default=1, help="processes on this machine")
    run.add_argument("--dask", metavar="ADDRESS", help="scheduler of a Dask cluster, in place of --workers")
    run.add_argument("--retry", action="store_true", help="run failed cells again")
    commands.add_parser("speed", help="measure forward passes of the networks of seed 0")
    commands.add_parser("tables", help="write the tables and figures of the stored cells")
    small = commands.add_parser("small", help="three tasks from the shipped checkpoints: cells, tables and figures")
    small.add_argument("--folder", type=Path, default=Path("build/evidence"))
    small.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    {"train": _train, "run": _run, "speed": _speed, "tables": _tables, "small": _small}[args.command](args)


def _train(args: argparse.Namespace) -> None:
    import torch

    from .settings import PAPER, SETTINGS
    from .train import Job, train_all

    torch.set_num_threads(1)
    pairs = [
        (task, kind)
        for task, kind in (PAPER if args.data else SETTINGS)
        if task in (args.tasks or [task]) and kind in (args.kinds or [kind])
    ]
    train_all([Job(task, kind, seed) for task, kind in pairs for seed in args.seeds], args.data, say=_say)


def _run(args: argparse.Namespace) -> None:
    import joblib

    from .cells import planned, trained_jobs
    from .methods import METHODS
    from .runs import run

    jobs = [
        job
        for job in trained_jobs()
        if job.task in (args.tasks or [job.task]) and job.kind in (args.kinds or [job.kind]) and job.seed in args.seeds
    ]
    cells = planned(jobs, args.methods or METHODS, args.ratios)
    if args.dask:
        from distributed import Client

        client = Client(args.dask)
        with joblib.parallel_config(backend="dask", client=client):
            failed = run(cells, retry=args.retry, say=_say)
    else:
        with joblib.parallel_config(n_jobs=args.workers):
            failed = run(cells, retry=args.retry, say=_say)
    _say(f"{len(cells)} cells, {failed} failed now")


def _speed(args: argparse.Namespace) -> None:
    from .cells import trained_jobs
    from .speed import measure

    for row in measure([job for job in trained_jobs() if job.seed == 0]):
        _say(str(row))


def _tables(args: argparse.Namespace) -> None:
    from . import figures, tables

    for table in tables.write_all():
        _say(table.text())
    for path in figures.write_all():
        _say(str(path))


def _small(args: argparse.Namespace) -> None:
    import joblib

    from . import figures, tables
    from .cells import planned, trained_jobs
    from .methods import DEAR, METHODS
    from .runs import run

    jobs = [job for job in trained_jobs() if (job.task, job.kind) in SMALL]
    quick = [name for name in METHODS if name not in ("compress", "compress_linear")]
    cells = planned(jobs, quick, DEAR)
    cells += [cell for cell in planned(jobs, ["compress"], (0.8, 0.9)) if cell.method == "compress"]
    with joblib.parallel_config(n_jobs=args.workers):
        run(cells, folder=args.folder / "cells", say=_say)
    for table in tables.write_all(args.folder, args.folder / "cells", DEAR):
        _say(table.text())
    for path in figures.write_all(args.folder, args.folder / "cells"):
        _say(str(path))


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
