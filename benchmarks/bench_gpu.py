"""The CUDA engine against the copy bandwidth of the device and its peers: ``python benchmarks/bench_gpu.py [--quick]``.

Needs a CUDA device and CuPy; without one it says so and ends with status 1. Times are medians of device events, after
warming up. Peers: JAX's associative scan where JAX sees the device, the two matrix products alone, and the FFT
convolution with a cached kernel (cuFFT).
"""

import argparse
import os
import statistics
import sys
import time
from functools import partial

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX would leave CuPy no memory

import numpy as np

from ssmreduce import simulate
from ssmreduce.systems._systems import DiagonalSSM

SCANS = [(8, 16384, 384), (1, 16384, 384), (64, 1024, 64), (1, 2**20, 16)]  # rows, steps, states
S5 = [(64, 128), (192, 256), (384, 512)]  # states, features
S4D = [(32, 256), (8, 256)]
SIZES = [(batch, length) for length in (1024, 16384) for batch in (1, 8, 64)]


def missing_device():
    """Why nothing can be measured; None if there is a device."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed: pip install 'ssmreduce[cuda13]' (or cuda12)"
    return None if cupy.cuda.is_available() else "no CUDA device was found"


def milliseconds(function, repeat):
    """Median time of a call on the device."""
    from cupyx.profiler import benchmark

    return 1e3 * statistics.median(benchmark(function, n_repeat=repeat, n_warmup=3).gpu_times[0])


def s5_layer(rng, states, features):
    """Random layer of S5's shape, with half of the poles stored."""
    Lambda = rng.uniform(0.9, 0.9999, states) * np.exp(1j * rng.uniform(0, np.pi, states))
    B, C = (rng.normal(size=(s, 2)) @ [1, 1j] for s in (states * features, features * states))
    D = np.diag(rng.normal(size=features))
    return DiagonalSSM(Lambda, B.reshape(states, features), C.reshape(features, states), D, conj_sym=True)


def s4d_layer(rng, states, features):
    """Random layer of S4D's shape: a system of one input a feature."""
    Lambda = rng.uniform(0.9, 0.9999, (features, states)) * np.exp(1j * rng.uniform(0, np.pi, (features, states)))
    B, C = (rng.normal(size=(features, states, 2)) @ [1, 1j] for _ in range(2))
    return DiagonalSSM(Lambda, B[..., None], C[:, None, :], rng.normal(size=(features, 1, 1)), conj_sym=True)


def convolution(xp, kernel, feed, length):
    """Function of u (batch, L, H): the causal convolution with kernel (L, H) by FFT, its transform cached, plus D u."""
    transform = xp.fft.rfft(kernel, 2 * length, axis=0)
    return lambda u: (
        xp.fft.irfft(xp.fft.rfft(u, 2 * length, axis=1) * transform, 2 * length, axis=1)[:, :length] + (feed * u)
    )


def s4d_kernel(ssm, length):
    """Kernel (L, H) of a layer of S4D's shape, without D; in double."""
    steps = np.arange(length)[:, None, None]
    weights = 2 * (np.asarray(ssm.B)[..., 0] * np.asarray(ssm.C)[:, 0])
    return np.concatenate([(weights * np.asarray(ssm.Lambda) ** k).sum(-1).real for k in np.array_split(steps, 64)])


def associative_scan(Lambda, inputs):
    """Time in ms of JAX's associative scan of inputs (rows, L, n) given as NumPy arrays; NaN if JAX sees no device."""
    try:
        import jax
    except ImportError:
        return float("nan")
    if jax.default_backend() not in ("gpu", "cuda"):
        return float("nan")
    gates = jax.numpy.broadcast_to(jax.numpy.asarray(Lambda), inputs.shape)
    scan = jax.jit(
        lambda a, b: jax.lax.associative_scan(lambda p, q: (q[0] * p[0], q[0] * p[1] + q[1]), (a, b), axis=1)
    )
    values, times = jax.numpy.asarray(inputs), []
    for _ in range(8):
        start = time.perf_counter()
        jax.block_until_ready(scan(gates, values))
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[3:])


def row(*cells):
    """One line of a table: text to the left, numbers to the right."""
    return "  ".join(f"{c:<22}" if isinstance(c, str) else f"{c:>10.3f}" for c in cells)


def copy_bandwidth(repeat):
    """GB/s of a copy of 1 GiB, read and written."""
    import cupy

    source = cupy.zeros(2**28, cupy.float32)
    target = cupy.empty_like(source)
    return 2 * source.nbytes / 1e6 / milliseconds(lambda: cupy.copyto(target, source), repeat)


def measure_scans(rng, repeat, copy):
    """The scan alone, in place: 16 bytes an element."""
    import cupy

    from ssmreduce.engines.cuda import _cupy, _device

    print(row("scan (rows, L, n)", "engine"), "        ms       GB/s  % of copy   JAX (ms)")
    for rows, length, states in SCANS:
        Lambda = (0.5 * np.exp(1j * rng.uniform(0, np.pi, (1, states)))).astype(np.complex64)
        inputs = rng.normal(size=(rows, length, states)).astype(np.complex64)
        peer = associative_scan(Lambda[0], inputs)
        poles, values, state = cupy.asarray(Lambda), cupy.asarray(inputs[None]), cupy.zeros((1, rows, states), "F")
        device = _cupy.CuPyDevice(values.dtype)
        for name, back in (("cupy", False), ("cupy-look-back", True)):
            run = partial(_device.scan, device, poles, values, state, reverse=False, look_back=back)
            taken = milliseconds(run, repeat)
            speed = 16 * inputs.size / 1e6 / taken
            print(row(str((rows, length, states)), name, taken, speed, 100 * speed / copy, peer))


def measure_layers(rng, repeat, sizes):
    """Whole layers in single precision, beside what bounds them."""
    import cupy

    print(row("S5 (n, H, batch, L)"), "        ms  products alone (ms)")
    for states, features in S5:
        ssm = on_device(s5_layer(rng, states, features))
        for batch, length in sizes:
            u = cupy.asarray(rng.normal(size=(batch, length, features)), cupy.float32)
            B, C = (cupy.ones(shape, cupy.float32) for shape in ((features, 2 * states), (2 * states, features)))
            bound = milliseconds(lambda: cupy.matmul(cupy.matmul(u, B), C), repeat)  # noqa: B023
            taken = milliseconds(lambda: simulate(ssm, u), repeat)  # noqa: B023
            print(row(str((states, features, batch, length)), taken, bound))
    print(row("S4D (n, H, batch, L)"), "        ms   cuFFT (ms)")
    for states, features in S4D:
        host = s4d_layer(rng, states, features)
        ssm, feed = on_device(host), cupy.asarray(host.D[:, 0, 0], cupy.float32)
        for batch, length in sizes:
            u = cupy.asarray(rng.normal(size=(batch, length, features)), cupy.float32)
            peer = convolution(cupy, cupy.asarray(s4d_kernel(host, length), cupy.float32), feed, length)
            taken = milliseconds(lambda: simulate(ssm, u), repeat)  # noqa: B023
            print(row(str((states, features, batch, length)), taken, milliseconds(lambda: peer(u), repeat)))  # noqa: B023


def measure_drop_ins(rng, repeat, sizes):
    """Drop-in PyTorch layers on the device, whose scan is the kernel, beside the engine alone."""
    import cupy
    import torch

    from ssmreduce.networks import SSMLayer

    if not torch.cuda.is_available():
        print("Drop-in layers were not measured: PyTorch sees no CUDA device.")
        return
    print(row("drop-in (n, H, batch, L)"), "        ms  engine alone (ms)")
    for ssm in (*(s5_layer(rng, *size) for size in S5), *(s4d_layer(rng, *size) for size in S4D)):
        layer, system, features = SSMLayer(ssm, device="cuda"), on_device(ssm), ssm.systems * ssm.inputs
        for batch, length in sizes:
            u = rng.normal(size=(batch, length, features)).astype(np.float32)
            tensor, array = torch.tensor(u, device="cuda"), cupy.asarray(u)
            with torch.inference_mode(), cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream):
                taken = milliseconds(lambda: layer(tensor), repeat)  # noqa: B023
            alone = milliseconds(lambda: simulate(system, array), repeat)  # noqa: B023
            print(row(str((ssm.order, features, batch, length)), taken, alone))


def on_device(ssm):
    """The same system with CuPy arrays."""
    import cupy

    arrays = (cupy.asarray(getattr(ssm, name)) for name in ("Lambda", "B", "C", "D"))
    return DiagonalSSM(*arrays, conj_sym=True)


def main(arguments=None):
    """Print the tables; 1 if there is no device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sizes and repetitions")
    options = parser.parse_args(arguments)
    if reason := missing_device():
        print(f"Nothing was measured: {reason}.")
        return 1
    import cupy

    rng, repeat = np.random.default_rng(0), 5 if options.quick else 30
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    copy = copy_bandwidth(repeat)
    print(f"{properties['name'].decode()}, copy {copy:.0f} GB/s, CuPy {cupy.__version__}, NumPy {np.__version__}")
    measure_scans(rng, repeat, copy)
    sizes = SIZES[:1] if options.quick else SIZES
    measure_layers(rng, repeat, sizes)
    measure_drop_ins(rng, repeat, sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
