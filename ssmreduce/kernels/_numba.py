"""The Numba engine: compiled on first use, cached on disk, host arrays only."""

import numba
import numpy as np

from ._layer import BlockedProducts, Layer


@numba.njit(cache=True, nogil=True)
def _scan_in_place(Lambda: np.ndarray, states: np.ndarray, carry: np.ndarray, reverse: bool) -> None:
    systems, sequences, length, order = states.shape
    for s in range(systems):
        poles = Lambda[s]
        for r in range(sequences):
            state = carry[s, r]
            for step in range(length):
                current = states[s, r, length - 1 - step if reverse else step]
                for i in range(order):
                    state[i] = poles[i] * state[i] + current[i]
                    current[i] = state[i]


def scan(Lambda: np.ndarray, inputs: np.ndarray, state: np.ndarray, *, reverse: bool) -> np.ndarray:
    """See `_reference.scan`; overwrites `inputs`.

    Carries the state in double precision, which costs nothing beside the traffic to the memory: rounding errors of
    single precision would pile up over long sequences.
    """
    _scan_in_place(Lambda.astype(np.complex128), inputs, np.array(state, np.complex128, order="C"), reverse)
    return inputs


def prepare(layer: Layer) -> BlockedProducts:
    """See `_reference.prepare`."""
    return BlockedProducts(layer, scan)
