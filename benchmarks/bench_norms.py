"""Norms against slycot and pyMOR, single thread: ``python benchmarks/bench_norms.py [--quick] [--plot growth.png]``.

Every comparison runs in this process, one side after the other, thread counts set to 1 for both. A row shows the median
of the repetitions and their spread (largest over smallest time). Needs slycot (its columns are left out otherwise).
"""

import argparse
import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["NUMBA_NUM_THREADS"] = "2"  # used by the rows that say 2 threads

import platform
import statistics
import sys
import time
import warnings

import numpy as np

from ssmreduce.norms._hankel import hankel_singular_values
from ssmreduce.norms.peak._peak_gain import peak_gain
from ssmreduce.systems._systems import DiagonalSSM

try:
    import slycot
except ImportError:
    slycot = None


def layer(kind, n, m, batch=(), seed=0):
    """A layer of n stored states as it is initialised in the literature, or made hard for norm computations."""
    rng = np.random.default_rng([seed, n, m])

    def normal(*shape):
        return rng.standard_normal((*batch, *shape)) + 1j * rng.standard_normal((*batch, *shape))

    B, C = normal(n, m), normal(m, n)
    D = np.zeros((*batch, m, m))
    D[..., range(m), range(m)] = rng.standard_normal(m)
    if kind == "s5":  # S4D-Lin poles, one step a state
        A = -0.5 + 1j * np.pi * np.arange(n)
        step = 10.0 ** rng.uniform(-3, -1, (*batch, 1 if batch else n))  # of a channel, or of a state
        Lambda = np.exp(A * step)
        B = B * ((Lambda - 1.0) / A)[..., None]
    elif kind == "lru":
        Lambda = np.sqrt(rng.uniform(0.9**2, 0.999**2, (*batch, n))) * np.exp(1j * rng.uniform(0, np.pi, (*batch, n)))
        B = B * np.sqrt(1.0 - np.abs(Lambda) ** 2)[..., None]
    else:
        gap = 10.0 ** rng.uniform(-6, -1, (*batch, n))
        Lambda = (1.0 - gap) * np.exp(1j * rng.uniform(0, np.pi, (*batch, n)))
        if kind == "equal":  # every resonance equally high
            C = C * gap / np.linalg.norm(C, axis=-2) / np.linalg.norm(B, axis=-1)
    return DiagonalSSM(Lambda, B, C, D, conj_sym=True)


def timed(function, budget, most=7):
    """Median, spread, count and last value; repeated while `budget` seconds last, at least once."""
    times, start = [], time.perf_counter()
    while not times or (len(times) < most and time.perf_counter() - start + times[-1] < budget):
        begin = time.perf_counter()
        value = function()
        times.append(time.perf_counter() - begin)
    return statistics.median(times), max(times) / min(times), len(times), value


def seconds(value):
    return f"{value:9.3g} s " if value >= 0.1 else f"{1e3 * value:9.3g} ms"


def scan_form(ssm):
    """Real A, B and C in the coordinates Re x, Im x; C of the scan form, whose Hankel singular values are compared."""
    real, imag = np.diag(ssm.Lambda.real), np.diag(ssm.Lambda.imag)
    A, B = np.block([[real, -imag], [imag, real]]), np.vstack([ssm.B.real, ssm.B.imag])
    return A, B, ssm.kappa * np.hstack([ssm.C.real, -ssm.C.imag])


def ab13dd(ssm, tol=1e-6):
    A, B, C = scan_form(ssm)
    n, (p, m) = len(A), ssm.D.shape
    return lambda: slycot.ab13dd("D", "I", "N", "D", n, m, p, A, np.eye(n), B, C @ A, ssm.D + C @ B, tol)[0]


def ab09ad(ssm):
    """Hankel singular values only come with a reduction; order 1 is the cheapest that slycot can be asked for."""
    A, B, C = scan_form(ssm)
    return lambda: slycot.ab09ad("D", "B", "N", len(A), B.shape[1], len(C), A, B, C, nr=1, tol=0.0)[-1]


def compare(title, target, ours, theirs, budget, error):
    mine = timed(ours, budget)
    line = f"{title:44s} {seconds(mine[0])} x{mine[1]:4.2f} ({mine[2]})"
    if theirs is not None:
        other = timed(theirs, budget)
        ratio = other[0] / mine[0]
        verdict = "" if target is None else f"target {target:5.4g} " + ("met" if ratio >= target else "MISSED")
        if ratio < 1.0:
            verdict += " (we lose)"
        line += f"  {seconds(other[0])} x{other[1]:4.2f} ({other[2]})  ratio {ratio:8.3g}"
        line += f"  diff {error(mine[3], other[3]):8.1e}  {verdict}"
    print(line, flush=True)


def peak_table(quick, budget):
    print("\nH-infinity norm, rtol 1e-6: ours | slycot ab13dd; median, spread, repetitions; N is the real order")
    orders = (16, 64, 128, 256) if quick else (16, 64, 128, 256, 512)
    targets = {(256, 1): 300, (512, 1): 1000, (256, 16): 40, (128, 64): 4}
    for m in (1, 16, 64) if quick else (1, 4, 16, 64, 128):
        for order in orders:
            for kind in ("s5", "lru", "narrow", "equal"):
                if order == 512 and kind != "s5":
                    continue  # minutes each for slycot
                ssm = layer(kind, order // 2, m)
                compare(
                    f"{kind:6s} N = {order:4d}, {m} x {m}",
                    targets.get((order, m), 0.5) if kind != "equal" else 0.5,
                    lambda ssm=ssm: peak_gain(ssm, threads=1).gain,
                    ab13dd(ssm) if slycot else None,
                    budget,
                    lambda a, b: abs(a / b - 1.0),
                )


def tolerance_table(budget):
    print("\nSamples and time against rtol, N = 512, one input and output")
    for kind in ("s5", "narrow"):
        ssm = layer(kind, 256, 1)
        for rtol in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10):
            spent, spread, _, peak = timed(lambda ssm=ssm, rtol=rtol: peak_gain(ssm, rtol=rtol, threads=1), budget, 15)
            gap = peak.upper / peak.gain - 1.0
            print(f"{kind:6s} rtol {rtol:7.0e} {seconds(spent)} x{spread:4.2f}  {peak.samples} samples  gap {gap:.1e}")


def batch_table(budget):
    print("\nBatches of channels with one input and output (S4D), certified to 1e-6")
    for channels, n in ((256, 32), (1024, 32)):
        ssm = layer("s5", n, 1, batch=(channels,))
        for threads in (1, 2):
            spent, spread, count, _ = timed(lambda ssm=ssm, t=threads: peak_gain(ssm, threads=t), budget)
            print(f"{channels} channels x {n} pairs, {threads} thread(s) {seconds(spent)} x{spread:4.2f} ({count})")


def relative_to_first(a, b):
    return float(np.max(np.abs(a[..., : b.shape[-1]] - b) / b[..., :1]))


def hankel_table(quick, budget):
    print("\nHankel singular values: ours | slycot ab09ad, difference relative to the largest value")
    cases = [("s5", 64, 64, None), ("s5", 256, 64, 8), ("s5", 256, 128, 8), ("s5", 64, 1, None), ("lru", 256, 1, 3)]
    if not quick:
        cases += [("lru", 256, 64, 8), ("s5", 512, 128, 8), ("s5", 256, 1, 3), ("s5", 512, 1, 3), ("lru", 512, 1, 3)]
    for kind, order, m, target in cases:
        ssm = layer(kind, order // 2, m)
        theirs = ab09ad(ssm) if slycot else None
        title = f"{kind:6s} N = {order:4d}, {m} x {m}"
        compare(title, target, lambda s=ssm: hankel_singular_values(s, threads=1), theirs, budget, relative_to_first)
    ssm = layer("lru", 128, 1)
    theirs = ab09ad(ssm) if slycot else None
    title = 'lru    N =  256, 1 x 1, accuracy="relative"'
    accurate = {"accuracy": "relative", "threads": 1}
    compare(title, None, lambda: hankel_singular_values(ssm, **accurate), theirs, budget, relative_to_first)
    many = layer("s5", 32, 1, batch=(256,))
    each = [DiagonalSSM(many.Lambda[k], many.B[k], many.C[k], many.D[k], conj_sym=True) for k in range(256)]
    calls = [ab09ad(s) for s in each] if slycot else []
    loop = (lambda: np.stack([call() for call in calls])) if slycot else None
    title = "256 channels of 64 states, a batch | a loop"
    compare(title, 7, lambda: hankel_singular_values(many, threads=1), loop, budget, relative_to_first)
    pymor_table(budget)


def pymor_table(budget):
    try:
        from pymor.core.logger import set_log_levels
        from pymor.models.iosys import LTIModel
    except ImportError:
        return
    set_log_levels({"pymor": "ERROR"})
    print("Hankel singular values: ours | pyMOR hsv")
    for kind, order, m in (("s5", 64, 64), ("s5", 256, 64)):
        ssm = layer(kind, order // 2, m)
        A, B, C = scan_form(ssm)

        def theirs(A=A, B=B, C=C):
            return np.sort(LTIModel.from_matrices(A, B, C, sampling_time=1.0).hsv())[::-1]

        title = f"{kind:6s} N = {order:4d}, {m} x {m}"
        target = 20 if order >= 256 else None
        compare(title, target, lambda s=ssm: hankel_singular_values(s, threads=1), theirs, budget, relative_to_first)


def fitted(sizes, times):
    """Exponent of a power law through the points, by least squares of the logarithms."""
    return np.polyfit(np.log(sizes), np.log(times), 1)[0]


def growth_table(quick, budget, plot):
    print("\nGrowth (rtol 1e-6, one thread): time ~ size^exponent, fitted over the listed sizes")
    orders = np.array([64, 128, 256, 512, 1024, 2048] + ([] if quick else [4096]))
    widths = np.array([1, 2, 4, 8, 16, 32, 64] + ([] if quick else [128, 256]))
    curves = {}
    for kind in ("s5", "lru", "narrow"):
        systems = [layer(kind, int(k) // 2, 1) for k in orders]
        times = [timed(lambda s=s: peak_gain(s, threads=1), budget, 3)[0] for s in systems]
        curves[kind, "N, one input and output"] = orders, times
        systems = [layer(kind, 64, int(m)) for m in widths]
        times = [timed(lambda s=s: peak_gain(s, threads=1), budget, 3)[0] for s in systems]
        curves[kind, "inputs = outputs, N = 128"] = widths, times
    systems = [layer("s5", int(k) // 2, 64) for k in orders[:5]]
    times = [timed(lambda s=s: hankel_singular_values(s, threads=1), budget, 3)[0] for s in systems]
    curves["s5", "N, Hankel singular values, 64 x 64"] = orders[:5], times
    for (kind, what), (sizes, times) in curves.items():
        listed = ", ".join(f"{s}: {seconds(t).strip()}" for s, t in zip(sizes, times, strict=True))
        print(f"{kind:6s} against {what:36s} exponent {fitted(sizes, times):4.2f}   {listed}", flush=True)
    if plot:
        draw(curves, plot)


def draw(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
    for (kind, what), (sizes, times) in curves.items():
        axis = axes[0] if what.startswith("N") else axes[1]
        axis.loglog(sizes, times, "o-", label=f"{kind}, {what} (exponent {fitted(sizes, times):.2f})")
    axes[0].set(xlabel="real order N", ylabel="seconds, one thread")
    axes[1].set(xlabel="inputs = outputs")
    for axis in axes:
        axis.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0.0, 1.0))  # above, where it hides no point
        axis.grid(which="both", alpha=0.3)
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes, a minute or so")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of repetitions a row and side")
    parser.add_argument("--plot", help="write a plot of the growth to this file (needs matplotlib)")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    peer = f"slycot {slycot.__version__}" if slycot else "no slycot: its columns are left out"
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {peer}; 1 thread unless a row says 2")
    peak_gain(layer("s5", 64, 1, batch=(128,)))  # so much work that the search is compiled
    hankel_singular_values(layer("s5", 2, 1), accuracy="relative")
    peak_table(options.quick, options.budget)
    tolerance_table(options.budget)
    batch_table(options.budget)
    hankel_table(options.quick, options.budget)
    growth_table(options.quick, options.budget, options.plot)


if __name__ == "__main__":
    sys.exit(main())
