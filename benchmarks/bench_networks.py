"""Accuracy of networks after `compress`: without labels, without retraining, over draws of the sequences it is given.

Nothing is chosen by a test set. Beside each accuracy stands the output error on the sequences that were kept apart,
which is what the defaults were chosen by. Losses are paired with the full network on the same test sequences, with the
standard error of the difference.

Run: python benchmarks/bench_networks.py [--models ...] [--ratios ...] [--methods ...] [--finishes ...] [--draws 3]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "benchmarks"), str(ROOT / "tests")]

import torch_networks
from bench_calibrated import check_disjoint, load_case, training_pool

import ssmreduce as sr
from ssmreduce.reduction.calibrated._compress import Recipe, completed, gather, start_of

NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "s5_digits": torch_networks.s5_digits,
    "s5_last_uni_digits64": torch_networks.s5_last_digits,
    "s5_bidirectional_digits64": torch_networks.s5_bidirectional_digits,
    "lru_forgi86_digits64": torch_networks.lru_digits,
    "s4d_minimal_mnist1d": torch_networks.s4d_mnist1d,
}
S5 = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
LIMITS = ((0.8, 0, 0.5), (0.9, 5, 2.0), (0.95, 3, 5.0))
"""Ratio, states that must be left per layer on average, and points that may be lost at most."""


@dataclass(frozen=True)
class Outcome:
    """One draw: percent of test sequences classified right, before and after the finish, and errors kept apart."""

    start: float
    accuracy: float
    lost: np.ndarray  # of each test sequence: 1 where only the full network is right, -1 where only the reduced one is
    error_before: float
    error: float
    agreement: float
    seconds: float
    processor: float  # seconds, of all threads
    states: float


def right(net: sr.networks.Network, model: sr.SSMModel, x: torch.Tensor, y: np.ndarray) -> np.ndarray:
    return net.outputs(model, x).argmax(axis=1) == y


def outcome(
    net: sr.networks.Network, pool: np.ndarray, x: torch.Tensor, y: np.ndarray, ratio: float, recipe: Recipe
) -> Outcome:
    import json

    began, began_processor = time.perf_counter(), time.process_time()
    data = gather(net, [pool], apart=0.2, logits=None, seed=recipe.seed)
    start = start_of(data, ratio, recipe)
    small = completed(data, ratio, recipe, start)
    seconds, processor = time.perf_counter() - began, time.process_time() - began_processor
    record = json.loads(small.metadata["ssmreduce.record"])
    full, now = right(net, net.model, x, y), right(net, small, x, y)
    before = right(net, start, x, y)
    return Outcome(
        100 * float(before.mean()),
        100 * float(now.mean()),
        full.astype(int) - now.astype(int),
        record["error_before_finish"],
        record["error"],
        100 * record["agreement"],
        seconds,
        processor,
        sum(small.orders.values()) / sum(ssm.systems for ssm in small.values()),
    )


def row(name: str, ratio: float, recipe: Recipe, outcomes: list[Outcome]) -> str:
    lost = np.mean([o.lost for o in outcomes], axis=0)
    points, error = 100 * float(lost.mean()), 100 * float(lost.std() / np.sqrt(lost.size))
    spread = statistics.stdev([o.accuracy for o in outcomes]) if len(outcomes) > 1 else 0.0
    limit = next((most for at, states, most in LIMITS if at == ratio and outcomes[0].states >= states), None)
    held = "" if limit is None else f"  limit {limit}" + (" exceeded" if points > limit + 2 * error else "")
    mean = {
        key: statistics.mean([getattr(o, key) for o in outcomes])
        for key in ("start", "accuracy", "error_before", "error", "agreement", "seconds", "processor")
    }
    return (
        f"{name:26}{ratio:5.0%} {recipe.method:10} {recipe.finish!s:13}"
        f"{mean['start']:7.2f} -> {mean['accuracy']:6.2f} +- {spread:4.2f}"
        f"  lost {points:5.2f} ({error:.2f})  apart {mean['error_before']:.4f} -> {mean['error']:.4f},"
        f" {mean['agreement']:5.1f} %  {mean['seconds']:5.1f} s ({mean['processor']:.1f}){held}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.8, 0.9, 0.95])
    parser.add_argument("--methods", nargs="+", default=["sequential"])
    parser.add_argument("--finishes", nargs="+", default=["adam"])
    parser.add_argument("--sequences", type=int, default=300)
    parser.add_argument("--draws", type=int, default=3)
    args = parser.parse_args()
    print(
        "test accuracy (%) before -> after the finish, mean and standard deviation over the draws; points lost against"
    )
    print("the full network (standard error of the paired difference); error and agreement on sequences kept apart;")
    print(f"seconds of one compress of {args.sequences} sequences (processor seconds of all threads)")
    for name in args.models:
        case = load_case(name)
        x, y = torch.tensor(case.x, dtype=torch.float32), case.y
        net = sr.network(NETWORKS[name](), adapter=S5 if name.startswith("s5") else None)
        pool = training_pool(case)
        check_disjoint(pool, case.x)
        full = 100 * float(right(net, net.model, x, y).mean())
        print(f"\n{name}: full {full:.2f} ({len(y)} test sequences); drawn from {len(pool)} sequences", flush=True)
        draws = [
            pool[np.random.default_rng(seed).permutation(len(pool))[: args.sequences]].astype(np.float32)
            for seed in range(args.draws)
        ]
        for ratio in args.ratios:
            for method in args.methods:
                for finish in args.finishes:
                    recipe = Recipe(method=method, finish=None if finish == "None" else finish)
                    found = [outcome(net, drawn, x, y, ratio, recipe) for drawn in draws]
                    print(row(name, ratio, recipe, found), flush=True)


if __name__ == "__main__":
    main()
