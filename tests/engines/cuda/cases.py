"""Layers and scans that every CUDA test runs, on the shim and on hardware alike."""

import numpy as np
from support.oracles import complex_normal, random_ssm

KINDS = {"float": (np.float32, np.complex64, 2e-6), "double": (np.float64, np.complex128, 2e-14)}

# sequences, length, systems, states, inputs, outputs
LAYERS = [
    (1, 1, 1, 1, 1, 1),
    (3, 40, 2, 5, 1, 1),
    (1, 600, 9, 33, 1, 1),  # two spans; two blocks, one of them ragged; more states than lanes
    (2, 513, 1, 3, 1, 1),
    (2, 512, 3, 1, 1, 1),
    (2, 9, 3, 0, 1, 1),
    (0, 9, 3, 2, 1, 1),
    (1, 300, 1, 6, 3, 2),
    (3, 37, 2, 4, 2, 2),
    (2, 5, 1, 0, 2, 3),
    (0, 5, 1, 2, 2, 2),
    (2, 5, 0, 2, 1, 1),
    (2, 5, 0, 2, 2, 3),
]
# systems, sequences, length, states
SCANS = [(1, 1, 1, 1), (2, 3, 37, 5), (1, 2, 1000, 7), (1, 1, 700, 33), (3, 2, 64, 32), (1, 1, 129, 2), (1, 0, 5, 2)]


def rounded_layer(rng, case, real, *, diagonal=False, radius=(0.5, 0.99), conj_sym=True):
    """System whose parameters are exact in the precision, an input, and the states at both ends."""
    rows, length, systems, order, inputs, outputs = case
    single = KINDS[real][1]
    ssm = random_ssm(rng, order, inputs, outputs, batch=(systems,), bidirectional=True, radius=radius)
    arrays = [np.asarray(getattr(ssm, name)) for name in ("Lambda", "B", "C", "D", "C_reverse")]
    if diagonal:
        arrays[3] = arrays[3] * np.eye(outputs)
    arrays = [a.astype(single if a.dtype.kind == "c" else KINDS[real][0]).astype(a.dtype) for a in arrays]
    u = rng.normal(size=(rows, length, systems * inputs)).astype(KINDS[real][0])
    states = [complex_normal(rng, rows, systems, order).astype(single) for _ in range(2)]
    return type(ssm)(*arrays, conj_sym=conj_sym), u, *states


def rounded_scan(rng, case, real, radius=(0.7, 1.0)):
    """Poles (S, n), inputs (S, R, L, n) and states (S, R, n)."""
    systems, rows, length, order = case
    kind = KINDS[real][1]
    poles = rng.uniform(*radius, (systems, order)) * np.exp(1j * rng.uniform(-np.pi, np.pi, (systems, order)))
    inputs, state = complex_normal(rng, systems, rows, length, order), complex_normal(rng, systems, rows, order)
    return poles.astype(kind), inputs.astype(kind), state.astype(kind)


def assert_close(actual, expected, tolerance):
    """Largest error relative to the largest value, without NaN anywhere."""
    assert actual.shape == expected.shape
    if expected.size:
        error = np.abs(actual - expected).max()
        assert error <= tolerance * np.abs(expected).max(), f"relative error {error / np.abs(expected).max():.1e}"
