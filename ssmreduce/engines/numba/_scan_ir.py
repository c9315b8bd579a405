"""Vector code of the scan alone: a chain is a run of neighbouring states of a sequence, carried in double precision."""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ._vector_ir import DOUBLE, INDEX, SHORT, fma, intrinsic

CHAINS = 8  # that take turns: alone, a chain waits for its own multiplications
WIDTH = 8  # reals of a vector, of 64 bytes in double precision; smaller registers split it


class _Chain:
    """Vectors of one chain, (re, im) side by side; numbers beyond its states are neither read nor written."""

    def __init__(self, builder, states, pole, carry, count):
        """Pointers to the states, of either precision, and to the pole and the carry, of double precision."""
        self.builder, self.states, self.carry = builder, states, carry
        lanes = ir.VectorType(SHORT, WIDTH)
        limit = builder.insert_element(ir.Constant(lanes, ir.Undefined), builder.trunc(count, SHORT), SHORT(0))
        limit = builder.shuffle_vector(limit, limit, lanes([0] * WIDTH))
        self.mask = builder.icmp_signed("<", lanes(list(range(WIDTH))), limit)
        poles = self.load(pole)
        self.re = self.shuffled(poles, [k & ~1 for k in range(WIDTH)])
        signs = ir.VectorType(DOUBLE, WIDTH)([-1.0, 1.0] * (WIDTH // 2))
        self.im = builder.fmul(self.shuffled(poles, [k | 1 for k in range(WIDTH)]), signs)
        self.slot = cgutils.alloca_once(builder, poles.type)
        builder.store(self.load(carry), self.slot)

    def shuffled(self, value, order):
        return self.builder.shuffle_vector(value, value, ir.VectorType(SHORT, WIDTH)(order))

    def call(self, name, result, arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def place(self, pointer):
        """Pointer to a vector, its type, the bytes of a number, and the suffix of the names of masked operations."""
        single = isinstance(pointer.type.pointee, ir.FloatType)
        vector = ir.VectorType(pointer.type.pointee, WIDTH)
        name = f"v{WIDTH}f{32 if single else 64}"
        return (
            self.builder.bitcast(pointer, vector.as_pointer()),
            vector,
            SHORT(4 if single else 8),
            f"{name}.p0{name}",
        )

    def load(self, pointer):
        """Numbers in double precision."""
        place, vector, align, suffix = self.place(pointer)
        arguments = [place, align, self.mask, ir.Constant(vector, None)]
        value = self.call(f"llvm.masked.load.{suffix}", vector, arguments)
        return value if vector.element == DOUBLE else self.builder.fpext(value, ir.VectorType(DOUBLE, WIDTH))

    def store(self, value, pointer):
        place, vector, align, suffix = self.place(pointer)
        value = value if vector.element == DOUBLE else self.builder.fptrunc(value, vector)
        self.call(f"llvm.masked.store.{suffix}", ir.VoidType(), [value, place, align, self.mask])

    def step(self, offset):
        """Next state v + lambda x, in the place of v."""
        value, pointer = self.builder.load(self.slot), self.builder.gep(self.states, [offset])
        swapped = self.shuffled(value, [k ^ 1 for k in range(WIDTH)])
        driven = fma(self.builder, self.im, swapped, self.load(pointer))
        value = fma(self.builder, self.re, value, driven)
        self.builder.store(value, self.slot)
        self.store(value, pointer)

    def finish(self):
        self.store(self.builder.load(self.slot), self.carry)


def _scan(count, context, builder, signature, args):
    places, stride, steps = args[3:]
    arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in range(3)]
    table = context.make_array(signature.args[3])(context, builder, places).data
    chains = []
    for c in range(count):
        numbers = [builder.load(builder.gep(table, [INDEX(4 * c + k)])) for k in range(4)]
        starts = [builder.gep(array, [number]) for array, number in zip(arrays, numbers, strict=False)]
        chains.append(_Chain(builder, starts[0], starts[1], starts[2], numbers[3]))
    with cgutils.for_range(builder, steps) as loop:
        offset = builder.mul(loop.index, stride)
        for chain in chains:
            chain.step(offset)
    for chain in chains:
        chain.finish()
    return context.get_dummy_value()


@intrinsic
def scan_one(typingctx, states, poles, carry, places, stride, steps):
    """Run a chain in place: flat arrays of reals, and where in them it begins, with its count of reals (chain, 4)."""
    signature = types.void(states, poles, carry, places, types.int64, types.int64)
    return signature, lambda *args: _scan(1, *args)


@intrinsic
def scan_many(typingctx, states, poles, carry, places, stride, steps):
    """Run CHAINS chains at once."""
    signature = types.void(states, poles, carry, places, types.int64, types.int64)
    return signature, lambda *args: _scan(CHAINS, *args)
