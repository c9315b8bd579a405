"""What the vector code of all kernels emits: sums of products, rotations of states, and what goes round the caches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from ..._support.compiled import key_of

VECTOR_CODE = key_of(Path(__file__).parent.glob("*_ir.py"))  # compiled functions that contain vector code depend on it

intrinsic: Any = extending.intrinsic  # a call leaves out the first parameter, which a type checker cannot know
INDEX, SHORT, DOUBLE = ir.IntType(64), ir.IntType(32), ir.DoubleType()


def fma(builder, a, b, c):
    """Sum a b + c of vectors, in one rounding where the processor can."""
    kind = ir.FunctionType(c.type, [c.type] * 3)
    name = f"llvm.fmuladd.v{c.type.count}f{64 if c.type.element == DOUBLE else 32}"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def rotated(builder, pole, value, added):
    """Complex pole * value + added, each a pair (re, im) of vectors."""
    re = fma(builder, pole[0], value[0], fma(builder, builder.fneg(pole[1]), value[1], added[0]))
    im = fma(builder, pole[0], value[1], fma(builder, pole[1], value[0], added[1]))
    return re, im


def fetch(builder, pointer, index):
    """Ask for the line of the cache that holds a number which is needed soon."""
    place = builder.bitcast(builder.gep(pointer, [index]), ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [place.type, *[SHORT] * 3])
    ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    builder.call(ask, [place, *map(SHORT, (0, 2, 1))])  # to read, into the second-level cache, data


def bypass(builder, store):
    """Let a store of whole cache lines go past the caches."""
    store.set_metadata("nontemporal", builder.module.add_metadata([SHORT(1)]))


def accumulated(builder, starts: list, count, term: Callable, rolled: bool = False) -> list:
    """Values after ``for k in range(count): values = term(k, values)``, from `starts` on; count >= 1.

    `rolled` forbids to unroll the loop.
    """
    before, body, after = builder.block, *(builder.append_basic_block(name) for name in ("products", "summed"))
    builder.branch(body)
    builder.position_at_end(body)
    k, values = builder.phi(INDEX), [builder.phi(start.type) for start in starts]
    totals = term(k, values)
    following = builder.add(k, INDEX(1))
    branch = builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    if rolled:
        _keep_rolled(branch, builder.module)
    for phi, start, value in zip([k, *values], [INDEX(0), *starts], [following, *totals], strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(value, body)
    builder.position_at_end(after)
    return totals


def _keep_rolled(branch, module):
    rule = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = ir.values.MDValue(module, [rule], name=str(len(module.metadata)))
    loop.operands = (loop, rule)
    branch.set_metadata("llvm.loop", loop)


@intrinsic
def address(typing, array, offset):
    """Where an element of a contiguous array lies: choosing between arrays would count references for every tile."""

    def codegen(context, builder, signature, values):
        data = context.make_array(array)(context, builder, values[0]).data
        return builder.ptrtoint(builder.gep(data, [values[1]]), INDEX)

    return types.int64(array, types.int64), codegen
