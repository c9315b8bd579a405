"""The Numba engine: compiled on first use, cached on disk, host arrays only."""

import numba
import numpy as np

from . import _host, _siso, _tiles
from ._layer import BlockedProducts, Layer, Products
from ._scan_ir import CHAINS, LINE, scan_many, scan_one

_TILE = 64  # steps that all chains of a sequence take before the next ones


@numba.njit(cache=True, nogil=True)
def _scan_in_place(Lambda: np.ndarray, states: np.ndarray, first: np.ndarray, reverse: bool) -> None:
    """Flat reals: Lambda (S, 2 n), states (S R, L, 2 n), first (S R, 2 n)."""
    sequences, length, width = states.shape
    lanes, rows = LINE // states.itemsize, sequences // len(Lambda)
    panels = -(-width // lanes)
    together, tile = (1, _TILE) if panels > CHAINS else (max(1, CHAINS // panels), length)
    places = np.empty((together * panels, 4), np.int64)
    stride = -width if reverse else width
    values, poles, before = states.reshape(-1), Lambda.reshape(-1), first.reshape(-1)
    for start in range(0, sequences, together):
        count = min(together, sequences - start) * panels
        for done in range(0, length, tile):
            steps = min(tile, length - done)
            k = length - 1 - done if reverse else done
            for c in range(count):
                row, column = start + c // panels, c % panels * lanes
                places[c, 0] = (row * length + k) * width + column
                places[c, 1] = row // rows * width + column
                places[c, 2] = row * width + column
                places[c, 3] = min(lanes, width - column)
                if done:
                    places[c, 2] = places[c, 0] - stride
            source, c = values if done else before, 0
            while c < count:
                if c + CHAINS <= count:
                    scan_many(values, poles, source, places[c:], stride, steps)
                    c += CHAINS
                else:
                    scan_one(values, poles, source, places[c:], stride, steps)
                    c += 1


def scan(Lambda: np.ndarray, inputs: np.ndarray, state: np.ndarray, *, reverse: bool) -> np.ndarray:
    """See `_reference.scan`; overwrites `inputs` where they lie in C order."""
    systems, rows, length, order = inputs.shape
    states, real = np.ascontiguousarray(inputs), Lambda.real.dtype
    if states.size:
        flat = states.view(real).reshape(systems * rows, length, 2 * order)
        first = np.ascontiguousarray(state).view(real).reshape(systems * rows, 2 * order)
        _scan_in_place(np.ascontiguousarray(Lambda).view(real), flat, first, reverse)
    return states


def prepare(layer: Layer) -> Products | _tiles.Tiles | _siso.Channels:
    """See `_reference.prepare`."""
    registers, plain = _host.registers(), BlockedProducts(layer, scan)
    if registers is not None and _siso.suits(layer):
        return _siso.Channels(layer, registers.size, plain)
    if registers is not None and _tiles.suits(layer, registers):
        return _tiles.Tiles(layer, registers)
    return plain
