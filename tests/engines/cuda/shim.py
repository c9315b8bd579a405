"""The CUDA sources compiled for the CPU behind shim.h, as a device of the engine's host side."""

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssmreduce.engines.cuda import _device

HERE = Path(__file__).parent
COMPILER = shutil.which("g++") if sys.platform == "linux" else None
KERNELS = ("pole_powers", "scan_chunks", "chunk_ends", "carry_chunks", "scan_look_back", "respond")
POLICIES = ("ascending", "descending", "random", "starved", "lagging", "eager", "eager_descending")
OUTCOMES = ("finished", "deadlock", "overrun of shared memory")
GUARD = 1024  # bytes on either side of an array

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ on Linux to run the CUDA sources on the CPU")


def compile_shim(folder, real, source=None, kernels=KERNELS):
    """Library with the kernels of a source, by default the engine's, for `real`, float or double."""
    table = "".join(f'    if (!strcmp(name, "{k}")) shim::body = shim::bound({k}, args);\n' for k in kernels)
    path = Path(folder) / f"kernels_{real}.cpp"
    path.write_text(
        f'#define REAL {real}\n#include "{HERE / "shim.h"}"\n{source or _device.source()}\n'
        'extern "C" int launch(const char* name, void** args, unsigned blocks, unsigned threads, size_t shared,\n'
        "                      unsigned resident, int policy, unsigned seed) {\n"
        f"{table}    return shim::launch(blocks, threads, shared, resident, policy, seed);\n}}\n"
    )
    library = path.with_suffix(".so")
    flags = ["-std=c++17", "-O1", "-ffp-contract=off", "-march=native", "-U_FORTIFY_SOURCE", "-Wno-unknown-pragmas"]
    subprocess.run([COMPILER, *flags, "-shared", "-fPIC", "-o", library, path], check=True, capture_output=True)
    return ctypes.CDLL(str(library))


class ScheduleError(AssertionError):
    """A launch that hangs, or that writes where it must not."""


class Poisoned:
    """NumPy, whose empty arrays hold NaN."""

    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype):
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[:] = 0xFF
        return array


class ShimDevice:
    """See `ssmreduce.engines.cuda._device.Device`; arrays are NumPy's, and lie between guards of NaN in a launch."""

    xp = Poisoned()

    def __init__(self, library, *, processors=2, resident=3, policy="random", seed=0):
        self.library, self.processors, self.resident = library, processors, resident
        self.policy, self.seed, self.launched = POLICIES.index(policy), seed, []

    def launch(self, kernel, blocks, threads, args, shared=0):
        if not blocks:
            return
        self.launched.append((kernel, blocks, threads, shared))
        guarded = [_guarded(a) if isinstance(a, np.ndarray) else None for a in args]
        values = [
            ctypes.c_longlong(a) if g is None else ctypes.c_void_p(g.ctypes.data + GUARD)
            for a, g in zip(args, guarded, strict=True)
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        outcome = self.library.launch(
            kernel.encode(), pointers, blocks, threads, ctypes.c_size_t(shared), self.resident, self.policy, self.seed
        )
        if outcome:
            raise ScheduleError(f"{kernel}: {OUTCOMES[outcome]}")
        for array, memory in zip(args, guarded, strict=True):
            if memory is not None:
                _unguarded(memory, array, kernel)

    def accumulate(self, a, b, out):
        assert all(x.flags.c_contiguous for x in (a, b, out))
        out += a @ b


def _guarded(array):
    assert array.flags.c_contiguous
    memory = np.full(array.nbytes + 2 * GUARD, 0xFF, np.uint8)
    memory[GUARD : GUARD + array.nbytes] = array.reshape(-1).view(np.uint8)
    return memory


def _unguarded(memory, array, kernel):
    edges = np.delete(memory, np.s_[GUARD : GUARD + array.nbytes])
    if (edges != 0xFF).any():
        raise ScheduleError(f"{kernel}: wrote outside an array")
    inside, flat = memory[GUARD : GUARD + array.nbytes], array.reshape(-1).view(np.uint8)
    if array.flags.writeable:
        flat[:] = inside
    elif not np.array_equal(flat, inside):
        raise ScheduleError(f"{kernel}: wrote into an input")
