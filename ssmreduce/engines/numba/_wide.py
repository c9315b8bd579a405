"""Wide layers packed for register tiles, and shared out between threads."""

from typing import NamedTuple

import numpy as np

from ..._support.threads import TooFewThreads, thread_count, together
from .._layer import Layer, Response, require_finite_where
from . import _host
from ._memory import LINE, aligned_copy, aligned_empty, own_memory, past_caches
from ._wide_loops import respond

_CHUNK_BYTES = 2**18  # rows of one chunk: with the weights of a panel they stay in the second-level cache
_ALIAS = 2**12  # bytes: rows a multiple of it apart share a set of the first-level cache
_LARGEST_POWER = 1e30  # far below the overflow of single precision
_NOBODY_WAITS = 2**62  # larger than any number of meetings
_WASTE = 2.0  # padded over true work of each of many systems; beyond it matrix products are faster


def suits(layer: Layer, registers: _host.Registers) -> bool:
    """Whether tiles waste little work on the layer, and no power of a pole overflows."""
    systems, outputs, inputs = layer.D.shape
    order, lanes = layer.Lambda.shape[-1], registers.size // layer.D.dtype.itemsize
    if min(systems, order, outputs, inputs) == 0:
        return False
    if abs(layer.Lambda).max() > _LARGEST_POWER ** (1 / registers.steps):
        return False
    padded = -(-order // lanes) * lanes * (inputs - (-outputs // (2 * lanes)) * 2 * lanes)
    return systems == 1 or padded <= _WASTE * order * (inputs + outputs)


class _Half(NamedTuple):
    """What reads the states of one direction: packed C, and the factors of what its sums start from, both flat."""

    C: np.ndarray
    scale: np.ndarray


class _Run(NamedTuple):
    """One half of a call: its states, before and then after, and the last of the numbers of a `Plan`."""

    half: _Half
    states: np.ndarray
    way: tuple[int, int, int]


class _Workspace(NamedTuple):
    rows: np.ndarray
    carry: np.ndarray
    counter: np.ndarray
    steps: int
    chunks: int


class Wide:
    """A layer ready to run on register tiles.

    Parameters
    ----------
    layer : Layer
        NumPy arrays.
    registers : _host.Registers
    """

    def __init__(self, layer: Layer, registers: _host.Registers) -> None:
        self.dtype, (self.systems, self.outputs, self.inputs) = layer.D.dtype, layer.D.shape
        self.lanes, self.steps = registers.size // self.dtype.itemsize, registers.steps
        self.tile = tuple((None,) * count for count in (self.lanes, self.steps, self.steps // 3))
        powers = np.cumprod(np.repeat(layer.Lambda[..., None].astype(np.complex128), self.steps, axis=-1), axis=-1)
        panels = _by_panel(powers, self.lanes)
        self.panels = panels.shape[1]
        self.drive = (
            self._flat(_by_panel(layer.B, self.lanes)),
            self._flat(panels),
            aligned_copy(panels[:, :, -1], np.dtype(np.float64)).reshape(-1),
        )
        D = np.diagonal(layer.D, axis1=1, axis2=2)
        diagonal = self.inputs == self.outputs and np.count_nonzero(layer.D) == np.count_nonzero(D)
        row = self.systems * self.inputs * self.dtype.itemsize
        self.direct = diagonal and self.inputs % (2 * self.lanes) == 0 and row % _ALIAS != 0  # reads u where it lies
        zeros = np.zeros((self.systems, self.outputs))
        self.causal = self._half(layer.C, *((None, D) if diagonal else (layer.D, zeros)))
        self.reverse = None if layer.C_reverse is None else self._half(layer.C_reverse, None, zeros)
        pair, line = 2 * self.lanes, LINE // self.dtype.itemsize
        self.order, self.out_panels = layer.Lambda.shape[-1], -(-self.outputs // pair)
        width = max(pair * (self.panels + self.out_panels), pair * self.panels + self.inputs)
        self.stride = (-(-width // line) | 1) * line  # an odd number of lines: no two rows share a set of the cache

    def run(
        self,
        u: np.ndarray,
        state: np.ndarray,
        state_reverse: np.ndarray | None,
        *,
        strict: bool = False,
        threads: int | None = None,
    ) -> Response:
        """See `Products.run`; the result does not depend on the number of threads."""
        u = np.ascontiguousarray(u)
        y = aligned_empty((*u.shape[:2], self.systems * self.outputs), self.dtype)
        stream = past_caches(y, self.outputs, self.lanes * self.dtype.itemsize)
        runs = [_Run(self.causal, np.array(state, order="C"), (0, 0, int(stream)))]
        if self.reverse is not None:
            runs.append(_Run(self.reverse, np.array(state_reverse, order="C"), (1, int(strict), 0)))
        try:
            self._share_out(u, y, runs, thread_count(threads))
        except TooFewThreads:
            return self.run(u, state, state_reverse, strict=strict, threads=1)
        require_finite_where(runs[0].states, u)
        return Response(y, runs[0].states, runs[1].states if self.reverse else None)

    def _share_out(self, u: np.ndarray, y: np.ndarray, runs: list[_Run], threads: int) -> None:
        """Do the runs on some threads, each on items of its own, and in teams those that are left over."""
        share, length = _Share(u.shape[0] * self.systems, self.panels, threads), u.shape[1]
        teams = [self._workspace(length, shared=True) for _ in range(share.left)]

        def work(thread: int) -> None:
            if share.each:
                items = thread * share.each, (thread + 1) * share.each
                self._answer(u, y, runs, (*items, 0, 1), self._workspace(length, shared=False))
            team, member = divmod(thread, share.team)
            if team < share.left:
                item = share.threads * share.each + team
                self._answer(u, y, runs, (item, item + 1, member, share.team), teams[team])

        def give_up() -> None:  # a member that waits at a counter waits no longer
            for space in teams:
                space.counter[0] = _NOBODY_WAITS

        together(work, share.threads, give_up)

    def _answer(
        self, u: np.ndarray, y: np.ndarray, runs: list[_Run], seat: tuple[int, int, int, int], space: _Workspace
    ) -> None:
        """Do the runs as a member of a team: `seat` is the first of the numbers of a `Plan`."""
        shape = self.systems, self.order, self.inputs, self.outputs, self.panels, self.out_panels
        met = 0
        for half, states, way in runs:
            depth = half.C.size // (self.systems * self.out_panels * 2 * self.lanes)
            sizes = u.shape[1], *shape, depth, space.steps, space.chunks, self.stride, 2 * self.lanes * self.panels
            ends = u.reshape(-1), y.reshape(-1), states.reshape(-1).view(self.dtype)
            scratch = np.empty(self.steps * 2 * self.lanes, self.dtype)
            arrays = *ends, self.drive, tuple(half), space.rows, space.carry, scratch, space.counter
            met = respond(self.tile, arrays, sizes, (*seat, met, *way, self.direct))

    def _flat(self, values: np.ndarray) -> np.ndarray:
        return aligned_copy(values, self.dtype).reshape(-1)

    def _half(self, C: np.ndarray, D: np.ndarray | None, scale: np.ndarray) -> _Half:
        """C (S, p, n) by panels of outputs, with all of D below it if given."""
        pair = 2 * self.lanes
        rows = np.moveaxis(_by_panel(np.conj(np.swapaxes(C, 1, 2)), self.lanes), 2, -1)
        rows = rows.reshape(self.systems, -1, self.outputs)
        if D is not None:
            rows = np.concatenate([rows, np.swapaxes(D, 1, 2)], axis=1)
        rows = _padded(rows, pair, axis=2)
        rows = np.swapaxes(rows.reshape(*rows.shape[:2], -1, pair), 1, 2)
        factors = np.concatenate([_padded(scale, pair, axis=1).ravel(), np.ones(pair)])
        return _Half(self._flat(rows), self._flat(factors))

    def _workspace(self, length: int, *, shared: bool) -> _Workspace:
        size = _CHUNK_BYTES * (2 if shared else 1)  # a team meets less often
        tiles = min(-(-length // self.steps), max(1, size // (self.stride * self.dtype.itemsize * self.steps)))
        chunks, steps = 1 + shared, tiles * self.steps
        shape = (chunks * (steps + 1) * self.stride,)
        rows = aligned_empty(shape, self.dtype) if shared else own_memory(shape, self.dtype)
        carry = aligned_empty((2 * self.lanes * self.panels,), np.dtype(np.float64))
        return _Workspace(rows, carry, np.zeros(1, np.int64), steps, chunks)


class _Share:
    """Items (a sequence through a system) that a thread runs alone, and teams that run those left over together."""

    def __init__(self, items: int, panels: int, threads: int) -> None:
        threads = max(1, min(threads, items * panels))
        self.each, self.left = divmod(items, threads)
        self.team = min(threads // self.left, panels) if self.left else 1
        self.threads = threads if self.each else max(1, self.left * self.team)


def _by_panel(values: np.ndarray, lanes: int) -> np.ndarray:
    """Complex (S, n, k) as (S, panels, k, 2, lanes), states of modulus 0 added at the end."""
    padded = _padded(values, lanes, axis=1)
    systems, order, width = padded.shape
    panels = np.moveaxis(padded.reshape(systems, order // lanes, lanes, width), 2, 3)
    return np.stack([panels.real, panels.imag], axis=-2)


def _padded(values: np.ndarray, multiple: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, -values.shape[axis] % multiple)
    return np.pad(values, widths)
