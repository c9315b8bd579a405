"""The Numba engine: compiled on first use, cached on disk, host arrays only."""

import numpy as np

from ..._support.compiled import compiled
from .._layer import BlockedProducts, Layer, Products
from . import _channels, _host, _wide
from ._scan_ir import CHAINS, WIDTH, scan_many, scan_one

_TILE = 64  # steps that all chains of a sequence take before the next ones


@compiled
def _scan_in_place(Lambda: np.ndarray, states: np.ndarray, carry: np.ndarray, reverse: bool) -> None:
    """Pairs of reals: Lambda (S, 2 n), states (S R, L, 2 n), carry (S R, 2 n), which holds the last states then."""
    sequences, length, width = states.shape
    rows, panels = sequences // len(Lambda), -(-width // WIDTH)
    together, tile = (1, _TILE) if panels > CHAINS else (max(1, CHAINS // panels), length)
    places = np.empty((together * panels, 4), np.int64)
    stride = -width if reverse else width
    values, poles, before = states.reshape(-1), Lambda.reshape(-1), carry.reshape(-1)
    for start in range(0, sequences, together):
        count = min(together, sequences - start) * panels
        for done in range(0, length, tile):
            steps = min(tile, length - done)
            k = length - 1 - done if reverse else done
            for c in range(count):
                row, column = start + c // panels, c % panels * WIDTH
                places[c, 0] = (row * length + k) * width + column
                places[c, 1] = row // rows * width + column
                places[c, 2] = row * width + column
                places[c, 3] = min(WIDTH, width - column)
            c = 0
            while c < count:
                if c + CHAINS <= count:
                    scan_many(values, poles, before, places[c:], stride, steps)
                    c += CHAINS
                else:
                    scan_one(values, poles, before, places[c:], stride, steps)
                    c += 1


def scan(Lambda: np.ndarray, inputs: np.ndarray, state: np.ndarray, *, reverse: bool) -> np.ndarray:
    """See `_reference.scan`; overwrites `inputs` where they lie in C order.

    Carries the state in double precision, which costs nothing beside the traffic to the memory: rounding errors of
    single precision would pile up over long sequences.
    """
    systems, rows, length, order = inputs.shape
    states = np.ascontiguousarray(inputs)
    if states.size:
        flat = states.view(Lambda.real.dtype).reshape(systems * rows, length, 2 * order)
        carry = np.array(state, np.complex128, order="C").view(np.float64).reshape(systems * rows, 2 * order)
        _scan_in_place(Lambda.astype(np.complex128, order="C").view(np.float64), flat, carry, reverse)
    return states


def prepare(layer: Layer) -> Products | _wide.Tiles | _channels.Channels:
    """See `_reference.prepare`."""
    registers, plain = _host.registers(), BlockedProducts(layer, scan)
    if registers is not None and _channels.suits(layer):
        return _channels.Channels(layer, registers, plain)
    if registers is not None and _wide.suits(layer, registers):
        return _wide.Tiles(layer, registers)
    return plain
