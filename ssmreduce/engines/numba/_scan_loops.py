"""The scan alone, in place: chains of neighbouring states take turns, over the sequences and over their states."""

import numpy as np

from ..._support.compiled import compiled, inlined
from ._scan_ir import CHAINS, WIDTH, scan_many, scan_one
from ._vector_ir import VECTOR_CODE

_TILE = 64  # steps that all chains of a sequence take before the next ones
# columns of a table of chains: where in the flat arrays a chain's values, poles and carry begin, and its count of reals
_VALUES, _POLES, _CARRY, _COUNT = 0, 1, 2, 3


@inlined
def _find(places, count, start, rows, sizes, k):
    """Fill the table of the chains of some sequences from `start` on, at step k; `rows` sequences share their poles."""
    length, width, panels = sizes
    for c in range(count):
        row, column = start + c // panels, c % panels * WIDTH
        places[c, _VALUES] = (row * length + k) * width + column
        places[c, _POLES] = row // rows * width + column
        places[c, _CARRY] = row * width + column
        places[c, _COUNT] = min(WIDTH, width - column)


@compiled(key=VECTOR_CODE)
def scan_in_place(Lambda: np.ndarray, states: np.ndarray, carry: np.ndarray, reverse: bool) -> None:
    """Pairs of reals: Lambda (S, 2 n), states (S R, L, 2 n), carry (S R, 2 n), which holds the last states then."""
    sequences, length, width = states.shape
    rows, panels = sequences // len(Lambda), -(-width // WIDTH)
    together, tile = (1, _TILE) if panels > CHAINS else (max(1, CHAINS // panels), length)
    places, stride = np.empty((together * panels, 4), np.int64), -width if reverse else width
    values, poles, before = states.reshape(-1), Lambda.reshape(-1), carry.reshape(-1)
    for start in range(0, sequences, together):
        count = min(together, sequences - start) * panels
        for done in range(0, length, tile):
            steps = min(tile, length - done)
            _find(places, count, start, rows, (length, width, panels), length - 1 - done if reverse else done)
            c = 0
            while c < count:
                if c + CHAINS <= count:
                    scan_many(values, poles, before, places[c:], stride, steps)
                    c += CHAINS
                else:
                    scan_one(values, poles, before, places[c:], stride, steps)
                    c += 1
