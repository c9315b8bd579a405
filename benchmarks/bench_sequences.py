"""How the loss of `compress` falls with the number of unlabelled sequences that it is given, without labels.

Digits has 1437 training sequences. Where more are asked for, the rest are the training images turned by up to 10
degrees and shifted by up to half a pixel: unlabelled data that anyone can make. The test sequences stay as they are.

Run: python benchmarks/bench_sequences.py [--model ...] [--ratios ...] [--counts ...] [--draws 1]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import argparse
import json
import time
from collections.abc import Iterator

import numpy as np
import torch
from bench_calibrated import check_disjoint, load_case, training_pool
from bench_networks import NETWORKS, S5, right
from scipy import ndimage

import ssmreduce as sr
from ssmreduce.reduction.calibrated._compress import Recipe, completed, gather, start_of


def turned(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The images turned and shifted a little, each by amounts of its own."""
    made = []
    for image in images:
        angle, shift = rng.uniform(-10, 10), rng.uniform(-0.5, 0.5, 2)
        image = ndimage.rotate(image, angle, reshape=False, order=1)
        made.append(np.clip(ndimage.shift(image, shift, order=1), 0, 1))
    return np.stack(made)


def drawn(pool: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many training sequences; beyond those that there are, turned and shifted ones of theirs."""
    rng = np.random.default_rng(seed)
    real = pool[rng.permutation(len(pool))[:count]]
    missing = count - len(real)
    if missing <= 0:
        return real.astype(np.float32)
    side = round(pool.shape[1] ** 0.5)
    images = pool[rng.integers(0, len(pool), missing)].reshape(-1, side, side)
    return np.concatenate([real, turned(images, rng).reshape(missing, -1, 1)]).astype(np.float32)


def rows(
    net: sr.networks.Network, pool: np.ndarray, x: torch.Tensor, y: np.ndarray, args: argparse.Namespace
) -> Iterator[str]:
    full = right(net, net.model, x, y)
    for count in args.counts:
        lost: dict[float, list[np.ndarray]] = {ratio: [] for ratio in args.ratios}
        errors: dict[float, list[float]] = {ratio: [] for ratio in args.ratios}
        began = time.process_time()
        for seed in range(args.draws):
            batches = np.array_split(drawn(pool, count, seed), -(-count // 500))
            data = gather(net, batches, apart=0.2, logits=None, seed=seed)
            for ratio in args.ratios:
                recipe = Recipe(seed=seed, steps=args.steps)
                small = completed(data, ratio, recipe, start_of(data, ratio, recipe))
                lost[ratio].append(full.astype(int) - right(net, small, x, y).astype(int))
                errors[ratio].append(json.loads(small.metadata["ssmreduce.record"])["error"])
        seconds = (time.process_time() - began) / args.draws / len(args.ratios)
        for ratio in args.ratios:
            points = 100 * np.mean(lost[ratio], axis=0)
            spread = np.std([100 * part.mean() for part in lost[ratio]], ddof=min(1, args.draws - 1))
            yield (
                f"{count:7} ({min(count, len(pool)):5} real){ratio:6.0%}  lost {points.mean():5.2f} +- {spread:4.2f} "
                f"({points.std() / np.sqrt(points.size):.2f})  error apart {np.mean(errors[ratio]):.4f}"
                f"  {seconds:6.1f} s"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=NETWORKS, default="s5_last_uni_digits64")
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.9, 0.95])
    parser.add_argument("--counts", nargs="+", type=int, default=[300, 1000, 3000, 10000])
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    case = load_case(args.model)
    pool = training_pool(case)
    check_disjoint(pool, case.x)
    net = sr.network(NETWORKS[args.model](), adapter=S5 if args.model.startswith("s5") else None)
    x, y = torch.tensor(case.x, dtype=torch.float32), case.y
    print(f"{args.model}: {len(y)} test and {len(pool)} training sequences; {args.draws} draw(s), {args.steps} steps")
    print("points lost against the full network +- spread over draws (standard error of the paired difference);")
    print("output error on the fifth of the sequences that is kept apart; processor seconds of one compress")
    for row in rows(net, pool, x, y, args):
        print(row, flush=True)


if __name__ == "__main__":
    main()
