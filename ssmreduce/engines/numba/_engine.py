"""The Numba engine: compiled on first use, cached on disk, host arrays only."""

import numpy as np

from .._layer import BlockedProducts, Layer, Products
from . import _channels, _host, _wide
from ._scan_loops import scan_in_place


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
        scan_in_place(Lambda.astype(np.complex128, order="C").view(np.float64), flat, carry, reverse)
    return states


def prepare(layer: Layer) -> Products | _wide.Wide | _channels.Channels:
    """See `_reference.prepare`."""
    registers, plain = _host.registers(), BlockedProducts(layer, scan)
    if registers is not None and _channels.suits(layer):
        return _channels.Channels(layer, registers, plain)
    if registers is not None and _wide.suits(layer, registers):
        return _wide.Wide(layer, registers)
    return plain
