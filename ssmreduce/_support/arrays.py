"""Arrays of any namespace: double precision, read-only NumPy arrays, and 1 - abs(z) without cancellation."""

import sys
from typing import Any

import array_api_compat
import array_api_compat.numpy
import numpy as np

from ..errors import ArrayKindError, NonFiniteError, ShapeError
from .arguments import described

Array = Any
"""An array of any namespace that array-api-compat knows (NumPy, CuPy, PyTorch, JAX, ...)."""


def namespace(*arrays: Array) -> Any:
    """Array API namespace of the arrays, which must come from one library; other values do not count."""
    if all(type(array) is np.ndarray for array in arrays):  # most calls, and 20 times as fast
        return array_api_compat.numpy
    known = [a for a in arrays if array_api_compat.is_array_api_obj(a)]
    try:
        return array_api_compat.array_namespace(*known)
    except TypeError:
        libraries = ", ".join(sorted({type(array).__module__.split(".")[0] for array in known}))
        raise ArrayKindError(f"all arrays of a call must come from one library, got {libraries}") from None


def as_double(value: Array, *, complex_: bool, name: str) -> Array:
    """Convert to complex128 (float64) in the value's own namespace; NumPy results are private and read-only."""
    value = as_array(value, name)
    xp = namespace(value)
    if xp.isdtype(value.dtype, "complex floating") and not complex_:
        raise ArrayKindError(f"{name} must be real, got dtype {value.dtype}")
    dtype = xp.complex128 if complex_ else xp.float64
    # A read-only array that owns its memory is ours already; a read-only view may look at memory that others write.
    private = isinstance(value, np.ndarray) and value.flags.owndata and not value.flags.writeable
    if not (private and value.dtype == dtype):
        value = xp.astype(value, dtype)
    if value.dtype != dtype:  # JAX narrows, with no more than a warning
        raise ArrayKindError(f"{name} needs double precision, got {value.dtype}; JAX: set jax_enable_x64")
    if isinstance(value, np.ndarray):
        if not np.isfinite(value).all():
            raise NonFiniteError(f"{name} holds NaN or infinite values")
        value.flags.writeable = False
    return value


def as_array(value: Any, name: str) -> Array:
    """An array of another library as it is, anything else as NumPy's `numbers_of`."""
    foreign = array_api_compat.is_array_api_obj(value) and not array_api_compat.is_numpy_array(value)
    return value if foreign else numbers_of(value, name)


def numbers_of(value: Any, name: str) -> np.ndarray:
    """A NumPy array, or what NumPy makes of lists, without subclasses; text, dates, objects and masks are refused."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise ShapeError(f"{name} is {described(value)} whose rows have different lengths") from None
    if not np.can_cast(array.dtype, np.complex128, "same_kind"):
        raise ArrayKindError(f"{name} is {described(value)}, not numbers (dtype {array.dtype})")
    if np.ma.is_masked(value):
        raise ArrayKindError(f"{name} has masked entries; fill them")
    return array


def to_numpy(value: Array) -> np.ndarray:
    """Copy to the host where needed; for messages, counts and sorting, not for hot paths."""
    if array_api_compat.is_torch_array(value):
        value = value.detach().cpu()
    elif array_api_compat.is_cupy_array(value):
        value = value.get()
    return np.asarray(value)


def is_traced(value: Array) -> bool:
    """Whether the value is a JAX tracer, whose numbers cannot be looked at (inside jax.grad or jax.jit)."""
    return array_api_compat.is_jax_array(value) and isinstance(value, sys.modules["jax"].core.Tracer)


def _square_with_error(x: Array) -> tuple[Array, Array]:
    """Rounded square and its exact rounding error (Dekker's product)."""
    high = 134217729.0 * x
    high = high - (high - x)
    low = x - high
    square = x * x
    return square, ((high * high - square) + 2.0 * high * low) + low * low


def one_minus_abs2(z: Array) -> Array:
    """1 - abs(z)**2 to full relative accuracy, also where abs(z) is close to 1."""
    xp = namespace(z)
    z = xp.where(xp.abs(z) > 1e100, xp.full_like(z, 1e100), z)  # squares must not overflow; far out the sign matters
    a, a_error = _square_with_error(xp.real(z))
    b, b_error = _square_with_error(xp.imag(z))
    larger, smaller = xp.maximum(a, b), xp.minimum(a, b)
    rest = 1.0 - larger
    rest_error = (1.0 - rest) - larger  # not 0 where both squares are below 1/2, at odd multiples of pi/4
    return (rest - smaller) + (rest_error - (a_error + b_error))


def one_minus_abs(z: Array) -> Array:
    """1 - abs(z) to full relative accuracy, also where abs(z) is close to 1; negative outside the unit circle."""
    xp = namespace(z)
    radius = xp.abs(z)
    return xp.where(radius < 2.0, one_minus_abs2(z) / (1.0 + radius), 1.0 - radius)
