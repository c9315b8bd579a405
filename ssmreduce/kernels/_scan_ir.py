"""Vector code of the scan alone: each chain is a run of neighbouring states of one sequence, held in one vector."""

from typing import Any

import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils

CHAINS = 8  # that take turns: alone, a chain waits for its own multiplications
LINE = 64  # bytes of a vector, which a processor with smaller registers splits

_INDEX, _SHORT = ir.IntType(64), ir.IntType(32)
intrinsic: Any = numba.extending.intrinsic  # whose stubs count the typing context as an argument


class _Chain:
    """Vectors of one chain, (re, im) side by side; numbers beyond its states are neither read nor written."""

    def __init__(self, builder, scalar, place, width):
        """Place is (first scalar of the states, of the poles, of the value before, number of scalars)."""
        item = 4 if isinstance(scalar, ir.FloatType) else 8
        self.builder, self.item, self.width = builder, item, LINE // item
        self.vector = ir.VectorType(scalar, self.width)
        self.states, pole, before = place
        count = ir.Constant(ir.VectorType(_SHORT, self.width), list(range(self.width)))
        limit = builder.insert_element(ir.Constant(count.type, ir.Undefined), builder.trunc(width, _SHORT), _SHORT(0))
        limit = builder.shuffle_vector(limit, limit, ir.Constant(count.type, [0] * self.width))
        self.mask = builder.icmp_signed("<", count, limit)
        poles, pairs = self.load(pole), range(0, self.width, 2)
        self.re = self.shuffled(poles, [k for j in pairs for k in (j, j)])
        self.im = self.shuffled(poles, [k + 1 for j in pairs for k in (j, j)])
        sign = ir.Constant(self.vector, [value for _ in pairs for value in (-1.0, 1.0)])
        self.im = builder.fmul(self.im, sign)
        self.slot = cgutils.alloca_once(builder, self.vector)
        builder.store(self.load(before), self.slot)

    def shuffled(self, value, order):
        pattern = ir.Constant(ir.VectorType(_SHORT, self.width), order)
        return self.builder.shuffle_vector(value, value, pattern)

    def call(self, name, result, arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def load(self, pointer):
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        name = f"llvm.masked.load.v{self.width}f{8 * self.item}.p0v{self.width}f{8 * self.item}"
        return self.call(name, self.vector, [place, _SHORT(self.item), self.mask, ir.Constant(self.vector, None)])

    def store(self, value, pointer):
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        name = f"llvm.masked.store.v{self.width}f{8 * self.item}.p0v{self.width}f{8 * self.item}"
        self.call(name, ir.VoidType(), [value, place, _SHORT(self.item), self.mask])

    def step(self, offset):
        """Next state v + lambda x, in the place of v."""
        builder, name = self.builder, f"llvm.fmuladd.v{self.width}f{8 * self.item}"
        pointer, value = builder.gep(self.states, [offset]), builder.load(self.slot)
        swapped = self.shuffled(value, [k ^ 1 for k in range(self.width)])
        driven = self.call(name, self.vector, [self.im, swapped, self.load(pointer)])
        value = self.call(name, self.vector, [self.re, value, driven])
        builder.store(value, self.slot)
        self.store(value, pointer)


def _scan(count, context, builder, signature, args):
    places, stride, steps = args[3:]
    scalar = context.get_value_type(signature.args[0].dtype)
    arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in range(3)]
    table = context.make_array(signature.args[3])(context, builder, places).data
    chains = []
    for c in range(count):
        numbers = [builder.load(builder.gep(table, [_INDEX(4 * c + k)])) for k in range(4)]
        starts = [builder.gep(array, [number]) for array, number in zip(arrays, numbers, strict=False)]
        chains.append(_Chain(builder, scalar, starts, numbers[3]))
    with cgutils.for_range(builder, steps) as loop:
        offset = builder.mul(loop.index, stride)
        for chain in chains:
            chain.step(offset)
    return context.get_dummy_value()


@intrinsic
def scan_one(typingctx, states, poles, before, places, stride, steps):
    """Run a chain in place: flat arrays of scalars, and places (chain, 4), see `_Chain`."""
    signature = types.void(states, poles, before, places, types.int64, types.int64)
    return signature, lambda *args: _scan(1, *args)


@intrinsic
def scan_many(typingctx, states, poles, before, places, stride, steps):
    """Run CHAINS chains at once."""
    signature = types.void(states, poles, before, places, types.int64, types.int64)
    return signature, lambda *args: _scan(CHAINS, *args)
