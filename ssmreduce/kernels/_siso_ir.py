"""Vector code of the S4D kernel: a lane is a channel, and a state of every lane stays in registers over a tile.

A vector is a record with the one field `lanes`, so that the type of an array says how many lanes it has; a tile is an
array of vectors, one a step. Steps go in groups of `GROUP`: all outputs of a group follow from the state before it, and
the state jumps over it, in 4 + 6 / GROUP multiplications and additions a step instead of 6, and with fewer roundings.
The power of the pole that makes the jump has a low part too: its rounding alone would turn slow states at every jump.
"""

from contextlib import contextmanager
from typing import Any

import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils

GROUP = 6
WEIGHTS = 4 * GROUP + 2  # vectors a state: powers of the pole, observers of a group, low part of the last power

_INDEX = ir.IntType(64)
intrinsic: Any = numba.extending.intrinsic  # whose stubs count the typing context as an argument


class _Vectors:
    """Loads, stores and arithmetic on the vectors of a record type."""

    def __init__(self, context, builder, record):
        lanes = record.fields["lanes"].type
        self.context, self.builder = context, builder
        self.width, self.item = lanes.shape[0], lanes.dtype.bitwidth // 8
        self.scalar = ir.FloatType() if self.item == 4 else ir.DoubleType()
        self.type = ir.VectorType(self.scalar, self.width)

    def pointer(self, typ, array, offset=None):
        """Pointer to the vector at the start of an array, or `offset` scalars behind it."""
        data = self.context.make_array(typ)(self.context, self.builder, array).data
        data = self.builder.bitcast(data, self.scalar.as_pointer())
        data = data if offset is None else self.builder.gep(data, [offset])
        return self.builder.bitcast(data, self.type.as_pointer())

    def load(self, pointer, index, aligned=True):
        return self.builder.load(self._at(pointer, index), align=self.item * (self.width if aligned else 1))

    def store(self, value, pointer, index, aligned=True):
        return self.builder.store(value, self._at(pointer, index), align=self.item * (self.width if aligned else 1))

    def _at(self, pointer, index):
        return self.builder.gep(pointer, [index if isinstance(index, ir.Value) else _INDEX(index)])

    def fma(self, a, b, c):
        """Sum a b + c, fused where the processor can."""
        kind = ir.FunctionType(self.type, [self.type] * 3)
        name = f"llvm.fmuladd.v{self.width}f{8 * self.item}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    @contextmanager
    def groups(self, steps):
        """Loop over the whole groups, with the first step of each."""
        with cgutils.for_range(self.builder, self.builder.sdiv(steps, _INDEX(GROUP))) as loop:
            yield self.builder.mul(loop.index, _INDEX(GROUP))

    @contextmanager
    def rest(self, steps):
        """Loop over the steps that are left after the groups."""
        start = self.builder.mul(self.builder.sdiv(steps, _INDEX(GROUP)), _INDEX(GROUP))
        with cgutils.for_range_slice(self.builder, start, steps, _INDEX(1)) as (index, _):
            yield index


class _State:
    """A state of every lane, held in registers, and its weights."""

    def __init__(self, vectors, weights, memory):
        self.vectors, self.builder, self.memory = vectors, vectors.builder, memory
        pairs = [tuple(vectors.load(weights, 2 * j + part) for part in range(2)) for j in range(WEIGHTS // 2)]
        self.powers, self.observers, self.low = pairs[:GROUP], pairs[GROUP:-1], pairs[-1]
        self.slots = [cgutils.alloca_once(self.builder, vectors.type) for _ in range(2)]
        self._set(*(vectors.load(memory, part) for part in range(2)))

    @property
    def value(self):
        return tuple(self.builder.load(slot) for slot in self.slots)

    def _set(self, re, im):
        self.builder.store(re, self.slots[0])
        self.builder.store(im, self.slots[1])

    def _multiplied(self, weight, re, im):
        """Product weight * state plus (re, im); an `im` of None is 0."""
        (w_re, w_im), (x_re, x_im) = weight, self.value
        im = self.builder.fmul(w_im, x_re) if im is None else self.vectors.fma(w_im, x_re, im)
        re = self.vectors.fma(self.builder.fneg(w_im), x_im, re)
        return self.vectors.fma(w_re, x_re, re), self.vectors.fma(w_re, x_im, im)

    def observed(self, j, y):
        """Y plus what the state contributes to the output j + 1 steps later."""
        (w_re, w_im), (re, im) = self.observers[j], self.value
        return self.vectors.fma(self.builder.fneg(w_im), im, self.vectors.fma(w_re, re, y))

    def jump(self, inputs):
        """Advance by as many steps as there are inputs, which all excite the state with weight 1."""
        re, im = inputs[-1], None
        for (w_re, w_im), u in zip(self.powers, reversed(inputs[:-1]), strict=False):
            re = self.vectors.fma(w_re, u, re)
            im = self.builder.fmul(w_im, u) if im is None else self.vectors.fma(w_im, u, im)
        if len(inputs) == GROUP:
            re, im = self._multiplied(self.low, re, im)
        self._set(*self._multiplied(self.powers[len(inputs) - 1], re, im))

    def write_back(self):
        for part, value in enumerate(self.value):
            self.vectors.store(value, self.memory, part)


@intrinsic
def respond(typingctx, y, u, weights, state, steps):
    """Add to the tile y what a state contributes, and take it over the steps: weights (WEIGHTS,), state (2,)."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature.args[0].dtype)
        y, u, weights, memory = map(vectors.pointer, signature.args[:4], args[:4])
        state = _State(vectors, weights, memory)

        def group(first, size):
            inputs = [vectors.load(u, builder.add(first, _INDEX(j))) for j in range(size)]
            for j in range(size):
                at = builder.add(first, _INDEX(j))
                vectors.store(state.observed(j, vectors.load(y, at)), y, at)
            state.jump(inputs)

        with vectors.groups(args[4]) as first:
            group(first, GROUP)
        with vectors.rest(args[4]) as first:
            group(first, 1)
        state.write_back()
        return context.get_dummy_value()

    return types.void(y, u, weights, state, types.int64), codegen


@intrinsic
def feed_through(typingctx, y, u, taps, steps, add):
    """Fill the tile y, or add to it, with what inputs contribute to the outputs of their own group: taps (GROUP,)."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature.args[0].dtype)
        y, u, taps = map(vectors.pointer, signature.args[:3], args[:3])
        add, taps = builder.trunc(args[4], ir.IntType(1)), [vectors.load(taps, j) for j in range(GROUP)]

        def group(first, size):
            inputs = [vectors.load(u, builder.add(first, _INDEX(j))) for j in range(size)]
            for j in range(size):
                at = builder.add(first, _INDEX(j))
                total = builder.select(add, vectors.load(y, at), ir.Constant(vectors.type, None))
                for lag in range(j + 1):
                    total = vectors.fma(taps[lag], inputs[j - lag], total)
                vectors.store(total, y, at)

        with vectors.groups(args[3]) as first:
            group(first, GROUP)
        with vectors.rest(args[3]) as first:
            group(first, 1)
        return context.get_dummy_value()

    return types.void(y, u, taps, types.int64, types.boolean), codegen


@intrinsic
def load(typingctx, tiles, index, scalars, at):
    """tiles[index] = the vector that begins with scalars[at]."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature.args[0].dtype)
        value = vectors.load(vectors.pointer(signature.args[2], args[2], args[3]), 0, aligned=False)
        vectors.store(value, vectors.pointer(signature.args[0], args[0]), args[1])
        return context.get_dummy_value()

    return types.void(tiles, types.int64, scalars, types.int64), codegen


@intrinsic
def store(typingctx, scalars, at, tiles, index, stream):
    """The way back; past the caches if `stream`, which takes vectors that are whole cache lines."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, signature.args[2].dtype)
        value = vectors.load(vectors.pointer(signature.args[2], args[2]), args[3])
        target = vectors.pointer(signature.args[0], args[0], args[1])
        with builder.if_else(builder.trunc(args[4], ir.IntType(1))) as (streaming, cached):
            with streaming:
                written = vectors.store(value, target, 0)
                written.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            with cached:
                vectors.store(value, target, 0, aligned=False)
        return context.get_dummy_value()

    return types.void(scalars, types.int64, tiles, types.int64, types.boolean), codegen


@intrinsic
def fence(typingctx):
    """Make the stores that went past the caches visible to other threads."""

    def codegen(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen
