"""Calibrated elimination on trained networks: accuracy without retraining, spread over calibration data, time, growth.

Nothing here chooses anything by the test set: one recipe for all models and ratios, chosen by how often its networks
agree with the full one on unlabelled sequences held out from the calibration, and calibration sequences that are
checked not to be test sequences. Most of the time of `accuracy` and `spread` goes into refinement; `--sections` and
`--models` run them piece by piece.

Run: python benchmarks/bench_calibrated.py [--sections ...] [--models ...]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "examples"))

import ssmreduce as sr
from ssmreduce import networks

DATA = ROOT / "tests" / "data"
RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95)
REFINE, FROM = 60, 0.9  # steps of the refinement, and from which ratio its single steps are shown
HELD_OUT = 1000  # unlabelled sequences that are kept from the calibration, at most
RECIPE = "compress (recommended)"
GOALS = {0.7: 0.5, 0.8: 0.5, 0.9: 1.0}  # points that the recommended recipe is to lose at most
FLAX = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)


@dataclass(frozen=True)
class Case:
    """A trained network, its unlabelled sequences, and its test set."""

    name: str
    model: sr.SSMModel
    network: Callable
    pool: np.ndarray
    x: np.ndarray
    y: np.ndarray

    @property
    def net(self) -> sr.networks.Network:
        """The network, in NumPy."""
        return sr.network(self.network, model=self.model)

    @property
    def refine(self) -> int:
        """Steps of refinement: none for 192 systems of one input, where they take many minutes."""
        return 0 if self.name == "s4d_minimal_mnist1d" else REFINE

    def accuracy(self, model: sr.SSMModel) -> float:
        return 100.0 * float((self.network(model, self.x).argmax(axis=1) == self.y).mean())

    def agreement(self, model: sr.SSMModel, x: np.ndarray) -> float:
        """Share of unlabelled sequences that the model puts into the same class as the full one, in percent."""
        return 100.0 * float(
            (self.network(model, x).argmax(axis=1) == self.network(self.model, x).argmax(axis=1)).mean()
        )

    def compressed(self, x: np.ndarray, ratio: float) -> sr.SSMModel:
        return sr.compress(self.net, [x], ratio=ratio, finish=None, refine=self.refine).model

    def layer_inputs(self, model: sr.SSMModel, x: np.ndarray) -> dict[str, np.ndarray]:
        return networks.NumpyNetwork(self.network, model=model).layer_inputs(model, x)


def training_pool(case: Case) -> np.ndarray:
    """Unlabelled training sequences: those of scikit-learn and mnist1d, or what is shipped without the latter."""
    if case.name.endswith("digits64") or case.name == "s5_digits":
        return digits_pool(case.x)
    try:
        from mnist1d.data import get_dataset_args, make_dataset
    except ImportError:
        return case.pool
    return np.random.default_rng(0).permutation(make_dataset(get_dataset_args())["x"][..., None])


def held_out(case: Case) -> np.ndarray:
    """Unlabelled training sequences that the calibration has not seen."""
    seen = {np.float32(sequence).tobytes() for sequence in case.pool}
    rest = [sequence for sequence in training_pool(case) if np.float32(sequence).tobytes() not in seen]
    return np.stack(rest[:HELD_OUT]) if rest else case.pool


def digits_pool(x_test: np.ndarray) -> np.ndarray:
    """All sequences of scikit-learn's digits that are not in the test set, shuffled."""
    from sklearn.datasets import load_digits

    sequences = (load_digits().data / 16.0)[..., None]
    test = {np.float32(sequence).tobytes() for sequence in x_test}
    rest = np.stack([sequence for sequence in sequences if np.float32(sequence).tobytes() not in test])
    return np.random.default_rng(0).permutation(rest)


def load_case(name: str) -> Case:
    folder = ROOT / "examples" / name if name == "s5_digits" else DATA / name
    file, network, adapter = {
        "s5_digits": ("model.safetensors", networks.s5_digits, None),
        "s5_last_uni_digits64": ("checkpoint.msgpack", networks.s5_flax, FLAX),
        "lru_forgi86_digits64": ("model.safetensors", networks.lru_deep, None),
        "s4d_minimal_mnist1d": ("model.safetensors", networks.s4d_minimal, None),
        "s5_bidirectional_digits64": ("model.safetensors", networks.s5_digits, None),
    }[name]
    ours = name in ("s5_digits", "s5_bidirectional_digits64")
    with np.load(folder / ("test.npz" if ours else "heldout.npz")) as split:
        x, y = split["x_test"], split["y_test"]
    if ours:
        pool = digits_pool(x)[:300]
    else:
        with np.load(folder / "calibration.npz") as file_:
            pool = file_["x"]
    check_disjoint(pool, x)
    return Case(name, sr.load(folder / file, adapter=adapter), network, pool.astype(float), x.astype(float), y)


def check_disjoint(pool: np.ndarray, x_test: np.ndarray) -> None:
    test = {np.float32(sequence).tobytes() for sequence in x_test}
    assert not any(np.float32(sequence).tobytes() in test for sequence in pool), (
        "a calibration sequence is a test sequence"
    )


NAMES = (
    "s5_digits",
    "s5_last_uni_digits64",
    "s5_bidirectional_digits64",
    "lru_forgi86_digits64",
    "s4d_minimal_mnist1d",
)


def say(*parts: str) -> None:
    print(*parts, flush=True)


def methods(case: Case, x: np.ndarray) -> dict[str, Callable[[float], sr.SSMModel]]:
    """Every method as a function of the ratio, on the calibration sequences x."""
    inputs = case.layer_inputs(case.model, x)
    calibration = sr.calibrate(case.model, inputs)
    last = sr.score(case.model, "last")

    def pruned(ratio: float) -> sr.SSMModel:
        return sr.prune(case.model, sr.select(last, ratio=ratio))

    def eliminated(ratio: float) -> sr.SSMModel:
        return sr.eliminate(case.model, calibration, ratio=ratio, feedthrough=True)

    @cache
    def weighted(ratio: float) -> sr.SSMModel:
        sensitivity = sr.reduction.output_sensitivity(case.net, calibration, [x], ratio=ratio, feedthrough=True)
        return sr.eliminate(case.model, calibration, ratio=ratio, sensitivity=sensitivity, feedthrough=True)

    def balanced(ratio: float) -> sr.SSMModel:
        orders = sr.eliminate(case.model, calibration, ratio=ratio, scope="system").orders
        return sr.reduction.balance_calibrated(case.model, calibration, orders)

    def fitted(make: Callable[[float], sr.SSMModel], steps: int, ratio: float) -> sr.SSMModel:
        return sr.reduction.refit_network(case.net, make(ratio), [x], refine=steps, feedthrough=True)

    made = {
        "LAST": pruned,
        "LAST + refit": lambda ratio: sr.refit(pruned(ratio), calibration),
        "elimination": lambda ratio: sr.eliminate(case.model, calibration, ratio=ratio),
        "elimination, D fitted": eliminated,
        "  + sequential": partial(fitted, eliminated, 0),
        "  + sequential, refined": partial(fitted, eliminated, REFINE),
        "balanced, sequential": partial(fitted, balanced, 0),
        "balanced, seq., refined": partial(fitted, balanced, REFINE),
        "by sensitivity": weighted,
        "by sensitivity, sequential": partial(fitted, weighted, 0),
        RECIPE: partial(case.compressed, x),
    }
    return {label: make for label, make in made.items() if case.refine or "refined" not in label}


def accuracy(names: tuple[str, ...]) -> None:
    say("\nTest accuracy (%) without retraining, from 300 unlabelled training sequences; in brackets the agreement (%)")
    say("with the full network on unlabelled sequences held out from them, by which the recipe was chosen")
    lost = {}
    for name in names:
        case = load_case(name)
        full = case.accuracy(case.model)
        rest = held_out(case)
        check_disjoint(rest, case.x)
        say(f"\n{name}: full {full:.2f} ({len(case.y)} test sequences, {len(rest)} held out)")
        say(f"{'method':26}" + "".join(f"{f'{ratio:.0%}':>15}" for ratio in RATIOS))
        for label, make in methods(case, case.pool).items():
            cells = []
            for ratio in RATIOS:
                if ratio < (FROM if "refined" in label else min(GOALS) if label == RECIPE else 0.0):
                    cells.append("-")
                    continue
                small = make(ratio)
                value = case.accuracy(small)
                cells.append(f"{value:.2f} ({case.agreement(small, rest):5.1f})")
                if label == RECIPE:
                    lost[name, ratio] = full - value
            say(f"{label:26}" + "".join(f"{cell:>15}" for cell in cells))
    ratios = [ratio for ratio in RATIOS if ratio >= min(GOALS)]
    say(f"\nPoints of test accuracy that {RECIPE} loses; ! is over the goal")
    say(f"{'':28}" + "".join(f"{f'{ratio:.0%}':>10}" for ratio in ratios))
    for name in names:
        cells = (f"{lost[name, ratio]:.2f}{' !' * (lost[name, ratio] > GOALS.get(ratio, 100.0))}" for ratio in ratios)
        say(f"{name:28}" + "".join(f"{cell:>10}" for cell in cells))
    say(f"{'goal':28}" + "".join(f"{GOALS.get(ratio, '-'):>10}" for ratio in ratios))


SPREAD = (("elimination", 0.8), ("elimination, D fitted", 0.9), ("balanced, sequential", 0.9), (RECIPE, 0.9))
MOST = 300  # sequences of the recommended recipe's spread: its refinement takes minutes a network beyond


def spread(names: tuple[str, ...], seeds: int = 5, sizes: tuple[int, ...] = (30, 100, 300, 1000)) -> None:
    say(f"\nTest accuracy (%): mean +- standard deviation over {seeds} draws of the calibration sequences")
    for name in names:
        case = load_case(name)
        pool = training_pool(case)
        check_disjoint(pool, case.x)
        say(f"\n{name}: full {case.accuracy(case.model):.2f}; drawn from {len(pool)} sequences")
        say(f"{'sequences':10}" + "".join(f"{f'{label} {ratio:.0%}':>28}" for label, ratio in SPREAD))
        for size in (size for size in sizes if size < len(pool)):
            draws = [pool[np.random.default_rng(seed).permutation(len(pool))[:size]] for seed in range(seeds)]
            makers = [methods(case, x) for x in draws]
            cells = []
            for label, ratio in SPREAD:
                if label == RECIPE and size > MOST:
                    cells.append("-")
                    continue
                values = [case.accuracy(made[label](ratio)) for made in makers]
                cells.append(f"{statistics.mean(values):.2f} +- {statistics.stdev(values):.2f}")
            say(f"{size:<10}" + "".join(f"{cell:>28}" for cell in cells))


def shift(names: tuple[str, ...]) -> None:
    say("\nCalibrated on something else: test accuracy (%) at 80 %, elimination with D fitted")
    for name in names:
        case = load_case(name)
        rng = np.random.default_rng(0)
        shape = case.pool.shape
        other = {
            "its own 300 sequences": case.pool,
            "reversed in time": case.pool[:, ::-1],
            "steps shuffled": rng.permuted(case.pool, axis=1),
            "Gaussian noise of their mean and variance": case.pool.mean()
            + case.pool.std() * rng.standard_normal(shape),
            "constant sequences": np.broadcast_to(rng.random((shape[0], 1, 1)), shape).copy(),
            "one sequence": case.pool[:1],
        }
        say(f"\n{name}: full {case.accuracy(case.model):.2f}")
        for label, x in other.items():
            say(f"{label:44}{case.accuracy(methods(case, x)['elimination, D fitted'](0.8)):8.2f}")
        if name == "s5_digits":
            small = sr.eliminate(case.model, sr.calibration.calibrate_stationary(case.model), ratio=0.8)
            say(f"{'no data (white-noise Gramian)':44}{case.accuracy(small):8.2f}")


def speed(names: tuple[str, ...], repeats: int = 9) -> None:
    say("\nForward time of the whole network and of its state-space layers (float32, medians, taken in turns)")
    for name in names:
        case = load_case(name)
        calibration = sr.calibrate(case.model, case.layer_inputs(case.model, case.pool))
        ratios = (0.0, 0.5, 0.8, 0.9)
        models = {r: sr.eliminate(case.model, calibration, ratio=r, scope="system") for r in ratios}
        x = case.x[:200].astype(np.float32)
        fed = {k: v.astype(np.float32) for k, v in case.layer_inputs(case.model, x).items()}
        networks_s: dict[float, list[float]] = {r: [] for r in ratios}
        layers_s: dict[float, list[float]] = {r: [] for r in ratios}
        systems = {r: dict(model) for r, model in models.items()}
        for _ in range(repeats):
            for r in ratios:
                start = time.perf_counter()
                case.network(models[r], x)
                middle = time.perf_counter()
                for layer, ssm in systems[r].items():
                    sr.simulate(ssm, fed[layer])
                layers_s[r].append(time.perf_counter() - middle)
                networks_s[r].append(middle - start)
        say(f"\n{name}: {len(x)} sequences")
        for r in ratios:
            whole, layers = statistics.median(networks_s[r]), statistics.median(layers_s[r])
            gain = statistics.median(layers_s[0.0]) / layers
            states = sum(models[r].orders.values())
            say(f"{r:4.0%}{states:6} states, network {1e3 * whole:7.1f} ms, layers {1e3 * layers:7.1f} ms{gain:6.2f} x")


def random_model(layers: int, width: int, states: int) -> sr.SSMModel:
    rng = np.random.default_rng(0)
    params = {}
    for i in range(layers):
        shapes = {"B": (states, width, 2), "C": (width, states, 2), "D": (width,)}
        arrays = {leaf: rng.standard_normal(shape).astype(np.float32) for leaf, shape in shapes.items()}
        arrays["Lambda_re"] = -0.5 * np.exp(0.3 * rng.standard_normal(states)).astype(np.float32)
        arrays["Lambda_im"] = np.pi * np.arange(states, dtype=np.float32)
        arrays["log_step"] = rng.uniform(np.log(1e-3), np.log(1e-1), (states, 1)).astype(np.float32)
        params |= {f"layers.{i}.seq.{leaf}": array for leaf, array in arrays.items()}
    return sr.read(params, adapter=sr.adapters.S5(conj_sym=True, discretization="zoh"))


def growth() -> None:
    say("\nCalibration and elimination of random S5 models: wall seconds (CPU seconds); steps of each layer")
    say(f"{'layers':>7}{'width':>7}{'real states':>13}{'steps':>10}{'calibrate':>18}{'path':>18}{'eliminate':>18}")
    rng = np.random.default_rng(0)
    cases = [(1, 128, 128, s) for s in (2**14, 2**16, 2**18)] + [(1, 128, n, 2**16) for n in (32, 64, 256)]
    cases += [(layers, 128, 128, 2**16) for layers in (2, 6)] + [(6, 128, 128, 10**6)]
    for layers, width, states, steps in cases:
        model = random_model(layers, width, states)
        length = 2000
        u = rng.standard_normal((max(1, steps // length), min(length, steps), width), dtype=np.float32)
        clock = [(time.perf_counter(), time.process_time())]
        calibration = sr.calibrate(model, ({name: u} for name in model))
        clock.append((time.perf_counter(), time.process_time()))
        sr.reduction.elimination_path(model, calibration)
        clock.append((time.perf_counter(), time.process_time()))
        sr.eliminate(model, calibration, ratio=0.8)
        clock.append((time.perf_counter(), time.process_time()))
        cells = (f"{b[0] - a[0]:.2f} ({b[1] - a[1]:.2f})" for a, b in pairwise(clock))
        say(f"{layers:7}{width:7}{2 * states:13}{u.shape[0] * u.shape[1]:10}" + "".join(f"{c:>18}" for c in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sections = {"accuracy": accuracy, "spread": spread, "shift": shift, "speed": speed}
    parser.add_argument("--sections", nargs="+", choices=[*sections, "growth"], default=[*sections, "growth"])
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    args = parser.parse_args()
    for section in args.sections:
        growth() if section == "growth" else sections[section](tuple(args.models))


if __name__ == "__main__":
    main()
