"""The JAX engine: the loop or the tree by platform, differentiable in both modes, under jit and vmap.

Complex numbers are pairs (real part, imaginary part) throughout: that is faster than XLA's complex products, and
gradients are those of real functions. Time is the first axis.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from ._layer import Layer, Response

Pair: TypeAlias = tuple[jax.Array, jax.Array]


class _Prepared:
    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def run(
        self,
        u: jax.Array,
        state: jax.Array,
        state_reverse: jax.Array | None,
        *,
        strict: bool = False,
        threads: int | None = None,
    ) -> Response:
        """See `Products.run`; `threads` is XLA's own matter."""
        return _respond(self.layer, u, state, state_reverse, strict=strict)


def prepare(layer: Layer) -> _Prepared:
    """See `_reference.prepare`."""
    return _Prepared(layer)


@partial(jax.jit, static_argnames="reverse")
def scan(Lambda: jax.Array, inputs: jax.Array, state: jax.Array, *, reverse: bool) -> jax.Array:
    """See `_reference.scan`; keeps `inputs`."""
    v = _parts(jnp.moveaxis(inputs, 2, 0))
    states = _pair_scan(_parts(jnp.broadcast_to(Lambda[:, None], state.shape)), v, _parts(state), reverse)
    return jnp.moveaxis(lax.complex(*states), 0, 2)


@partial(jax.jit, static_argnames="strict")
def _respond(
    layer: Layer, u: jax.Array, state: jax.Array, state_reverse: jax.Array | None, *, strict: bool
) -> Response:
    rows, length, _ = u.shape
    systems, outputs, inputs = layer.D.shape
    samples = jnp.swapaxes(u.reshape(rows, length, systems, inputs), 0, 1)
    real, imaginary = (jnp.einsum("krsm,snm->krsn", samples, B) for B in _parts(layer.B))
    driven = real, imaginary
    poles = _parts(jnp.broadcast_to(layer.Lambda, state.shape))
    states = _pair_scan(poles, driven, _parts(state), False)
    y = jnp.einsum("krsm,spm->krsp", samples, layer.D) + _observed(layer.C, states)
    last_reverse = None
    if layer.C_reverse is not None and state_reverse is not None:
        first = _parts(state_reverse)
        backward = _pair_scan(poles, driven, first, True)
        last_reverse = _whole(backward, 0)
        y = y + _observed(layer.C_reverse, _neighbours(backward, first, True) if strict else backward)
    output = jnp.swapaxes(y, 0, 1).reshape(rows, length, systems * outputs)
    return Response(output, _whole(states, -1), last_reverse)


def _parts(array: jax.Array) -> Pair:
    return jnp.real(array), jnp.imag(array)


def _whole(states: Pair, k: int) -> jax.Array:
    return lax.complex(states[0][k], states[1][k])


def _observed(C: jax.Array, states: Pair) -> jax.Array:
    """Re(C x)."""
    real, imaginary = (jnp.einsum("krsn,spn->krsp", *pair) for pair in zip(states, _parts(C), strict=True))
    return real - imaginary


def _times(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _plus(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], a[1] + b[1]


def _neighbours(states: Pair, first: Pair, reverse: bool) -> Pair:
    """The state that each sample started from: x_{k-1}, or x_{k+1} in reverse."""
    if reverse:
        real, imaginary = (jnp.concatenate([x[1:], x0[None]]) for x, x0 in zip(states, first, strict=True))
    else:
        real, imaginary = (jnp.concatenate([x0[None], x[:-1]]) for x, x0 in zip(states, first, strict=True))
    return real, imaginary


def _pair_scan(Lambda: Pair, v: Pair, first: Pair, reverse: bool) -> Pair:
    """States (L, ...) from v (L, ...), Lambda and the first state (...).

    They solve a linear system, x_k - Lambda x_{k-1} = v_k; from that JAX derives its derivatives, which are such scans
    again and keep the digits of the first one.
    """
    start = -1 if reverse else 0
    real, imaginary = (a.at[start].add(b) for a, b in zip(v, _times(Lambda, first), strict=True))
    nothing = jnp.zeros_like(first[0]), jnp.zeros_like(first[1])

    def equation(x: Pair) -> Pair:
        before = _times(Lambda, _neighbours(x, nothing, reverse))
        return x[0] - before[0], x[1] - before[1]

    backwards = _solver((Lambda[0], -Lambda[1]), not reverse)
    return lax.custom_linear_solve(equation, (real, imaginary), _solver(Lambda, reverse), backwards)


def _solver(Lambda: Pair, reverse: bool) -> Callable[[Callable, Pair], Pair]:
    """The scan from the state 0, in the form that suits the platform; what it is given first is the equation."""
    forms = {"cpu": partial(_loop, reverse=reverse), "default": partial(_tree_scan, reverse=reverse)}
    return lambda _, v: lax.platform_dependent(Lambda, v, **forms)


def _loop(Lambda: Pair, v: Pair, *, reverse: bool) -> Pair:
    """One sample after the other, the fastest on a CPU.

    The state is a sum of two numbers, so that roundings do not pile up over a long sequence: its leading half is
    multiplied exactly, the rest need not be. Real and imaginary parts are one array, and each step gives out the state
    before it: XLA would compute the step anew for every array that it writes.
    """
    direct, crossed = jnp.stack([Lambda[0], Lambda[0]]), jnp.stack([-Lambda[1], Lambda[1]])
    (direct1, direct2), (crossed1, crossed2) = _halves(direct), _halves(crossed)

    def step(x: Pair, v: jax.Array) -> tuple[Pair, jax.Array]:
        total, small = x
        state = total + small
        half, _ = _halves(state)
        rest = (total - half) + small
        small = (direct2 * half + crossed2 * half[::-1]) + (direct * rest + crossed * rest[::-1])
        total, error = _two_sum(direct1 * half, crossed1 * half[::-1])
        total, further = _two_sum(total, v)
        return (total, small + (error + further)), state

    zero = jnp.zeros_like(direct)
    (total, small), before = lax.scan(step, (zero, zero), jnp.stack(v, axis=1), reverse=reverse)
    return _neighbours((before[:, 0], before[:, 1]), tuple(total + small), not reverse)


def _tree_scan(Lambda: Pair, v: Pair, *, reverse: bool) -> Pair:
    """Steps logarithmic in the length: what `lax.associative_scan` does, for gates that do not change in time."""
    if reverse:
        v = v[0][::-1], v[1][::-1]
    states = _tree(_powers(Lambda, (v[0].shape[0] - 1).bit_length()), v)
    return (states[0][::-1], states[1][::-1]) if reverse else states


def _tree(powers: list[Pair], v: Pair) -> Pair:
    """Pairs of samples become one: their ends form a sequence of half the length with the next power."""
    length = v[0].shape[0]
    if length < 2:
        return v
    power, *further = powers
    ends = _plus((v[0][1::2], v[1][1::2]), _times(power, (v[0][: length - 1 : 2], v[1][: length - 1 : 2])))
    odd = _tree(further, ends)
    half = (length - 1) // 2
    rest = _plus((v[0][2::2], v[1][2::2]), _times(power, (odd[0][:half], odd[1][:half])))
    real, imaginary = (_interleaved(a[:1], b, c) for a, b, c in zip(v, rest, odd, strict=True))
    return real, imaginary


def _interleaved(first: jax.Array, even: jax.Array, odd: jax.Array) -> jax.Array:
    """Rows first, odd[0], even[0], odd[1], ..."""
    even = jnp.concatenate([first, even])
    half = odd.shape[0]
    pairs = jnp.stack([even[:half], odd], axis=1).reshape(2 * half, *odd.shape[1:])
    return jnp.concatenate([pairs, even[half:]])


def _powers(Lambda: Pair, count: int) -> list[Pair]:
    """Lambda^(2^i) for i < count, carried with their rounding errors.

    Without those the relative error of Lambda^k would be k roundings: 1e-4 of a slow state in single precision. A loop,
    because XLA would fuse the whole chain of squares into each of its uses.
    """
    zero = jnp.zeros_like(Lambda[0]), jnp.zeros_like(Lambda[1])
    _, (real, imaginary) = lax.scan(lambda carry, _: (_squared(*carry), carry[0]), (Lambda, zero), length=count)
    return [(real[i], imaginary[i]) for i in range(count)]


def _squared(power: Pair, error: Pair) -> tuple[Pair, Pair]:
    """Square of power + error, and its own error; all products are exact, so that XLA may fuse them with sums."""
    (a, b), (a_error, b_error) = power, error
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    real, rest1 = _two_sum(a1 * a1, -(b1 * b1))
    cross, rest2 = _two_sum(a1 * a2, -(b1 * b2))
    real, rest3 = _two_sum(real, 2.0 * cross)
    real_error = rest3 + (rest1 + 2.0 * rest2 + (a2 * a2 - b2 * b2) + 2.0 * (a * a_error - b * b_error))
    cross, rest4 = _two_sum(a1 * b2, a2 * b1)
    imaginary, rest5 = _two_sum(2.0 * (a1 * b1), 2.0 * cross)
    imaginary_error = rest5 + 2.0 * (rest4 + a2 * b2 + (a * b_error + b * a_error))
    real, real_error = _two_sum(real, real_error)
    imaginary, imaginary_error = _two_sum(imaginary, imaginary_error)
    return (real, imaginary), (real_error, imaginary_error)


def _two_sum(a: jax.Array, b: jax.Array) -> Pair:
    """Rounded sum and its exact error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _halves(x: jax.Array) -> Pair:
    """Leading and trailing half of the digits, whose products are exact."""
    kind, digits = (jnp.int32, 12) if x.dtype == jnp.float32 else (jnp.int64, 27)
    leading = lax.bitcast_convert_type(lax.bitcast_convert_type(x, kind) & ~(2**digits - 1), x.dtype)
    return leading, x - leading
