"""Layers of many systems with one input and one output, S4D, packed for vectors of neighbouring channels."""

from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..._support.exact import two_product, two_sum
from ..._support.threads import for_each_part
from .._layer import BlockedProducts, Layer, Response, require_finite_where
from ._channels_loops import CHUNK, COLUMNS, GROUP, PANEL, WORK, respond
from ._host import Registers
from ._memory import aligned_copy, aligned_empty, begin_of, own_memory, past_caches

_PART = 2**18  # steps of single states that are worth another thread
_SCALE = 1e18  # an input weight B beyond this or its inverse is not folded into C

Precise: TypeAlias = tuple[np.ndarray, np.ndarray | float]  # complex numbers, and what these lack


def suits(layer: Layer) -> bool:
    """Whether the systems have one input, one output and a state."""
    return layer.D.shape[1:] == (1, 1) and layer.Lambda.size > 0


class Tables(NamedTuple):
    """What a half multiplies with that takes k groups of T steps at once, in vectors of neighbouring channels.

    A state is two rows, its real and imaginary part; zeros are added behind the last one, up to whole units of rows.

    inject (blocks, units, T - 1, rows): an input into the state at the end of its group; the weight of the last is 1.
    jump (blocks, units, k - 1, rows): lambda to the powers T, 2 T, ...
    leap (blocks, units, rows): lambda to the power k T, in double precision.
    observe (blocks, T / p, all rows, p): the state before a group into its outputs, p = min(rows, T) at once.
    taps (blocks, T / p, T, p): inputs into those outputs, 0 for later ones.
    """

    inject: np.ndarray
    jump: np.ndarray
    leap: np.ndarray
    observe: np.ndarray
    taps: np.ndarray


class Channels:
    """A layer of systems with one input and one output, ready to run on vectors.

    Parameters
    ----------
    layer : Layer
        With m = p = 1 and n >= 1.
    registers : Registers
    plain : BlockedProducts
        The same layer, for calls that the kernel does not serve.

    Notes
    -----
    B is folded into C, z = x / B, so that the input itself excites every state. A state with B = 0 is dead unless it
    starts from another value than 0: such calls, and weights beyond the range of the precision, take `plain`.
    """

    def __init__(self, layer: Layer, registers: Registers, plain: BlockedProducts) -> None:
        self.layer, self.plain = layer, plain
        self.dtype, self.lanes, rows = layer.D.dtype, registers.size // layer.D.itemsize, registers.steps // 3
        shapes = ((rows, columns, group, self.lanes) for columns, group in ((COLUMNS, GROUP), (1, GROUP), (1, 1)))
        self.shapes = tuple((*((None,) * size for size in shape), self.dtype.type(0)) for shape in shapes)
        B = layer.B[..., 0].astype(np.complex128)
        self.dead = B == 0
        self.folding = np.divide(1.0, B, out=np.zeros_like(B), where=~self.dead), B
        sizes = np.abs(B[~self.dead])
        self.halves: dict[str, tuple[Tables, ...]] = {}
        self.served = bool(np.all((sizes >= 1.0 / _SCALE) & (sizes <= _SCALE)))
        with np.errstate(over="ignore", invalid="ignore"):
            for half in ["causal"] + ["reverse", "strict"] * (layer.C_reverse is not None):
                self.halves[half] = self._packed(half)
                self.served &= all(np.isfinite(table).all() for group in self.halves[half] for table in group)
        # addresses of these tables: a deep copy of this object would keep those of the original's
        self.places = {half: tuple(tuple(map(begin_of, group)) for group in self.halves[half]) for half in self.halves}

    def run(
        self,
        u: np.ndarray,
        state: np.ndarray,
        state_reverse: np.ndarray | None,
        *,
        strict: bool = False,
        threads: int | None = None,
    ) -> Response:
        """See `Products.run`; `threads` is Numba's thread count by default, and changes no bit of the result."""
        if not self.served or self._revived(state) or self._revived(state_reverse):
            return self.plain.run(u, state, state_reverse, strict=strict, threads=threads)
        u = np.ascontiguousarray(u)
        y = aligned_empty(u.shape, u.dtype)
        last = self._half("causal", u, y, state, threads)
        require_finite_where(last, u)
        if state_reverse is None:
            return Response(y, last, None)
        return Response(y, last, self._half("strict" if strict else "reverse", u, y, state_reverse, threads))

    def _revived(self, state: np.ndarray | None) -> bool:
        """Whether a dead state starts from another value than 0."""
        return state is not None and bool(self.dead.any() and np.any(state[:, self.dead]))

    def _half(self, half: str, u: np.ndarray, y: np.ndarray, state: np.ndarray, threads: int | None) -> np.ndarray:
        """Run one half, which fills y or adds to it; its last state."""
        rows, length, channels = u.shape
        last, (blocks, _, order, _, lanes) = np.array(state), self.halves[half][0].observe.shape
        stream = half == "causal" and past_caches(y, channels, lanes * self.dtype.itemsize)
        held, tile = blocks * order * lanes, min(PANEL, blocks) * CHUNK * lanes

        ends = u.reshape(-1), y.reshape(-1), last, *self.folding

        def run(start: int, stop: int) -> None:
            more = (2 * tile + WORK * lanes) * self.dtype.itemsize // 8
            memory = own_memory((held + more,), np.dtype(np.float64))
            states, rest = memory[:held].reshape(blocks, order, lanes), memory[held:].view(self.dtype)
            states[:, 2 * last.shape[-1] :] = 0.0
            space, plan = (
                (states, rest[:tile], rest[tile : 2 * tile], rest[2 * tile :]),
                (start, stop, length, channels),
            )
            respond(self.shapes, self.places[half], ends, space, (*plan, half != "causal", stream))

        if rows:
            small = rows * length * self.dead.size < _PART
            for_each_part(run, rows * blocks, 1 if small else threads)
        return last

    def _packed(self, half: str) -> tuple[Tables, ...]:
        """Tables of a half, "causal", "reverse" or "strict", for each of the shapes."""
        C: Any = self.layer.C if half == "causal" else self.layer.C_reverse
        gain = C[:, 0] * self.folding[1]
        steps = _powers((np.where(self.dead, 0, self.layer.Lambda).astype(np.complex128), 0.0), GROUP)
        jumps, powers = _summed(_powers(steps[-1], COLUMNS)), _summed(steps)
        # an input as it is observed 0, 1, ... steps later
        aged = np.concatenate([gain[:, None], gain[:, None] * powers], axis=1)
        taps = np.sum(aged, axis=-1).real
        if half == "causal":
            taps[:, :1] += self.layer.D[:, 0]
        elif half == "strict":
            aged = np.concatenate([gain[:, None], aged], axis=1)
            taps = np.concatenate([np.zeros_like(taps[:, :1]), taps], axis=1)
        groups = self._tables(powers, jumps, aged[:, 1 : GROUP + 1], taps[:, :GROUP])
        each = groups._replace(jump=groups.jump[:, :, :0], leap=self._leaps(jumps[:, :1]))
        return groups, each, self._tables(powers[:, :1], powers[:, :1], aged[:, 1:2], taps[:, :1])

    def _tables(self, powers: np.ndarray, jumps: np.ndarray, observers: np.ndarray, taps: np.ndarray) -> Tables:
        """Tables for k groups of T steps: powers (S, T, n), jumps (S, k, n), observers (S, T, n), taps (S, T)."""
        systems, size = taps.shape
        tall = min(len(self.shapes[0][0]), size)
        observe = np.swapaxes(self._by_unit(np.conj(observers)), 2, 3).reshape(systems, -1, size // tall, tall)
        lags = np.arange(size)[:, None] - np.arange(size)
        toeplitz = np.where(lags >= 0, taps[:, lags], 0.0).reshape(systems, size // tall, tall, size)
        return Tables(
            self._vectors(self._by_unit(powers[:, -2::-1])),
            self._vectors(self._by_unit(jumps[:, :-1])),
            self._leaps(jumps[:, -1:]),
            self._vectors(np.swapaxes(observe, 1, 2)),
            self._vectors(np.swapaxes(toeplitz, 2, 3)),
        )

    def _by_unit(self, values: np.ndarray) -> np.ndarray:
        """Complex (S, k, n) as (S, units, k, rows)."""
        rows, parts = len(self.shapes[0][0]), np.ascontiguousarray(values).view(np.float64)
        parts = np.pad(parts, ((0, 0), (0, 0), (0, -parts.shape[-1] % rows)))
        return np.swapaxes(parts.reshape(*parts.shape[:2], parts.shape[2] // rows, rows), 1, 2)

    def _leaps(self, jump: np.ndarray) -> np.ndarray:
        return self._vectors(self._by_unit(jump)[:, :, 0], np.dtype(np.float64))

    def _vectors(self, values: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
        """Values (S, ...) as vectors (blocks, ..., lanes) of neighbouring systems, filled up with zeros."""
        padded = np.pad(values, ((0, -len(values) % self.lanes), *((0, 0),) * (values.ndim - 1)))
        vectors = np.moveaxis(padded.reshape(len(padded) // self.lanes, self.lanes, *values.shape[1:]), 1, -1)
        return aligned_copy(vectors, dtype or self.dtype)


def _powers(base: Precise, count: int) -> list[Precise]:
    """Powers 1 ... count."""
    powers = [base]
    while len(powers) < count:
        powers.append(_times(powers[-1], base))
    return powers


def _times(x: Precise, y: Precise) -> Precise:
    """Product with twice the digits of double precision."""
    product: Any = two_product.py_func  # on arrays
    add: Any = two_sum.py_func
    a, b, c, d = x[0].real, x[0].imag, y[0].real, y[0].imag
    (ac, ac_low), (bd, bd_low) = product(a, c), product(b, d)
    (ad, ad_low), (bc, bc_low) = product(a, d), product(b, c)
    (re, re_low), (im, im_low) = add(ac, -bd), add(ad, bc)
    low = x[1] * y[0] + x[0] * y[1] + (re_low + ac_low - bd_low) + 1j * (im_low + ad_low + bc_low)
    return re + 1j * im, low


def _summed(numbers: list[Precise]) -> np.ndarray:
    """Numbers (S, n), rounded once, side by side as (S, k, n)."""
    return np.stack([value + low for value, low in numbers], axis=1)
