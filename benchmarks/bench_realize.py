"""Kernels of S4D features to systems of order 16: ``python benchmarks/bench_realize.py [kernels] [length]``.

Prints the seconds, and the peak error over the samples (its proven upper bound) over the next Hankel singular value of
the section, below which no system of that order comes.
"""

import platform
import sys
import time

import numpy as np

import ssmreduce as sr

ORDER = 16


def kernels(count, length):
    """Impulse responses of features with 32 stored S4D-Lin states, steps from 0.001 to 0.1."""
    rng = np.random.default_rng(0)
    A = -0.5 + 1j * np.pi * np.arange(32)
    Lambda = np.exp(A * 10.0 ** rng.uniform(-3, -1, (count, 1)))
    C = rng.standard_normal((count, 1, 32)) + 1j * rng.standard_normal((count, 1, 32))
    ssm = sr.DiagonalSSM(Lambda, ((Lambda - 1) / A)[..., None], C, np.ones((count, 1, 1)), conj_sym=True)
    return np.concatenate([sr.impulse_response(one, length)[:, 0, 0][None] for one in features(ssm)])


def features(ssm):
    """The systems of the batch, one at a time: less memory."""
    for h in range(ssm.systems):
        yield sr.DiagonalSSM(ssm.Lambda[h], ssm.B[h], ssm.C[h], ssm.D[h], conj_sym=True)


def main(count=1000, length=8192):
    bank = kernels(count, length)
    sr.realize(bank[:1], order=ORDER)  # compiles
    start, start_cpu = time.perf_counter(), time.process_time()
    found = sr.realize(bank, order=ORDER)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    ratio = found.upper / found.hankel_singular_values[:, ORDER]
    print(f"{platform.machine()}, {count} kernels of length {length}, order {ORDER}")
    print(f"seconds {seconds:.1f}, of the processor {cpu:.1f}, one thread")
    for share in (10, 50, 90, 100):
        print(f"upper / next singular value, {share:3d} % of the kernels at most {np.percentile(ratio, share):.3f}")
    print(f"share of the kernels at most 2.5: {np.mean(ratio <= 2.5):.3f}")
    print(f"kernels with poles that were moved: {np.count_nonzero(found.moved)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
