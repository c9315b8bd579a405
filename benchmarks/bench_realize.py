"""`realize` on kernels whose systems are known, and on filters that have none: ``python benchmarks/bench_realize.py``.

``--sections speed recovery optimality peers hyena`` picks tables; ``--kernels`` and ``--length`` size the first.
"""

import argparse
import platform
import time

import numpy as np
from realize_peers import PEERS, error_of, hyena_filters

import ssmreduce as sr

ORDER = 16


def s4d_kernels(count, length):
    """Impulse responses of features with 32 stored S4D-Lin states, steps from 0.001 to 0.1."""
    rng = np.random.default_rng(0)
    A = -0.5 + 1j * np.pi * np.arange(32)
    Lambda = np.exp(A * 10.0 ** rng.uniform(-3, -1, (count, 1)))
    C = rng.standard_normal((count, 1, 32)) + 1j * rng.standard_normal((count, 1, 32))
    B = ((Lambda - 1) / A)[..., None]
    ones = (sr.DiagonalSSM(*one, conj_sym=True) for one in zip(Lambda, B, C, np.ones((count, 1, 1)), strict=True))
    return np.concatenate([sr.impulse_response(one, length)[:, 0, 0][None] for one in ones])


def known_system(n, slow, seed):
    """n real states in n / 2 pairs, gaps to the unit circle from 1e-4 to 1e-2 (slow) or from 0.03 to 0.3."""
    rng = np.random.default_rng([n, seed])
    pairs = n // 2
    gap = 10.0 ** rng.uniform(*((-4, -2) if slow else (-1.5, -0.5)), pairs)
    angle = np.pi * (np.arange(pairs) + rng.uniform(0.2, 0.8, pairs)) / pairs
    B, C = rng.standard_normal((2, pairs, 2)) @ [1, 1j]
    Lambda = (1 - gap) * np.exp(1j * angle)
    return sr.DiagonalSSM(Lambda, (B * gap**0.5)[:, None], C[None], rng.standard_normal((1, 1)), conj_sym=True)


def response(ssm, length):
    return np.asarray(sr.impulse_response(ssm, length))[:, 0, 0]


def shares(ratio):
    return "  ".join(f"{np.percentile(ratio, share):.3f}" for share in (10, 50, 90, 100))


def speed(arguments):
    bank = s4d_kernels(arguments.kernels, arguments.length)
    sr.realize(bank[:2], order=ORDER)  # compiles
    print(f"\n{arguments.kernels} kernels of length {arguments.length}, order {ORDER}")
    for threads in (1, 2):
        start, cpu = time.perf_counter(), time.process_time()
        found = sr.realize(bank, order=ORDER, threads=threads)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        print(f"threads {threads}: seconds {seconds:.1f}, of the processors {cpu:.1f}")
    ratio = found.upper / found.hankel_singular_values[:, ORDER]
    print("upper bound of the peak error / next Hankel singular value, 10, 50, 90, 100 % of the kernels at most")
    print(f"{shares(ratio)}; at most 2.5: {np.mean(ratio <= 2.5):.1%}")


def recovery(arguments):
    print("\nkernels of known systems: order found, and upper bound of the peak error / peak gain of the system")
    print("    n  poles       L  systems  order found  error at most  next order's sigma_n / sigma_1 at least")
    for n in (4, 8, 16, 32, 64):
        for slow in (False, True):
            for length in (256, 1024, 8192, 65536):
                many = range(2 if length > 8192 else 5)
                systems = [known_system(n, slow, seed) for seed in many]
                found = [sr.realize(response(ssm, length)[None]) for ssm in systems]
                same = sum(int(f.order[0]) == n for f in found)
                said = sum(bool(f.numerical[0]) for f in found)
                worst = max(f.upper[0] / sr.hinf_norm(ssm) for f, ssm in zip(found, systems, strict=True))
                least = min(
                    f.hankel_singular_values[0, min(int(f.order[0]), n) - 1] / f.hankel_singular_values[0, 0]
                    for f in found
                )
                note = f"  ({said} said to be numerical)" * bool(said)
                case = f"{n:5d}  {'slow' if slow else 'fast'}  {length:6d}  {len(many):7d}"
                print(f"{case}  {same:11d}  {worst:13.1e}  {least:.1e}{note}")


def optimality(arguments):
    print("\nupper bound of the peak error / next Hankel singular value; 10, 50, 90, 100 % of the kernels at most")
    sets = {"S4D, L 2048": s4d_kernels(100, 2048), "Hyena-like, L 2048": hyena_filters(100, 2048, 33, 64, 10.0)}
    for slow in (False, True):
        systems = [known_system(n, slow, seed) for n in (16, 32, 64) for seed in range(20)]
        sets[f"{'slow' if slow else 'fast'} systems, L 2048"] = np.array([response(ssm, 2048) for ssm in systems])
    for name, bank in sets.items():
        for order in (4, 8, 12, 16):
            found = sr.realize(bank, order=order)
            values = found.hankel_singular_values
            left = values[:, order] > 1e-10 * values[:, 0]  # the others are exact
            ratio = (found.upper / values[:, order])[left]
            share = f"at most 2.5: {np.mean(ratio <= 2.5):.1%} of {left.sum()}"
            print(f"{name:24s} order {order:2d}: {shares(ratio)}; {share}")


def peers(arguments):
    print("\nat equal real order: peak error / peak gain over the samples (median, 90 %, largest), median error in l2,")
    print("and seconds of the processor per kernel; L 1024, 10 kernels a set; residues of the peers by least squares")
    sets = {"S4D": s4d_kernels(10, 1024), "Hyena-like": hyena_filters(10, 1024, 33, 64, 10.0)}
    for name, bank in sets.items():
        for order in (8, 16):
            for method, fit in PEERS.items():
                start = time.process_time()
                errors = np.array([error_of(kernel, fit(kernel, order)) for kernel in bank])
                cpu = (time.process_time() - start) / len(bank)
                peak = "  ".join(f"{np.percentile(errors[:, 0], share):8.1e}" for share in (50, 90, 100))
                print(f"{name:17s} order {order:2d}  {method:20s} {peak}   {np.median(errors[:, 1]):8.1e}  {cpu:7.3f}")


def hyena(arguments):
    print("\n128 Hyena-like filters (untrained implicit network times decay), L 2048: certified relative peak error")
    print("(upper bound / peak gain: median, 90 %, largest) and tail after the samples / peak gain (largest)")
    for options in ((3, 16, 1.0), (33, 64, 1.0), (33, 64, 10.0)):
        name = "embedding {}, width {}, w {:g}".format(*options)
        bank = hyena_filters(128, 2048, *options)
        gain = np.abs(np.fft.rfft(bank, 2**16)).max(-1)
        for order in (16, 24, 32, 48, 64):
            found = sr.realize(bank, order=order)
            relative = found.upper / gain
            cells = "  ".join(f"{np.percentile(relative, share):8.1e}" for share in (50, 90, 100))
            print(f"{name}  states {order:2d}: {cells}   tail {np.max(found.tail / gain):8.1e}")


SECTIONS = {f.__name__: f for f in (speed, recovery, optimality, peers, hyena)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--kernels", type=int, default=1000)
    parser.add_argument("--length", type=int, default=8192)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, NumPy {np.__version__}")
    for name in arguments.sections:
        SECTIONS[name](arguments)


if __name__ == "__main__":
    main()
