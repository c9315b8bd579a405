"""The main job on a real trained checkpoint: inspect, score, prune, write back smaller, evaluate.

Run by ``make demo``; needs NumPy, SciPy, Numba and matplotlib, no framework.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from networks import s5_digits
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import ssmreduce as sr

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


def run_sweep(model: sr.SSMModel, evaluate: Callable[[sr.SSMModel], float], console: Console) -> sr.Sweep:
    """Accuracy of every method at every ratio, with a progress bar."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("pruning and evaluating")
        return sr.sweep(
            model, evaluate, methods=METHODS, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def accuracy_table(sweep: sr.Sweep) -> Table:
    """Rows are ratios, columns are methods."""
    table = Table(title="test accuracy (%), no retraining")
    for heading in ("states dropped", *sweep.methods):
        table.add_column(heading, justify="right")
    ratios, _ = sweep.curve(sweep.methods[0])
    for i, ratio in enumerate(ratios):
        table.add_row(f"{ratio:.0%}", *(f"{100 * sweep.curve(method)[1][i]:.1f}" for method in sweep.methods))
    return table


def forward_times(models: dict[str, sr.SSMModel], x: np.ndarray, repeats: int = 9) -> dict[str, float]:
    """Median seconds of the state-space layers alone (all systems on the whole batch), taken in turns."""
    systems = {name: list(model.values()) for name, model in models.items()}
    u = np.random.default_rng(0).standard_normal((*x.shape[:2], systems["before"][0].inputs)).astype(np.float32)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(repeats):
        for name, layers in systems.items():
            start = time.perf_counter()
            for ssm in layers:
                sr.simulate(ssm, u)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


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
    times = forward_times({"before": model, "after": small}, x)
    table = Table()
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, before in model.orders.items():
        table.add_row(f"states of {name}", str(before), str(small.orders[name]))
    sizes = [path.stat().st_size for path in (args.checkpoint, small_path)]
    table.add_row("file size (bytes)", *(f"{size:,}" for size in sizes))
    table.add_row("test accuracy (%)", *(f"{100 * evaluate(m):.1f}" for m in (model, small)))
    table.add_row("time of the layers (ms)", *(f"{1000 * times[name]:.1f}" for name in ("before", "after")))
    console.print(table)
    console.print(f"written: {small_path}, {args.out / 'trade_off.png'}")


if __name__ == "__main__":
    main()
