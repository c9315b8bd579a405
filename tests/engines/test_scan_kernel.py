"""The scan alone, in place: chains of whole and of partly filled vectors against the reference loop."""

import numpy as np
import pytest
from support.oracles import complex_normal

from ssmreduce.engines import _reference
from ssmreduce.engines.numba import _engine as _numba
from ssmreduce.engines.numba import _scan_loops
from ssmreduce.engines.numba._scan_ir import CHAINS, WIDTH

TILE = _scan_loops._TILE


@pytest.mark.parametrize("kind", [np.complex64, np.complex128])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("systems", "rows", "length", "order"),
    [
        (1, 1, 1, 1),
        (2, 3, 5, 1),  # several sequences at once, some left over
        (1, CHAINS + 1, 2 * TILE + 1, 3),
        (3, 2, TILE, 8),
        (2, 2, TILE - 1, 33),  # several panels, the last one partly filled
        (1, 2, TILE + 1, 8 * CHAINS + 5),  # more panels than chains: time in tiles
        (2, 1, 3 * TILE, 16 * CHAINS),
        (2, 0, 4, 3),
    ],
)
def test_against_the_reference(rng, kind, reverse, systems, rows, length, order):
    Lambda = (rng.uniform(0.3, 1.0, (systems, order)) * np.exp(1j * rng.uniform(-3, 3, (systems, order)))).astype(kind)
    inputs = complex_normal(rng, systems, rows, length, order).astype(kind)
    state = complex_normal(rng, systems, rows, order).astype(kind)
    for array in (Lambda, state):
        array.flags.writeable = False
    expected = _reference.scan(*(a.astype(complex) for a in (Lambda, inputs, state)), reverse=reverse)
    actual = _numba.scan(Lambda, inputs, state, reverse=reverse)
    assert actual is inputs
    tolerance = 40 * np.finfo(kind).eps
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max(initial=1.0))


@pytest.mark.parametrize("order", [1, WIDTH // 2 - 1, WIDTH // 2 * (CHAINS + 1) + 1])
def test_neighbours_in_memory_are_left_alone(rng, order):
    """Vectors reach beyond the last state; the numbers there must survive, even NaN."""
    memory = np.full(2 * 7 * order + 64, np.nan, np.complex64)
    inputs = memory[32 : 32 + 2 * 7 * order].reshape(1, 2, 7, order)
    inputs[:] = 1.0
    _numba.scan(np.full((1, order), 0.5, np.complex64), inputs, np.zeros((1, 2, order), np.complex64), reverse=False)
    np.testing.assert_array_equal(inputs[0, 1, :, -1], 2.0 - 0.5 ** np.arange(7))
    assert np.isnan(memory[:32]).all()
    assert np.isnan(memory[-32:]).all()


def test_inputs_in_another_order(rng):
    """Not in place then, but right."""
    inputs = complex_normal(rng, 3, 4, 9, 5).transpose(1, 0, 2, 3)
    Lambda, state = 0.5 * complex_normal(rng, 4, 5), complex_normal(rng, 4, 3, 5)
    expected = _reference.scan(Lambda, inputs.copy(), state, reverse=False)
    np.testing.assert_allclose(_numba.scan(Lambda, inputs, state, reverse=False), expected, rtol=1e-13, atol=1e-13)
