"""The main job on a real trained checkpoint: inspect, score, prune, write back smaller, evaluate.

Run by ``make demo``; needs NumPy, SciPy, Numba and matplotlib, no framework.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import ssmreduce as sr
from ssmreduce.networks import s5_digits

HERE = Path(__file__).parent
METHODS = {
    "LAST": "last",
    "AIRE": "aire",
    "uniform H-infinity": "uniform_hinf",
    "global H-infinity": "global_hinf",
    "uniform magnitude": "uniform_magnitude",
    "random": "random",
}


def parse() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratio", type=float, default=0.4, help="share of the states to drop (%(default)s)")
    parser.add_argument("--method", default="aire", help="method that chooses them (%(default)s)")
    parser.add_argument("--checkpoint", type=Path, default=HERE / "s5_digits" / "model.safetensors")
    parser.add_argument("--out", type=Path, default=HERE / "output", help="folder of the results (%(default)s)")
    return parser.parse_args()


def run_sweep(model: sr.SSMModel, evaluate: Callable[[sr.SSMModel], float], console: Console) -> sr.evaluation.Sweep:
    """Accuracy of every method at every ratio, with a progress bar."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("pruning and evaluating")
        return sr.sweep(
            model, evaluate, methods=METHODS, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def accuracy_table(sweep: sr.evaluation.Sweep) -> Table:
    """Rows are ratios, columns are methods."""
    table = Table(title="test accuracy (%), no retraining")
    for heading in ("states dropped", *sweep.methods):
        table.add_column(heading, justify="right")
    ratios, _ = sweep.curve(sweep.methods[0])
    for i, ratio in enumerate(ratios):
        table.add_row(f"{ratio:.0%}", *(f"{100 * sweep.curve(method)[1][i]:.1f}" for method in sweep.methods))
    return table


def median_times(calls: dict[str, Callable[[], object]], repeats: int = 9) -> dict[str, float]:
    """Median milliseconds of each call, taken in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def layers_alone(model: sr.SSMModel, shape: tuple[int, int]) -> Callable[[], object]:
    """The systems of the model on one batch of noise."""
    systems = list(model.values())
    u = np.random.default_rng(0).standard_normal((*shape, systems[0].inputs)).astype(np.float32)
    return lambda: [sr.simulate(ssm, u) for ssm in systems]


def main() -> None:
    """Run the demonstration."""
    args = parse()
    console = Console()
    args.out.mkdir(parents=True, exist_ok=True)
    test = np.load(HERE / "s5_digits" / "test.npz")
    x, y = test["x_test"], test["y_test"]

    def evaluate(model: sr.SSMModel) -> float:
        return float((s5_digits(model, x).argmax(axis=-1) == y).mean())

    console.rule("1. inspect")
    model = sr.load(args.checkpoint)
    console.print(sr.inspect(model))

    console.rule(f"2. prune at 0 ... 90 %, evaluate on {len(y)} test sequences")
    sweep = run_sweep(model, evaluate, console)
    console.print(accuracy_table(sweep))
    figure = sr.plot.trade_off(sweep, label="test accuracy").figure
    figure.savefig(args.out / "trade_off.png", dpi=150)

    console.rule(f"3. write the checkpoint with {args.ratio:.0%} of the states dropped by {args.method}, read it back")
    small_path = args.out / "small.safetensors"
    sr.save(sr.prune(model, sr.select(sr.score(model, args.method), ratio=args.ratio)), small_path)
    small = sr.load(small_path)
    pair = {"before": model, "after": small}
    network = median_times({name: partial(s5_digits, m, x) for name, m in pair.items()})
    layers = median_times({name: layers_alone(m, x.shape[:2]) for name, m in pair.items()})
    table = Table()
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, before in model.orders.items():
        table.add_row(f"states of {name}", str(before), str(small.orders[name]))
    sizes = [path.stat().st_size for path in (args.checkpoint, small_path)]
    table.add_row("file size (bytes)", *(f"{size:,}" for size in sizes))
    table.add_row("test accuracy (%)", *(f"{100 * evaluate(m):.1f}" for m in (model, small)))
    table.add_row("time of the network (ms)", *(f"{network[name]:.1f}" for name in pair))
    table.add_row("time of its systems (ms)", *(f"{layers[name]:.1f}" for name in pair))
    console.print(table)
    console.print(f"written: {small_path}, {args.out / 'trade_off.png'}")


if __name__ == "__main__":
    main()
