"""Reduction methods side by side at equal stored size: certified errors, accuracy of a network, and speed.

Errors: every layer of the checkpoints in tests/data and examples/, 25, 50 and 75 % of the stored states dropped; the
proven peak gain of the error as a multiple of sigma_{r+1}, which no system of that order can beat, and the relative H2
error. Accuracy: the whole network of s5_last_uni_digits64 in NumPy. Speed: against pyMOR and SLICOT where installed, in
turns, on one thread. Run: python benchmarks/bench_reduction.py [errors] [accuracy] [speed]
"""

import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before NumPy is imported

import argparse
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

import ssmreduce as sr
from ssmreduce.reduction._reduce import METHODS

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
S5 = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
CHECKPOINTS = {
    "s5": (DATA / "s5_last_uni_digits64" / "checkpoint.msgpack", S5),
    "s5 (example)": (ROOT / "examples" / "s5_digits" / "model.safetensors", None),
    "lru": (DATA / "lru_forgi86_digits64" / "model.safetensors", None),
    "s4d": (DATA / "s4d_minimal_mnist1d" / "model.safetensors", None),
}
RATIOS = (0.25, 0.5, 0.75)
DIAGONAL = ("compensated", "greedy", "greedy_hankel", "exchange")
SHORT = {"singular_perturbation": "sing.pert.", "modal_perturbation": "modal pert.", "modal": "LAST"}


# ---------------------------------------------------------------- errors


def errors() -> None:
    print(
        "Proven peak gain of the error / sigma_{r+1}, and relative H2 error. LAST: modal truncation by its criterion."
    )
    print("H2 errors are relative to the stable part of a layer. s4d: the first layer, a batch of 48 systems.\n")
    methods = list(METHODS)
    print(f"{'layer':18}{'dropped':>8}" + "".join(f"{SHORT.get(m, m):>14}" for m in methods))
    cases: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    for label, (path, adapter) in CHECKPOINTS.items():
        layers = list(sr.load(path, adapter=adapter).values())
        for number, ssm in enumerate(layers[:1] if layers[0].batch else layers):
            for ratio in RATIOS:
                row = [layer_errors(ssm, round((1 - ratio) * ssm.order), method) for method in methods]
                for method, pair in zip(methods, row, strict=True):
                    cases[method].append(pair)
                cells = "".join(f"{f'{multiple:.2f} {h2:.3f}':>14}" for multiple, h2 in row)
                print(f"{f'{label} {number}':18}{ratio:8.0%}{cells}", flush=True)
    summary(cases)


def layer_errors(ssm: sr.DiagonalSSM, order: int, method: str) -> tuple[float, float]:
    certificate = sr.certify(ssm, METHODS[method](ssm, order).ssm)
    return certificate.multiple, certificate.relative_h2


def summary(cases: dict[str, list[tuple[float, float]]]) -> None:
    cases["best of the diagonal-keeping"] = [min(few) for few in zip(*(cases[m] for m in DIAGONAL), strict=True)]
    heading = f"{len(cases['modal'])} cases"
    print(f"\n{heading:30}{'multiple: median':>18}{'worst':>8}{'<= 2.2':>8}{'<= 3':>8}{'median H2':>11}")
    for method, pairs in cases.items():
        multiple, h2 = np.array(pairs).T
        shares = f"{np.mean(multiple <= 2.2):8.0%}{np.mean(multiple <= 3):8.0%}"
        name = SHORT.get(method, method)
        print(f"{name:30}{np.median(multiple):18.2f}{multiple.max():8.2f}{shares}{np.median(h2):11.3f}")


# ---------------------------------------------------------------- accuracy


def accuracy() -> None:
    sys.path.insert(0, str(ROOT / "examples"))
    from ssmreduce import networks

    model = sr.load(*CHECKPOINTS["s5"][:1], adapter=S5)
    with np.load(DATA / "s5_last_uni_digits64" / "heldout.npz") as split:
        x, y = split["x_test"], split["y_test"]

    def correct(reduced: sr.SSMModel) -> int:
        return int((networks.s5_flax(reduced, x).argmax(axis=1) == y).sum())

    scores = sr.score(model, "last")
    print(f"s5_last_uni_digits64, {sum(model.orders.values())} stored states, {correct(model)} of {y.size} right. Test")
    print(
        "sequences right without retraining; one model, one seed. Every layer has as many states as LAST keeps in it,"
    )
    print(
        "but for 'balanced, energy': the budget is shared by hankel_orders. All methods keep the 4 unstable states.\n"
    )
    headings = ("LAST", "compensated LAST", "greedy", "greedy_hankel", "exchange", "balanced", "balanced, energy", "h2")
    print(f"{'dropped':>8}{'states':>8}" + "".join(f"{h:>18}" for h in headings) + f"{'stored (balanced)':>20}")
    for ratio in np.arange(1, 10) / 10:
        keep = sr.select(scores, ratio=ratio)
        named = {
            m: sr.reduce(model, keep.orders, method=m)
            for m in ("greedy", "greedy_hankel", "exchange", "balanced", "h2")
        }
        energy = sr.reduce(model, sr.reduction.hankel_orders(model, ratio=ratio))
        row = [sr.prune(model, keep), sr.reduction.compensate(model, keep), named["greedy"], named["greedy_hankel"]]
        row += [named["exchange"], named["balanced"], energy, named["h2"]]
        cells = "".join(f"{correct(reduced):18d}" for reduced in row)
        stored = sum(named["balanced"].orders.values())
        print(f"{ratio:8.0%}{sum(keep.orders.values()):8d}{cells}{stored:20d}", flush=True)


# ---------------------------------------------------------------- speed


def layer(states: int, width: int, seed: int = 0) -> sr.DiagonalSSM:
    """S5 at initialisation: slow and fast oscillations, `width` inputs and outputs."""
    rng = np.random.default_rng(seed)
    step = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), states))
    B = rng.standard_normal((states, width, 2)) @ [1, 1j] / np.sqrt(2 * width)
    Lambda, B = sr.systems.zoh(
        -0.5 * np.exp(0.3 * rng.standard_normal(states)) + 1j * np.pi * np.arange(states), B, step
    )
    C = rng.standard_normal((width, states, 2)) @ [1, 1j] / np.sqrt(states)
    return sr.DiagonalSSM(Lambda, B, C, np.zeros((width, width)), conj_sym=True)


def matrices(ssm: sr.DiagonalSSM) -> tuple[np.ndarray, ...]:
    """Real A, B, C with the same gains on the unit circle; the peers take no complex ones."""
    a, b = np.diag(ssm.Lambda.real), np.diag(ssm.Lambda.imag)
    A, B = np.block([[a, -b], [b, a]]), np.vstack([ssm.B.real, ssm.B.imag])
    return A, B, ssm.kappa * np.hstack([ssm.C.real, -ssm.C.imag])


def with_slycot(ssm: sr.DiagonalSSM, order: int) -> Callable[[], tuple[np.ndarray, ...]]:
    import slycot

    A, B, C = matrices(ssm)

    def run() -> tuple[np.ndarray, ...]:
        # job "B": the work array of the balancing-free job "N" is too small in slycot 0.7.1
        return slycot.ab09ad("D", "B", "N", len(A), B.shape[1], len(C), A, B, C, nr=order)[1:4]

    return run


def with_pymor(ssm: sr.DiagonalSSM, order: int) -> Callable[[], tuple[np.ndarray, ...]]:
    from pymor.core.logger import set_log_levels
    from pymor.models.iosys import LTIModel
    from pymor.reductors.bt import BTReductor

    set_log_levels({"pymor": "ERROR"})

    def run() -> tuple[np.ndarray, ...]:
        fom = LTIModel.from_matrices(*matrices(ssm), sampling_time=1.0)
        reduced = BTReductor(fom).reduce(order, projection="sr")  # the default, bfsr, ends with a descriptor system
        return reduced.to_matrices()[:3]

    return run


def grid(ssm: sr.DiagonalSSM) -> np.ndarray:
    return np.unique(np.concatenate([np.linspace(0, np.pi, 100), np.abs(np.angle(ssm.Lambda))]))


def peak_of_error(ssm: sr.DiagonalSSM, reduced: sr.DiagonalSSM) -> float:
    error = sr.frequency_response(sr.systems.error_system(ssm, reduced), grid(ssm))
    return float(np.linalg.norm(error, 2, axis=(-2, -1)).max())


def peak_on_grid(ssm: sr.DiagonalSSM, reduced: tuple[np.ndarray, ...]) -> float:
    A, B, C = reduced
    omega = grid(ssm)
    z = np.exp(1j * omega)[:, None, None]
    states = np.linalg.solve(z * np.eye(len(A)) - A, np.broadcast_to(B, (len(z), *B.shape)))
    error = sr.frequency_response(ssm, omega) - ssm.D - z * (C @ states)
    return float(np.linalg.norm(error, 2, axis=(-2, -1)).max())


def median_seconds(calls: dict[str, Callable], repeats: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def speed(repeats: int, large: bool) -> None:
    peers = {"slycot ab09ad": ("slycot", with_slycot), "pyMOR BTReductor": ("pymor", with_pymor)}
    peers = {name: made for name, (module, made) in peers.items() if importlib.util.find_spec(module)}
    print("Balanced truncation to half the order, seconds, median of runs in turns, one thread; N counts real states.")
    print("Ours ends with the diagonal form, the peers with dense matrices. Difference: of the largest gain of the")
    print("error on a grid with all pole angles, relative to ours.\n")
    headings = "".join(f"{name:>18}{'ratio':>8}{'difference':>12}" for name in peers)
    print(f"{'N':>6}{'inputs':>8}{'ssmreduce':>12}{headings}")
    sr.reduction.balanced_truncation(layer(8, 2), 4)  # compiles
    for states, width in [(32, 32), (64, 64), (128, 128), (256, 128), (512, 128), (512, 1), *[(1024, 128)] * large]:
        ssm = layer(states, width)
        reduction = sr.reduction.balanced_truncation(ssm, states // 2)
        calls: dict[str, Callable] = {"ours": lambda ssm=ssm, k=states // 2: sr.reduction.balanced_truncation(ssm, k)}
        if states <= 256 or large:
            calls |= {name: made(ssm, reduction.real_order) for name, made in peers.items()}
        seconds = median_seconds(calls, repeats if states < 256 else 3)
        error = peak_of_error(ssm, reduction.ssm)
        line = f"{2 * states:6d}{width:8d}{seconds['ours']:12.4f}"
        for name in peers:
            if name in calls:
                difference = abs(peak_on_grid(ssm, calls[name]()) / error - 1.0)
                line += f"{seconds[name]:18.4f}{seconds[name] / seconds['ours']:8.1f}{difference:12.1e}"
        print(line, flush=True)
    layers = [layer(128, 128, seed) for seed in range(6)]
    whole = median_seconds({"all": lambda: [sr.reduction.balanced_truncation(ssm, 64) for ssm in layers]}, repeats)[
        "all"
    ]
    print(f"\n6 layers, 128 stored states (N = 256), 128 inputs and outputs: {whole:.3f} s in all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["errors", "accuracy", "speed"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large", action="store_true", help="peers at N = 1024, and N = 2048 (minutes)")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in args.parts:
        print(f"\n== {part}\n")
        speed(args.repeats, args.large) if part == "speed" else {"errors": errors, "accuracy": accuracy}[part]()


if __name__ == "__main__":
    main()
