"""Register tiles as compiler intrinsics: the sums of a few time steps times a few states stay in vector registers.

A compiler that is left to itself spills such tiles or picks narrow vectors, so their code is written in LLVM IR, for
any vector length. Each intrinsic takes two tuples of None first: Numba specialises by type, and the length of a tuple
is part of it. ``lanes`` has as many entries as a vector has numbers, ``steps`` as many as the tile has time steps.
"""

import sys
from typing import Any

from llvmlite import ir
from numba import extending, types

from ..._support.compiled import compiled
from ._vector_ir import bypass, fetch, fma, rotated

intrinsic: Any = extending.intrinsic  # a call leaves out the first parameter, which a type checker cannot know

_yield = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())
_INDEX = ir.IntType(64)
_DOUBLE = ir.DoubleType()
_PATIENCE = 2000  # looks at a barrier before the thread offers its core to others


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
        places = [self.builder.gep(first, [_INDEX(2 * number + j)]) for j in range(2)]
        return [self.builder.load(place, align=self.bytes) for place in places]

    def store_pair(self, pair, pointer, stream=False):
        """Store two vectors; past the caches if `stream`, which takes vectors that are whole cache lines."""
        for j, part in enumerate(pair):
            first = self.builder.bitcast(pointer, part.type.as_pointer())
            align = self.bytes * (self.lanes if stream else 1)
            stored = self.builder.store(part, self.builder.gep(first, [_INDEX(j)]), align=align)
            if stream:
                bypass(self.builder, stored)

    def converted(self, pair, scalar):
        """The pair in single or double precision."""
        vector = ir.VectorType(scalar, self.lanes)
        convert = self.builder.fpext if scalar == _DOUBLE else self.builder.fptrunc
        return [convert(part, vector) for part in pair]

    def rows(self, pointer, stride):
        """Pointers to the rows of the tile."""
        return [self.builder.gep(pointer, [self.builder.mul(stride, _INDEX(t))]) for t in range(self.steps)]

    def rows_at(self, place):
        """Pointers to the rows of the tile from an address and a stride."""
        address, stride = (self.builder.extract_value(place, i) for i in range(2))
        return self.rows(self.builder.inttoptr(address, self.scalar.as_pointer()), stride)

    def spread(self, number):
        lane = self.builder.insert_element(ir.Constant(self.vector, ir.Undefined), number, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(lane, ir.Constant(self.vector, ir.Undefined), zeros)

    def products(self, rows, weights, count, ahead=None):
        """Sums over k of rows[t][k] (weights[k, 0], weights[k, 1]), a pair for each t; count >= 1.

        In step k fetch the number k * ahead[1] behind the pointer ahead[0].
        """
        builder = self.builder
        before, body = builder.block, builder.append_basic_block("products")
        after = builder.append_basic_block("summed")
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_INDEX)
        k.add_incoming(_INDEX(0), before)
        sums = [[builder.phi(self.vector) for _ in range(2)] for _ in rows]
        factors = self.load_pair(builder.gep(weights, [builder.mul(k, _INDEX(2 * self.lanes))]), 0)
        totals = []
        for pair, row in zip(sums, rows, strict=True):
            number = self.spread(builder.load(builder.gep(row, [k])))
            totals.append([fma(builder, number, factor, part) for factor, part in zip(factors, pair, strict=True)])
            for part, total in zip(pair, totals[-1], strict=True):
                part.add_incoming(ir.Constant(self.vector, None), before)
                part.add_incoming(total, body)
        if ahead:
            fetch(builder, ahead[0], builder.mul(k, ahead[1]))
        following = builder.add(k, _INDEX(1))
        k.add_incoming(following, body)
        _keep_rolled(builder.cbranch(builder.icmp_signed("<", following, count), body, after), builder.module)
        builder.position_at_end(after)
        return totals


def _keep_rolled(branch, module):
    """Forbid to unroll a loop: two rounds of a tile at once do not fit into the registers."""
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = ir.values.MDValue(module, [rule], name=str(len(module.metadata)))
    loop.operands = (loop, rule)
    branch.set_metadata("llvm.loop", loop)


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
        start, poles = tile.load_pair(carried, 0, _DOUBLE), tile.at(powers, powers_)
        if tile.scalar == _DOUBLE:
            after = _run_plainly(tile, driven, start, tile.load_pair(poles, 0), targets)
        else:
            local = _run_from_zero(tile, driven, start, poles, targets)
            leap = tile.load_pair(tile.at(leaps, leaps_), 0, _DOUBLE)
            after = rotated(tile.builder, leap, start, tile.converted(local, _DOUBLE))
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
def address(typing, array, offset):
    """Where an element of a contiguous array lies: choosing between arrays would count references for every tile."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(builder.gep(data, [values[1]]), _INDEX)

    return types.int64(array, types.int64), codegen


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


@intrinsic
def fence(typing):
    """Make the stores that went past the caches visible to other threads."""

    def codegen(context, builder, signature, values):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _arrive(typing, counter):
    """Add one to a counter that threads share."""

    def codegen(context, builder, signature, values):
        pointer = context.make_array(counter)(context, builder, values[0]).data
        builder.atomic_rmw("add", pointer, _INDEX(1), "seq_cst")
        return context.get_dummy_value()

    return types.void(counter), codegen


@intrinsic
def _arrived(typing, counter):
    """Value of a counter that threads share."""

    def codegen(context, builder, signature, values):
        pointer = context.make_array(counter)(context, builder, values[0]).data
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(counter), codegen


@compiled
def meet(counter, met, members):
    """Wait until all members of a team have met once more than before; the number of meetings."""
    if members == 1:
        return met
    _arrive(counter)
    looks = 0
    while _arrived(counter) < (met + 1) * members:
        looks += 1
        if looks > _PATIENCE:
            _yield()
    return met + 1
