"""The barrier at which the threads of a team meet, and the fence behind what they wrote past the caches."""

import sys

from numba import types

from ..._support.compiled import compiled
from ._vector_ir import INDEX, VECTOR_CODE, intrinsic

_yield = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())
_PATIENCE = 2000  # looks at a barrier before the thread offers its core to others


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
        builder.atomic_rmw("add", pointer, INDEX(1), "seq_cst")
        return context.get_dummy_value()

    return types.void(counter), codegen


@intrinsic
def _arrived(typing, counter):
    """Value of a counter that threads share."""

    def codegen(context, builder, signature, values):
        pointer = context.make_array(counter)(context, builder, values[0]).data
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(counter), codegen


@compiled(key=VECTOR_CODE)
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
