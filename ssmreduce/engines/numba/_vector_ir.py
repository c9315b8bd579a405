"""What the vector code of all kernels emits: fused multiply-adds, rotations of states, and what goes round the caches.

Numba's cache looks only at the file of the function that it compiled: after a change here or in a module that emits
code with it, touch `_wide_loops.py`, `_channels_loops.py` and `_engine.py`.
"""

from llvmlite import ir
from numba.core import cgutils

_SHORT = ir.IntType(32)


def fma(builder, a, b, c):
    """Sum a b + c of vectors, in one rounding where the processor can."""
    kind = ir.FunctionType(c.type, [c.type] * 3)
    name = f"llvm.fmuladd.v{c.type.count}f{64 if c.type.element == ir.DoubleType() else 32}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def rotated(builder, pole, value, added):
    """Complex pole * value + added, each a pair (re, im) of vectors."""
    re = fma(builder, pole[0], value[0], fma(builder, builder.fneg(pole[1]), value[1], added[0]))
    im = fma(builder, pole[0], value[1], fma(builder, pole[1], value[0], added[1]))
    return re, im


def fetch(builder, pointer, index):
    """Ask for the line of the cache that holds a number which is needed soon."""
    place = builder.bitcast(builder.gep(pointer, [index]), ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, *[_SHORT] * 3])
    ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(ask, [place, *map(_SHORT, (0, 2, 1))])  # to read, into the second-level cache, data


def bypass(builder, store):
    """Let a store of whole cache lines go past the caches."""
    store.set_metadata("nontemporal", builder.module.add_metadata([_SHORT(1)]))
