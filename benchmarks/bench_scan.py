"""Scan engines against their peers and the machine: ``python benchmarks/bench_scan.py [--quick] [--sections s5 ...]``.

One process pinned to one core, all libraries on one thread; the section `threads` alone uses more. The calls of a row
take turns of one call, or of as many as fill 30 ms after one that is not counted, so that short calls meet warm caches.
A row shows the median of their wall times, in brackets the least (the quiet one), and the spread (largest over least);
ratios are of medians; compiling and a first call are not counted. The multiply-add rate of the processor is measured in
the same turns. Every peer is checked against double precision in the run that times it, on the first sequence of the
batch. A peer that would need too much memory or time is left out, and the row says so. float32 throughout.

Where a target is missed, the row also shows what a layer that ran at the whole multiply-add rate of the processor would
reach, with as few multiply-adds as we know of: none but those of the two products (S5), four a state and step (S4D).

With glibc the process keeps the memory that it has once had, for every side: fresh pages for each large output would
cost a virtual machine more than some of the calls that are measured. It cannot keep outputs of 2 GiB; where the system
spends more than a tenth of a second of a call of ours on them, the row says how long.
"""

import argparse
import ctypes
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"
if platform.libc_ver()[0] == "glibc":
    ctypes.CDLL(None).mallopt(-4, 0)  # M_MMAP_MAX: no mappings of their own for large arrays
    ctypes.CDLL(None).mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: all but the largest outputs stay
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
if CORES:
    os.sched_setaffinity(0, CORES[:1])  # before any library counts the cores

import numpy as np
import scan_limits
import scan_peers
import torch

import ssmreduce as sr
from ssmreduce.engines.numba import _engine as _numba

torch.set_num_threads(1)
MEMORY = 8e9  # bytes that a peer may need
TURN = 0.03  # seconds
SECTIONS = ("limits", "s5", "s4d", "scan", "threads", "pruning", "memory", "growth", "step")
S5_PEERS = {  # name: (call, states that it keeps at once, target of a row)
    "products alone": (scan_peers.s5_products, 0, 1.0),
    "jax associative_scan": (scan_peers.s5_associative_scan, 4, 3.5),
    "jax lax.scan": (scan_peers.s5_lax_scan, 3, 3.0),
    "  the same, packed": (scan_peers.s5_lax_scan_packed, 3, None),
    "s5-pytorch": (scan_peers.s5_pytorch, 6, 2.3),
    "torch loop": (scan_peers.s5_torch_loop, 3, 2.3),
    "numpy loop": (scan_peers.s5_numpy_loop, 2, 2.3),
}
S4D_PEERS = {
    "torch FFT, cached": (scan_peers.s4d_torch_fft, 0, None),
    "scipy FFT, cached": (scan_peers.s4d_scipy_fft, 0, None),
    "jax FFT, cached": (scan_peers.s4d_jax_fft, 0, None),
    "S4D as published": (scan_peers.s4d_published, 0, None),
    "jax associative_scan": (scan_peers.s4d_associative_scan, 4, 100),
    "jax lax.scan": (scan_peers.s4d_lax_scan, 0, None),
    "numpy loop": (scan_peers.s4d_numpy_loop, 0, None),
}
clock = time.perf_counter  # or the processor time, on a machine with other work
rates = {}  # seconds a sample and state of a peer, from rows before
ratios = {}  # name: ratios of all rows


def s5_layer(H, n, seed=0):
    """S5 at its initialisation: S4D-Lin poles, a step for each state, zero-order hold."""
    rng = np.random.default_rng([seed, H, n])
    A = -0.5 + 1j * np.pi * np.arange(n)
    Lambda = np.exp(A * 10.0 ** rng.uniform(-3, -1, n))
    B, C = (rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in ((n, H), (H, n)))
    B = B * ((Lambda - 1) / A)[:, None] / np.sqrt(H)
    return sr.DiagonalSSM(Lambda, B, C / np.sqrt(n), np.diag(rng.standard_normal(H)), conj_sym=True)


def s4d_layer(H, n, seed=0):
    rng = np.random.default_rng([seed, H, n])
    A = -0.5 + 1j * np.pi * np.arange(n)
    Lambda = np.exp(A * 10.0 ** rng.uniform(-3, -1, (H, 1)))
    B, C = ((Lambda - 1) / A)[..., None], rng.standard_normal((H, 1, n)) + 1j * rng.standard_normal((H, 1, n))
    return sr.DiagonalSSM(Lambda, B, C, rng.standard_normal((H, 1, 1)), conj_sym=True)


def inputs(batch, length, width):
    """Random sequences; one is drawn, the others are it, scaled."""
    one = np.random.default_rng([length, width]).standard_normal((1, length, width), dtype=np.float32)
    return np.ascontiguousarray(one * np.linspace(1.0, 2.0, batch, dtype=np.float32)[:, None, None])


def ours(ssm, u, threads=1):
    return lambda: sr.simulate(ssm, u, engine="numba", threads=threads)


def race(calls, budget, most=11, wall=False):
    """Medians, least, spreads and counts of turns; each call has run once before, and gets a share of `budget`.

    A turn is one call, or as many as fill TURN seconds, of which it counts the mean, after one that is not counted.
    """
    timer = time.perf_counter if wall else clock

    def turn(call, number):
        if number > 1:
            call()
        begin = timer()
        for _ in range(number):
            call()
        return (timer() - begin) / number

    numbers = {name: max(1, math.ceil(TURN / max(turn(call, 1), 1e-6))) for name, call in calls.items()}
    times = {name: [] for name in calls}
    share, running = budget / len(calls), True
    while running:
        running = False
        for name, call in calls.items():
            spent, number = times[name], numbers[name]
            if len(spent) < most and (not spent or (sum(spent) + spent[-1]) * number <= share):
                spent.append(turn(call, number))
                running = True
    return {name: (statistics.median(t), min(t), max(t) / min(t), len(t)) for name, t in times.items()}


def shown(result):
    median, least, spread, count = result
    unit, scale = ("s ", 1) if median >= 1 else ("ms", 1e3)
    return f"{scale * median:8.3g} {unit} [{scale * least:5.3g}] x{spread:4.2f} ({count:2d})"


def verdict(value, target, best=None):
    if target is None or value >= target:
        return "" if target is None else f"target {target:g} met"
    return f"target {target:g} MISSED" + (f" ({best:.3g} at the peak)" if best else "")


def error(result, exact):
    """Largest error of the first sequence, relative to the largest output."""
    first = np.asarray(result[0])
    first = first if first.shape == exact.shape else first.T
    return np.abs(first - exact).max() / np.abs(exact).max()


def prepare(table, ssm, u, key, most):
    """Peers that fit, warm and checked; what is left out, with the reason."""
    exact = sr.simulate(rounded(ssm), u[0].astype(float), engine="numba", threads=1)
    work = u.shape[0] * u.shape[1]
    states = 8.0 * work * ssm.order * math.prod(ssm.batch)
    calls, notes, errors = {}, {}, {}
    for name, (make, kept, _) in table.items():
        needed = kept * states + 6.0 * u.nbytes * (kept > 0 or "FFT" in name or "published" in name)
        guess = rates.get((*key, name), 0.0) * work
        if needed > MEMORY:
            notes[name] = f"left out: would need about {needed / 1e9:.0f} GB"
        elif guess > most:
            notes[name] = f"left out: would take about {guess:.0f} s"
        else:
            calls[name] = make(ssm, u)
            begin = clock()
            result = calls[name]()
            rates[*key, name] = (clock() - begin) / work
            errors[name] = None if result is None else error(result, exact)
            del result
    return calls, notes, errors, exact


def rounded(ssm):
    """The system whose parameters are exact in single precision."""

    def single(a):
        return a.astype(np.complex64 if a.dtype.kind == "c" else np.float32).astype(a.dtype)

    return sr.DiagonalSSM(single(ssm.Lambda), single(ssm.B), single(ssm.C), single(ssm.D), conj_sym=ssm.conj_sym)


def compare(title, table, ssm, u, flops, least, limit, options, key):
    """One row: our engine, its share of the multiply-add rate, and the peers.

    `flops` is what is counted, `least` what cannot be done without. Returns the ratios of the peers, and how often our
    engine would run at the peak in the time of one run.
    """
    calls, notes, errors, exact = prepare(table, ssm, u, key, 1.5 * options.budget)
    own, system = ours(ssm, u), []
    own_error = error(own(), exact)

    def watched():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
        own()
        system.append(resource.getrusage(resource.RUSAGE_SELF).ru_stime - before)

    peak, peak_flops = scan_limits.multiply_add()
    times = race({"peak": peak, "ours": watched, **calls}, options.budget)
    rate, top = flops / times["ours"][0], peak_flops / times["peak"][0]
    share, headroom = 100 * rate / top, times["ours"][0] * top / least
    quiet = 100 * (flops / times["ours"][1]) / (peak_flops / times["peak"][1])
    print(
        f"{title:38s} {shown(times['ours'])} {1e-9 * rate:6.1f} GF/s = {share:3.0f} % of {1e-9 * top:.0f}"
        f" [{quiet:.0f} %]  err {own_error:.0e}  {verdict(share, limit)}"
    )
    if statistics.mean(system) > 0.1:
        print(f"    of this in the system, for fresh pages: {statistics.mean(system):.2g} s")
    for name in table:
        if name in notes:
            print(f"    {name:22s} {notes[name]}")
            continue
        ratio = times[name][0] / times["ours"][0]
        ratios.setdefault((key[0], name), []).append(ratio)
        checked = f"err {errors[name]:.0e}" if errors[name] is not None else " " * 9
        judged = verdict(ratio, table[name][2], ratio * headroom)
        print(f"    {name:22s} {shown(times[name])}  {ratio:7.3g}x  {checked}  {judged}")
    sys.stdout.flush()
    return {name: times[name][0] / times["ours"][0] for name in calls}, headroom


def limits(options):
    arrays = np.ones(2**24, np.float32)
    for name, (call, amount), unit in (
        ("multiply-add, float32", scan_limits.multiply_add(), "GF/s"),
        ("multiply-add, float64", scan_limits.multiply_add(np.float64), "GF/s"),
        ("matrix product, float32", scan_limits.matrix_product(), "GF/s"),
        ("matrix product, float64", scan_limits.matrix_product(np.float64), "GF/s"),
        ("copy, 64 MiB (read and written)", scan_limits.copy(arrays), "GB/s"),
    ):
        call()
        result = race({name: call}, options.budget / 8)[name]
        print(f"{name:38s} {shown(result)} {1e-9 * amount / result[0]:6.1f} {unit}", flush=True)


def sizes(options):
    return [(length, batch) for length in (1024, 16384) for batch in ((1, 8) if options.quick else (1, 8, 64))]


def s5(options):
    for H, n in ((128, 64),) if options.quick else ((128, 64), (256, 192), (512, 384)):
        ssm = s5_layer(H, n)
        for length, batch in sizes(options):
            flops, least = ((8 * n * H + rest) * batch * length for rest in (8 * n + 2 * H, 0))
            title = f"S5 H {H} n {n} L {length} batch {batch}"
            compare(title, S5_PEERS, ssm, inputs(batch, length, H), flops, least, 80, options, ("s5", H))
    for name, target in (
        ("jax associative_scan", 5.5),
        ("jax lax.scan", 4.0),
        ("  the same, packed", None),
        ("products alone", None),
    ):
        mean = statistics.geometric_mean(ratios["s5", name])
        print(f"geometric mean over rows, {name:22s} {mean:6.3g}x {verdict(mean, target)}")


def s4d(options):
    ssm = s4d_layer(256, 32)
    for length, batch in sizes(options):
        flops, least = (each * 32 * 256 * batch * length for each in (12, 8))
        title = f"S4D H 256 n 32 L {length} batch {batch}"
        found, headroom = compare(
            title, S4D_PEERS, ssm, inputs(batch, length, 256), flops, least, 75, options, ("s4d",)
        )
        best = min((found[name] for name in found if "FFT" in name), default=None)
        if best is not None:
            judged = verdict(best, 2.5 if length < 4096 else 5.0, best * headroom)
            print(f"    best FFT convolution: {best:.3g}x {judged}", flush=True)


def scan(options):
    """The scan alone, in place, against a copy of the same states."""
    for batch, length, n in ((8, 16384, 64), (1, 16384, 384), (8, 65536, 8), (8, 65536, 3)):
        states = np.ones((1, batch, length, n), np.complex64)
        Lambda, start = np.full((1, n), 0.5 + 0.5j, np.complex64), np.zeros((1, batch, n), np.complex64)
        copy, amount = scan_limits.copy(states)
        call = lambda v=states, p=Lambda, x=start: _numba.scan(p, v, x, reverse=False)  # noqa: E731
        call()
        times = race({"scan": call, "copy": copy}, options.budget / 4)
        share = times["copy"][0] / times["scan"][0]
        title = f"scan alone, batch {batch} L {length} n {n}"
        print(f"{title:38s} {shown(times['scan'])} {1e-9 * amount / times['scan'][0]:6.1f} GB/s, {share:.2f} of a copy "
              f"{verdict(share, 0.9)}", flush=True)  # fmt: skip


def threads(options):
    if len(CORES) < 2:
        print("one core only: left out")
        return
    os.sched_setaffinity(0, CORES)
    layers = {
        "S5 H 128 n 64": s5_layer(128, 64),
        "S5 H 256 n 192": s5_layer(256, 192),
        "S4D H 256 n 32": s4d_layer(256, 32),
    }
    for name, ssm in layers.items():
        for batch, length in ((1, 16384), (2, 8192), (8, 4096)):
            u = inputs(batch, length, ssm.D.shape[-1] * math.prod(ssm.batch))
            calls = {k: ours(ssm, u, k) for k in (1, 2)}
            for call in calls.values():
                call()
            times = race(calls, options.budget / 4, most=21, wall=True)
            ratio = times[1][0] / times[2][0]
            title = f"{name} L {length} batch {batch}"
            print(
                f"{title:38s} 1: {shown(times[1])}  2: {shown(times[2])}  {ratio:.2f}x {verdict(ratio, 1.7)}",
                flush=True,
            )
    os.sched_setaffinity(0, CORES[:1])


def pruning(options):
    """The same layer with half and a quarter of its states."""
    for name, build, H, n in (("S5", s5_layer, 256, 192), ("S5", s5_layer, 512, 384), ("S4D", s4d_layer, 256, 32)):
        u = inputs(8, 2048, H)
        calls = {k: ours(build(H, n // k), u) for k in (1, 2, 4)}
        calls["copy"] = lambda u=u: np.array(u)
        for call in calls.values():
            call()
        times = race(calls, options.budget / 2)
        targets = {2: 1.85, 4: 3.6} if name == "S5" else {}
        print(f"{name} H {H} n {n} L 2048 batch 8: {shown(times[1])}   copy of the input {shown(times['copy'])}")
        for k in (2, 4):
            ratio = times[1][0] / times[k][0]
            print(
                f"    1/{k} of the states {shown(times[k])}  {ratio:.2f}x {verdict(ratio, targets.get(k))}", flush=True
            )


def memory(options):
    """Peak memory of a process beyond input and output."""
    for name in ("s5", "s4d"):
        own = [peak_memory(name, length) for length in (1024, 16384, 131072)]
        listed = ", ".join(f"L {length}: {value:.1f}" for length, value in zip((1024, 16384, 131072), own, strict=True))
        state = "met" if own[2] <= own[0] + 2.0 else "MISSED"
        print(f"{name} H 256, MiB beyond input and output  {listed}  (independent of L: {state})", flush=True)


def peak_memory(name, length):
    command = [sys.executable, __file__, "--memory-of", name, str(length)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def memory_of(name, length):
    ssm = s5_layer(256, 192) if name == "s5" else s4d_layer(256, 32)
    sr.simulate(ssm, inputs(1, 300, 256), engine="numba", threads=1)
    u = np.random.default_rng(0).standard_normal((1, length, 256), dtype=np.float32)  # without a second copy
    before = high_water()
    y = sr.simulate(ssm, u, engine="numba", threads=1)
    print((high_water() - before - y.nbytes) / 2**20)


def high_water():
    """Most bytes that this process ever held; Linux hands the number of getrusage on to children, hence the file."""
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as lines:
            return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def growth(options):
    """Exponents of a power law through the medians."""
    base = {"L": 2048, "n": 64, "H": 128, "batch": 2}
    steps = {
        "L": (1024, 4096, 16384, 65536),
        "n": (32, 64, 128, 256),
        "H": (64, 128, 256, 512),
        "batch": (1, 4, 16, 64),
    }
    for name, build in (("S5", s5_layer), ("S4D", s4d_layer)):
        for what, values in steps.items():
            calls = {}
            for value in values:
                size = base | {what: value}
                calls[value] = ours(build(size["H"], size["n"]), inputs(size["batch"], size["L"], size["H"]))
                calls[value]()
            times = race(calls, options.budget / 2)
            medians = [times[value][0] for value in values]
            exponent = np.polyfit(np.log(values), np.log(medians), 1)[0]
            listed = ", ".join(f"{v}: {shown(times[v])[:11].strip()}" for v in values)
            print(f"{name:4s} against {what:6s} exponent {exponent:.2f} (operations: 1)   {listed}", flush=True)


def step(options):
    """One sample at a time with carried state, as in a recurrent rollout."""
    for name, ssm in (("S5 H 128 n 64", s5_layer(128, 64)), ("S4D H 256 n 32", s4d_layer(256, 32))):
        u = inputs(1, 1, ssm.D.shape[-1] * math.prod(ssm.batch))
        state = sr.responses.simulate_chunk(ssm, u, threads=1).state
        times = race(
            {"step": lambda s=ssm, v=u, x=state: sr.responses.simulate_chunk(s, v, state=x, threads=1)}, 1.0, most=2001
        )
        print(f"{name:38s} {1e6 * times['step'][0]:.1f} us a step, median of {times['step'][3]}", flush=True)


def processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except OSError:
        return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few sizes, two minutes or so")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--budget", type=float, help="seconds of turns a row")
    parser.add_argument("--processor-time", action="store_true", help="not wall time: for a machine with other work")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory_of(options.memory_of[0], int(options.memory_of[1]))
        return
    global clock
    clock = time.process_time if options.processor_time else clock
    options.budget = options.budget or (3.0 if options.quick else 12.0)
    versions = ", ".join(f"{m.__name__} {m.__version__}" for m in (np, scan_peers.jax, torch, scan_limits.numba))
    print(f"Python {platform.python_version()}, {versions}; {processor()}, {scan_limits.vector_bytes()}-byte vectors")
    print(f"load of the machine at the start: {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "")
    for name in options.sections:
        print(f"\n{name}")
        globals()[name](options)


if __name__ == "__main__":
    sys.exit(main())
