"""Accuracy of trained Mamba and Mamba-2 models with a fraction of their states: a table per model.

    python benchmarks/selective/accuracy.py FOLDER ... [--ratios 0.5 0.75 0.9] [--draws 3] [--methods ghost rotate ...]

Each FOLDER is a model in Hugging Face form with `data.npz`: test_ids, test_targets (-100 where nothing is asked) and
calibration_ids (unlabelled). Each draw takes three quarters of the calibration sequences; a quarter of a draw is held
apart. The row "chosen" is the method that agrees best with the full model there. Labels are used for the table only.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from ssmreduce.networks import selective_mixers
from ssmreduce.reduction.calibrated import compress_selective

BASELINES = ("random", "magnitude", "aire", "ghost")
OURS = {True: ("surgeon", "surgeon+refine"), False: ("rotate", "rotate+refine", "contribution+refine")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.75, 0.9])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for folder in options.folders:
        table(folder, options)


def table(folder, options):
    """Print the table of one model."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    data = np.load(folder / "data.npz")
    is_mamba1 = any(hasattr(mixer, "x_proj") for mixer in selective_mixers(model).values())
    ours = OURS[is_mamba1]
    methods = options.methods or [*BASELINES, *ours]
    accuracy, bits = scores(model, data)
    print(f"\n{folder.name}: full model {accuracy:.1f} %, {bits:.3f} bits")
    print(f"{'method':22s} {'removed':>8s} {'accuracy %':>16s} {'bits':>16s} {'agreement %':>16s} {'seconds':>8s}")
    for ratio in options.ratios:
        rows = {method: [] for method in methods}
        for draw in range(options.draws):
            for method in methods:
                rows[method].append(one(model, data, ratio, method, draw))
        for method in methods:
            show(method, ratio, rows[method])
        candidates = [method for method in methods if method in ours]
        if len(candidates) > 1:
            chosen = [
                min((rows[method][draw] for method in candidates), key=lambda row: row[3])
                for draw in range(options.draws)
            ]
            show("chosen", ratio, chosen)


def one(model, data, ratio, method, draw):
    """Accuracy, bits, agreement on the test sequences, held-apart divergence, and seconds of one reduction."""
    sequences = data["calibration_ids"].astype(np.int64)
    rows = np.random.default_rng(draw).permutation(len(sequences))[: 3 * len(sequences) // 4]
    start = time.perf_counter()
    ids = torch.as_tensor(sequences[np.sort(rows)])
    result = compress_selective(model, [ids], ratio=ratio, methods=method, seed=draw)
    seconds = time.perf_counter() - start
    accuracy, bits = scores(result.network, data)
    return accuracy, bits, agreement(model, result.network, data), result.candidates[0].divergence, seconds


def logits(model, data):
    with torch.no_grad():
        return model(torch.as_tensor(data["test_ids"].astype(np.int64)), use_cache=False).logits


def scores(model, data):
    """Accuracy in per cent and bits per target."""
    targets = torch.as_tensor(data["test_targets"].astype(np.int64))
    asked, outputs = targets >= 0, logits(model, data)
    right = (outputs.argmax(-1) == targets)[asked].double().mean()
    entropy = torch.nn.functional.cross_entropy(outputs[asked], targets[asked])
    return 100 * float(right), float(entropy) / np.log(2)


def agreement(model, smaller, data):
    """Share of the positions with a target at which both models say the same, in per cent."""
    asked = data["test_targets"] >= 0
    same = (logits(model, data).argmax(-1) == logits(smaller, data).argmax(-1)).numpy()
    return 100 * float(same[asked].mean())


def show(method, ratio, rows):
    """One line: mean and half the range over the draws."""
    values = np.array(rows)
    mean, spread = values.mean(axis=0), (values.max(axis=0) - values.min(axis=0)) / 2
    print(
        f"{method:22s} {100 * ratio:7.0f}% {mean[0]:8.1f} +- {spread[0]:4.1f} {mean[1]:8.3f} +- {spread[1]:5.3f}"
        f" {mean[2]:8.1f} +- {spread[2]:4.1f} {mean[4]:8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
