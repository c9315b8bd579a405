"""What this machine can do at most: multiply-add rate, matrix products, copies. Needs Numba only."""

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

CHAINS = 12  # independent sums: enough to hide the latency of every processor we know


def vector_bytes():
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


@intrinsic
def _multiply_add(typingctx, x, rounds):
    """Run `rounds` x CHAINS multiply-adds on the widest vectors, in registers only."""

    def codegen(context, builder, signature, args):
        scalar, item = (ir.FloatType(), 4) if signature.args[0] == types.float32 else (ir.DoubleType(), 8)
        width = vector_bytes() // item
        vector = ir.VectorType(scalar, width)
        name, kind = f"llvm.fmuladd.v{width}f{8 * item}", ir.FunctionType(vector, [vector] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, name)
        start = ir.Constant(vector, ir.Undefined)
        for lane in range(width):
            start = builder.insert_element(start, args[0], ir.IntType(32)(lane))
        sums = [cgutils.alloca_once(builder, vector) for _ in range(CHAINS)]
        for slot in sums:
            builder.store(start, slot)
        with cgutils.for_range(builder, args[1]):
            for slot in sums:
                builder.store(builder.call(fma, [start, builder.load(slot), start]), slot)
        total = builder.load(sums[0])
        for slot in sums[1:]:
            total = builder.fadd(total, builder.load(slot))
        return builder.extract_element(total, ir.IntType(32)(0))

    return x(x, types.int64), codegen


@numba.njit
def _spin(x, rounds):
    return _multiply_add(x, rounds)


def multiply_add(dtype=np.float32, rounds=100_000):
    """A function to time, and its floating-point operations (two a multiply-add)."""
    x = dtype(0.5)
    _spin(x, 1)
    return lambda: _spin(x, rounds), 2 * rounds * CHAINS * vector_bytes() // np.dtype(dtype).itemsize


def matrix_product(dtype=np.float32, size=1536):
    a, b = np.ones((size, size), dtype), np.ones((size, size), dtype)
    out = np.empty_like(a)
    return lambda: np.matmul(a, b, out=out), 2 * size**3


def copy(array):
    """Copy into memory that is already there; bytes read and written."""
    target = np.array(array)
    return lambda: np.copyto(target, array), 2 * array.nbytes
