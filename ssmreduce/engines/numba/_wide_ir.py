"""Register tiles as compiler intrinsics: the sums of a few time steps times a few states stay in vector registers.

A compiler that is left to itself spills such tiles or picks narrow vectors, so their code is written in LLVM IR, for
any vector length. Each intrinsic takes two tuples of None first: Numba specialises by type, and the length of a tuple
is part of it. ``lanes`` has as many entries as a vector has numbers, ``steps`` as many as the tile has time steps.
"""

from llvmlite import ir
from numba import types

from ._vector_ir import DOUBLE, INDEX, SHORT, accumulated, bypass, fetch, fma, intrinsic, rotated


class _Tile:
    """Emits the vector code of one tile."""

    def __init__(self, context, builder, lanes, steps, dtype):
        self.context, self.builder, self.lanes, self.steps = context, builder, lanes.count, steps.count
        self.scalar = context.get_value_type(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.bytes = dtype.bitwidth // 8

    def at(self, place, value):
        """Pointer to an element of a contiguous array, given as (array, offset)."""
        array, offset = (self.builder.extract_value(value, i) for i in range(2))
        data = self.context.make_array(place[0])(self.context, self.builder, array).data
        return self.builder.gep(data, [offset])

    def load_pair(self, pointer, number, scalar=None):
        """The pair of vectors with a number behind a pointer."""
        vector = ir.VectorType(scalar or self.scalar, self.lanes)
        first = self.builder.bitcast(pointer, vector.as_pointer())
        places = [self.builder.gep(first, [INDEX(2 * number + j)]) for j in range(2)]
        return [self.builder.load(place, align=self.bytes) for place in places]

    def store_pair(self, pair, pointer, stream=False):
        """Store two vectors; past the caches if `stream`, which takes vectors that are whole cache lines."""
        for j, part in enumerate(pair):
            first = self.builder.bitcast(pointer, part.type.as_pointer())
            align = self.bytes * (self.lanes if stream else 1)
            stored = self.builder.store(part, self.builder.gep(first, [INDEX(j)]), align=align)
            if stream:
                bypass(self.builder, stored)

    def converted(self, pair, scalar):
        """The pair in single or double precision."""
        vector = ir.VectorType(scalar, self.lanes)
        convert = self.builder.fpext if scalar == DOUBLE else self.builder.fptrunc
        return [convert(part, vector) for part in pair]

    def rows(self, pointer, stride):
        """Pointers to the rows of the tile."""
        return [self.builder.gep(pointer, [self.builder.mul(stride, INDEX(t))]) for t in range(self.steps)]

    def rows_at(self, place):
        """Pointers to the rows of the tile from an address and a stride."""
        address, stride = (self.builder.extract_value(place, i) for i in range(2))
        return self.rows(self.builder.inttoptr(address, self.scalar.as_pointer()), stride)

    def spread(self, number):
        lane = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), number, SHORT(0))
        zeros = ir.Constant(ir.VectorType(SHORT, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(lane, ir.Constant(self.vector, ir.Undefined), zeros)

    def products(self, rows, weights, count, ahead=None):
        """Sums over k of rows[t][k] (weights[k, 0], weights[k, 1]), a pair for each t; count >= 1.

        In step k fetch the number k * ahead[1] behind the pointer ahead[0].
        """
        builder = self.builder

        def term(k, sums):
            factors = self.load_pair(builder.gep(weights, [builder.mul(k, INDEX(2 * self.lanes))]), 0)
            numbers = [self.spread(builder.load(builder.gep(row, [k]))) for row in rows]
            parts = [(number, factor) for number in numbers for factor in factors]
            totals = [fma(builder, *pair, part) for pair, part in zip(parts, sums, strict=True)]
            if ahead:
                fetch(builder, ahead[0], builder.mul(k, ahead[1]))
            return totals

        starts = [ir.Constant(self.vector, None)] * (2 * len(rows))
        totals = accumulated(builder, starts, count, term, rolled=True)  # two rounds at once do not fit the registers
        return list(zip(totals[::2], totals[1::2], strict=True))


@intrinsic
def drive(typing, lanes, steps, rows, states, B, inputs, powers, leaps, carry, ahead, ahead_step):
    """States of one panel over one tile of steps; each other place is an array with an offset into it.

    `rows` and `states` are the address where the tile's first step has its inputs and keeps its states, and the stride
    to the next step's. `carry` holds the states before the tile in double precision, and then those after it.

    In single precision the tile runs from the state 0, and Lambda^t times the state before it is added: rounding errors
    do not pile up over the length of the sequence. `leaps` is Lambda to the number of steps.

    Meanwhile numbers from the place `ahead` on, `ahead_step` apart, are fetched into the caches.
    """

    def codegen(context, builder, signature, values):
        tile = _Tile(context, builder, lanes, steps, B[0].dtype)
        _, _, rows_, states_, B_, inputs_, powers_, leaps_, carry_, ahead_, ahead_step_ = values
        fetched = tile.at(ahead, ahead_), ahead_step_
        driven = tile.products(tile.rows_at(rows_), tile.at(B, B_), inputs_, fetched)
        targets, carried = tile.rows_at(states_), tile.at(carry, carry_)
        start, poles = tile.load_pair(carried, 0, DOUBLE), tile.at(powers, powers_)
        if tile.scalar == DOUBLE:
            after = _run_plainly(tile, driven, start, tile.load_pair(poles, 0), targets)
        else:
            local = _run_from_zero(tile, driven, start, poles, targets)
            leap = tile.load_pair(tile.at(leaps, leaps_), 0, DOUBLE)
            after = rotated(tile.builder, leap, start, tile.converted(local, DOUBLE))
        tile.store_pair(after, carried)
        return context.get_dummy_value()

    signature = lanes, steps, rows, states, B, inputs, powers, leaps, carry, ahead, ahead_step
    return types.void(*signature), codegen


def _run_plainly(tile, driven, state, pole, targets):
    for drive, target in zip(driven, targets, strict=True):
        state = rotated(tile.builder, pole, state, drive)
        tile.store_pair(state, target)
    return state


def _run_from_zero(tile, driven, start, powers, targets):
    rounded, pole, local = tile.converted(start, tile.scalar), tile.load_pair(powers, 0), driven[0]
    for t, target in enumerate(targets):
        local = local if t == 0 else rotated(tile.builder, pole, local, driven[t])
        tile.store_pair(rotated(tile.builder, tile.load_pair(powers, t), rounded, local), target)
    return local


@intrinsic
def observe(typing, lanes, steps, rows, stride, C, count, scale, base, out, stream):
    """Outputs of one panel over one tile of steps, out = scale * base + rows C, over `count` numbers of each row.

    Places as in `drive`, steps of `rows` are `stride` apart; `scale` is one row for all steps. `base` and `out` are an
    address and a stride; they may be equal. `out` is written past the caches if `stream`.
    """

    def codegen(context, builder, signature, values):
        tile = _Tile(context, builder, lanes, steps, rows[0].dtype)
        _, _, rows_, stride, C_, count, scale_, base_, out_, stream = values
        sums = tile.products(tile.rows(tile.at(rows, rows_), stride), tile.at(C, C_), count)
        factors = tile.load_pair(tile.at(scale, scale_), 0)
        starts, targets = tile.rows_at(base_), tile.rows_at(out_)
        totals = [
            [fma(builder, *terms) for terms in zip(factors, tile.load_pair(start, 0), pair, strict=True)]
            for pair, start in zip(sums, starts, strict=True)
        ]
        with builder.if_else(builder.trunc(stream, ir.IntType(1))) as branches:
            for branch, past in zip(branches, (True, False), strict=True):
                with branch:
                    for total, target in zip(totals, targets, strict=True):
                        tile.store_pair(total, target, past)
        return context.get_dummy_value()

    return types.void(lanes, steps, rows, stride, C, count, scale, base, out, types.boolean), codegen
