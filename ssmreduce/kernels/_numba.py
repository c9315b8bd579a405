"""The Numba engine: compiled on first use, cached on disk, host arrays only."""

import numba
import numpy as np

from ._layer import BlockedProducts, Layer
from ._siso import Channels, vector_bytes

_FEW = 1  # systems that are worth vectors with empty lanes


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


def prepare(layer: Layer) -> BlockedProducts | Channels:
    """See `_reference.prepare`."""
    plain, vector = BlockedProducts(layer, scan), vector_bytes()
    if vector is not None and layer.D.shape[1:] == (1, 1) and layer.Lambda.shape[-1] and len(layer.D) >= _FEW:
        return Channels(layer, vector, plain)
    return plain
