"""Time to read, score, select and write a model, against a plain NumPy transcription of the LAST formula.

The transcription knows the one layout that it reads, checks nothing, and slices with Boolean masks: what a user would
write for one experiment. Both sides run in turns in the same process, on one thread.
Run: python benchmarks/bench_journey.py
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import ssmreduce as sr

ADAPTER = sr.adapters.S5(conj_sym=True, discretization="zoh")
RATIO = 0.33
SIZES = {
    "Path-X (6 layers, H 128, 128 states)": (6, 128, 128),
    "large (24 layers, H 2048, 512 states)": (24, 2048, 512),
}


def make_checkpoint(path: Path, layers: int, width: int, states: int) -> None:
    """A stable S5 checkpoint with plausible values; only its sizes matter."""
    rng = np.random.default_rng(0)
    params = {}
    for i in range(layers):
        shapes = {"B": (states, width, 2), "C": (width, states, 2), "D": (width,)}
        arrays = {leaf: rng.standard_normal(shape, dtype=np.float32) for leaf, shape in shapes.items()}
        arrays["Lambda_re"] = -0.5 * np.exp(0.3 * rng.standard_normal(states)).astype(np.float32)
        arrays["Lambda_im"] = np.pi * np.arange(states, dtype=np.float32)
        arrays["log_step"] = rng.uniform(np.log(1e-4), np.log(1e-1), (states, 1)).astype(np.float32)
        params |= {f"layers.{i}.seq.{leaf}": array for leaf, array in arrays.items()}
    save_file(params, path)


def plain_read(path: Path) -> dict:
    return load_file(path)


def plain_score(params: dict) -> dict:
    scores = {}
    for name in (key.removesuffix(".Lambda_re") for key in params if key.endswith(".Lambda_re")):
        poles = params[f"{name}.Lambda_re"].astype(float) + 1j * params[f"{name}.Lambda_im"]
        B = params[f"{name}.B"].astype(float)
        C = params[f"{name}.C"].astype(float)
        discrete = np.exp(poles * np.exp(params[f"{name}.log_step"][:, 0].astype(float)))
        B_bar = ((discrete - 1) / poles)[:, None] * (B[..., 0] + 1j * B[..., 1])
        c = np.linalg.norm(C[..., 0] + 1j * C[..., 1], axis=0)
        h = (c * np.linalg.norm(B_bar, axis=1) / (1 - np.abs(discrete))) ** 2
        order = np.argsort(-h)
        scores[name] = np.empty_like(h)
        scores[name][order] = h[order] / np.cumsum(h[order])
    return scores


def plain_select(scores: dict) -> dict:
    everything = np.sort(np.concatenate(list(scores.values())))
    threshold = everything[-int((1 - RATIO) * everything.size)]
    return {name: value >= threshold for name, value in scores.items()}


def plain_write(params: dict, keep: dict, path: Path) -> None:
    small = dict(params)
    for name, mask in keep.items():
        for leaf in ("Lambda_re", "Lambda_im", "log_step", "B"):
            small[f"{name}.{leaf}"] = params[f"{name}.{leaf}"][mask]
        small[f"{name}.C"] = params[f"{name}.C"][:, mask]
    save_file(small, path)


def timed(seconds: dict[str, list[float]], key: str, call: Callable):
    start = time.perf_counter()
    result = call()
    seconds.setdefault(key, []).append(time.perf_counter() - start)
    return result


def run_plain(path: Path, out: Path, seconds: dict[str, list[float]]) -> dict:
    params = timed(seconds, "read", lambda: plain_read(path))
    scores = timed(seconds, "score", lambda: plain_score(params))
    keep = timed(seconds, "select", lambda: plain_select(scores))
    timed(seconds, "write", lambda: plain_write(params, keep, out))
    return {name: np.flatnonzero(mask) for name, mask in keep.items()}


def run_ours(path: Path, out: Path, seconds: dict[str, list[float]]) -> dict:
    model = timed(seconds, "read", lambda: sr.load(path, adapter=ADAPTER))
    scores = timed(seconds, "score", lambda: sr.score(model, "last"))
    keep = timed(seconds, "select", lambda: sr.select(scores, ratio=RATIO))
    timed(seconds, "write", lambda: sr.save(sr.prune(model, keep), out))
    return dict(keep.keep)


def spread(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{1e3 * middle:9.1f} [{1e3 * low:.1f}, {1e3 * high:.1f}]"


def bench(title: str, sizes: tuple[int, int, int], repeats: int) -> None:
    ours: dict[str, list[float]] = {}
    plain: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "model.safetensors"), Path(folder, "small.safetensors")
        make_checkpoint(path, *sizes)
        for _ in range(repeats):
            kept, kept_plain = run_ours(path, out, ours), run_plain(path, out, plain)
        for name in kept:
            np.testing.assert_array_equal(kept[name], kept_plain[name])
        print(f"\n{title}, {path.stat().st_size / 1e6:.1f} MB, {repeats} runs in turns; same states kept by both")
    print(f"{'step':8}{'ssmreduce ms':>28}{'plain NumPy ms':>28}{'ratio':>8}")
    ours["all"] = [sum(step) for step in zip(*ours.values(), strict=True)]
    plain["all"] = [sum(step) for step in zip(*plain.values(), strict=True)]
    for step in ours:
        ratio = np.median(ours[step]) / np.median(plain[step])
        print(f"{step:8}{spread(ours[step]):>28}{spread(plain[step]):>28}{ratio:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    print("median [quartiles] of wall time, one thread; ratio = ssmreduce / plain NumPy (below 1: ssmreduce is faster)")
    for title, sizes in SIZES.items():
        bench(title, sizes, args.repeats)


if __name__ == "__main__":
    main()
