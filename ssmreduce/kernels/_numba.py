"""The Numba engine: compiled on first use, cached on disk, host arrays only."""

import numba
import numpy as np

from . import _host, _siso, _tiles
from ._layer import BlockedProducts, Layer, Products


@numba.njit(cache=True, nogil=True)
def _scan_in_place(Lambda: np.ndarray, states: np.ndarray, first: np.ndarray, reverse: bool) -> None:
    systems, sequences, length, order = states.shape
    for s in range(systems):
        for r in range(sequences):
            previous = first[s, r]
            for step in range(length):
                k = length - 1 - step if reverse else step
                current = states[s, r, k]
                for i in range(order):
                    current[i] += Lambda[s, i] * previous[i]
                previous = current


def scan(Lambda: np.ndarray, inputs: np.ndarray, state: np.ndarray, *, reverse: bool) -> np.ndarray:
    """See `_reference.scan`; overwrites `inputs`."""
    _scan_in_place(Lambda, inputs, np.ascontiguousarray(state), reverse)
    return inputs


def prepare(layer: Layer) -> Products | _tiles.Tiles | _siso.Channels:
    """See `_reference.prepare`."""
    registers, plain = _host.registers(), BlockedProducts(layer, scan)
    if registers is not None and _siso.suits(layer):
        return _siso.Channels(layer, registers.size, plain)
    if registers is not None and _tiles.suits(layer, registers):
        return _tiles.Tiles(layer, registers)
    return plain
