"""The S4D kernel on vectors of every width against loops, 50 digits, and itself: threads, streams, caches."""

import os
import subprocess
import sys
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from support.oracles import (
    assert_same_bits,
    complex_normal,
    converted,
    loop_simulate,
    mp_simulate,
    random_ssm,
    system_at,
)

import ssmreduce
from ssmreduce import DiagonalSSM, simulate
from ssmreduce.engines._layer import BlockedProducts, Layer
from ssmreduce.engines.numba import _channels, _host, _memory
from ssmreduce.engines.numba import _channels_loops as _siso
from ssmreduce.engines.numba import _engine as _numba
from ssmreduce.responses import simulate_chunk

CHUNK = _siso.CHUNK


@pytest.fixture(params=[(64, 12), (32, 6), (16, 12), (16, 6)], ids=["AVX-512", "AVX2", "NEON", "SSE"])
def width(request, monkeypatch):
    """Bytes of a vector, with many registers or few; the compiler splits what this processor does not have."""
    monkeypatch.setattr(_host, "registers", lambda: _host.Registers(*request.param))
    return request.param[0]


def channels(rng, count=5, n=3, **options):
    return random_ssm(rng, n, 1, 1, batch=(count,), **options)


def read_only(*arrays):
    for array in arrays:
        array.flags.writeable = False
    return arrays


def as_layer(ssm, dtype=np.float64):
    kind = np.complex64 if dtype == np.float32 else np.complex128
    reverse = None if ssm.C_reverse is None else ssm.C_reverse.astype(kind)
    return Layer(
        ssm.Lambda.astype(kind), ssm.B.astype(kind), ssm.C.astype(kind) * ssm.kappa, reverse, ssm.D.astype(dtype)
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("bidirectional", "strict"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(
    ("lead", "length", "count", "n"),
    [
        ((), 1, 1, 1),
        ((2,), 5, 3, 2),  # less than a group
        ((), 8, 16, 1),  # a group, whole vectors
        ((3,), 13, 35, 3),  # the last vector is not full
        ((), 85, 4, 19),  # a run of groups, groups, steps; more states than are taken at once
        ((), CHUNK, 4, 2),
        ((2, 2), CHUNK + 1, 2, 2),
        ((), 2 * CHUNK - 1, 19, 5),
        ((0,), 3, 2, 2),
    ],
)
def test_against_loops(rng, width, dtype, bidirectional, strict, lead, length, count, n):
    ssm = channels(rng, count, n, bidirectional=bidirectional, conj_sym=True)
    u, state, state_reverse = read_only(
        rng.normal(size=(*lead, length, count)).astype(dtype),
        complex_normal(rng, *lead, count, n),
        complex_normal(rng, *lead, count, n),
    )
    starts = {"state": state, "state_reverse": state_reverse} if bidirectional else {"state": state}
    chunk = simulate_chunk(ssm, u, **starts, strict_reverse=strict)
    expected = loop_simulate(ssm, u, **starts, strict=strict)
    assert chunk.output.dtype == dtype
    tolerance = {"rtol": 0, "atol": 1e-12 if dtype == np.float64 else 1e-4}
    np.testing.assert_allclose(chunk.output, expected[0], **tolerance)
    np.testing.assert_allclose(chunk.state, expected[1], **tolerance)
    if bidirectional:
        np.testing.assert_allclose(chunk.state_reverse, expected[2], **tolerance)


def slow_channels(rng, count, n):
    """Poles with 1 - abs(lambda) from 1e-6 to 0.1, evenly spread in the logarithm; the first is the slowest."""
    gap = 10.0 ** np.linspace(-6, -1, count * n).reshape(count, n)
    Lambda = (1 - gap) * np.exp(1j * rng.uniform(0, np.pi, (count, n)))
    C, B = complex_normal(rng, count, 1, n), complex_normal(rng, count, n, 1)
    return DiagonalSSM(Lambda, B, C, rng.normal(size=(count, 1, 1)), conj_sym=True)


def rounded(ssm, dtype):
    """The system with its parameters rounded to the precision of an input."""
    kinds = {"c": np.complex64, "f": np.float32} if dtype == np.float32 else {"c": complex, "f": float}
    return converted(ssm, lambda a: a.astype(kinds[a.dtype.kind]).astype(a.dtype))


@cache
def slow_response(dtype):
    """A system whose parameters were rounded to the precision, inputs, and the exact outputs.

    The last two channels are in resonance with their inputs, which repeat: rounding errors do not cancel there.
    """
    rng = np.random.default_rng(20)
    ssm, turns = slow_channels(rng, 4, 2), np.array([np.pi / 4, np.pi / 2])
    Lambda = np.array(ssm.Lambda)
    Lambda[2:] = (1 - np.array([1e-6, 1e-3])) * np.exp(1j * turns[:, None])
    ssm = rounded(DiagonalSSM(Lambda, ssm.B, ssm.C, ssm.D, conj_sym=True), dtype)
    u = np.concatenate([rng.normal(size=(16384, 2)), np.cos(np.arange(16384)[:, None] * turns)], axis=1).astype(dtype)
    exact = np.concatenate([mp_simulate(system_at(ssm, (k,)), u[:, k : k + 1]) for k in range(4)], axis=1)
    return ssm, u, exact


@pytest.mark.parametrize(("dtype", "limit"), [(np.float32, 2e-6), (np.float64, 1e-13)])
def test_long_sequences_of_slow_poles(width, dtype, limit):
    ssm, u, exact = slow_response(dtype)
    actual = simulate(converted(ssm, np.array), u)  # the packed layer is kept with the system
    np.testing.assert_array_less(np.abs(actual - exact).max(axis=0), limit * np.abs(exact).max(axis=0))


def test_short_chunks_do_not_drift(rng, width):
    """Carried over chunks of one group, the state of a slow pole keeps its phase: powers are rounded only once."""
    ssm = slow_channels(rng, 2, 1)
    u = rng.normal(size=(9000, 2)).astype(np.float32)
    exact = simulate(rounded(ssm, np.float32), u.astype(float), engine="reference")
    state, outputs = None, []
    for part in np.split(u, 1500):
        chunk = simulate_chunk(ssm, part, state=state)
        state = chunk.state
        outputs.append(chunk.output)
    error = np.abs(np.concatenate(outputs) - exact).max(axis=0)
    np.testing.assert_array_less(error, 5e-6 * np.abs(exact).max(axis=0))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
def test_threads_change_no_bit(rng, width, rows, strict):
    ssm = channels(rng, 70, 4, bidirectional=True)
    u, state = rng.normal(size=(rows, 1500, 70)), complex_normal(rng, rows, 70, 4)
    runs = [simulate_chunk(ssm, u, state=state, strict_reverse=strict, threads=t) for t in (1, 2, 3, 50)]
    for run in runs[1:]:
        for name in ("output", "state", "state_reverse"):
            assert_same_bits(getattr(run, name), getattr(runs[0], name))


def test_streaming_stores_change_no_bit(rng, monkeypatch):
    monkeypatch.setattr(_host, "registers", lambda: _host.Registers(64, 12))
    ssm, u = channels(rng, 32, 3, bidirectional=True), rng.normal(size=(2, 500, 32))
    cached = simulate(ssm, u)
    monkeypatch.setattr(_memory, "_STREAM_BYTES", 0)
    assert_same_bits(simulate(ssm, u, threads=2), cached)


def test_systems_that_are_a_grid(rng, width):
    """Several batch axes are channels in C order."""
    ssm, u = random_ssm(rng, 3, 1, 1, batch=(2, 5)), rng.normal(size=(40, 10))
    np.testing.assert_allclose(simulate(ssm, u), loop_simulate(ssm, u)[0], rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- states that cannot be folded


def masked(rng, **options):
    """Channels in which some inputs reach no state; one of these states is unstable."""
    ssm = channels(rng, 6, 3, **options)
    B, Lambda = np.array(ssm.B), np.array(ssm.Lambda)
    B[[0, 2, 2], [1, 0, 2]] = 0.0
    Lambda[2, 0] = 3.0
    return DiagonalSSM(Lambda, B, ssm.C, ssm.D, ssm.C_reverse, ssm.conj_sym)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("started", [False, True])
def test_states_without_input(rng, width, bidirectional, started):
    ssm = masked(rng, bidirectional=bidirectional)
    u, state = rng.normal(size=(30, 6)), complex_normal(rng, 6, 3) * started
    chunk, expected = simulate_chunk(ssm, u, state=state), loop_simulate(ssm, u, state)
    size = np.abs(expected[0]).max()
    np.testing.assert_allclose(chunk.output, expected[0], rtol=1e-12, atol=1e-12 * size)
    np.testing.assert_allclose(chunk.state, expected[1], rtol=1e-12, atol=1e-12)


def test_a_state_without_input_stays_out_of_the_output(rng, width):
    """3 ** 5000 overflows, but starts from 0."""
    y = simulate(masked(rng), rng.normal(size=(5000, 6)))
    assert np.isfinite(y).all()


@pytest.mark.parametrize(("B", "pole"), [(1e-25, 0.5), (1e25, 0.5), (1.0, 1e9)])
def test_weights_beyond_single_precision_take_products(rng, width, B, pole):
    """B that cannot be folded, and a pole whose eighth power overflows where the output does not."""
    ssm = DiagonalSSM([[pole]], [[[B]]], [[[1 / B]]], [[[0.0]]])
    u = np.zeros((4, 1), np.float32)
    u[0] = 1.0
    np.testing.assert_allclose(simulate(ssm, u)[:, 0], pole ** np.arange(4.0), rtol=1e-6)


def test_strictly_anticausal_half_of_a_pole_at_zero(rng, width):
    ssm = DiagonalSSM(
        np.zeros((2, 1)), np.ones((2, 1, 1)), np.zeros((2, 1, 1)), np.zeros((2, 1, 1)), np.ones((2, 1, 1))
    )
    u = rng.normal(size=(9, 2))
    np.testing.assert_allclose(simulate(ssm, u, strict_reverse=True), np.vstack([u[1:], np.zeros((1, 2))]), rtol=1e-15)


# ---------------------------------------------------------------- which engine serves, and its cache


def test_which_layers_the_kernel_takes(rng, monkeypatch):
    assert type(_numba.prepare(as_layer(channels(rng)))) is _channels.Channels
    for other in (random_ssm(rng, 3, 2, 1, batch=(4,)), random_ssm(rng, 3, 1, 2, batch=(4,)), channels(rng, 4, 0)):
        assert type(_numba.prepare(as_layer(other))) is not _channels.Channels
    monkeypatch.setattr(_host, "registers", lambda: None)
    assert type(_numba.prepare(as_layer(channels(rng)))) is BlockedProducts


def test_an_unknown_processor_gives_the_same(rng, monkeypatch):
    ssm, u = channels(rng, 7, 4, bidirectional=True), rng.normal(size=(2, 50, 7))
    expected = simulate(ssm, u)
    monkeypatch.setattr(_host, "registers", lambda: None)
    again = converted(ssm, np.array)  # the packed layer is kept with the system
    np.testing.assert_allclose(simulate(again, u), expected, rtol=1e-12, atol=1e-12)


def test_powers_have_twice_the_digits(rng):
    """Against integers: a power of a power too is wrong by less than its rounding."""
    pole = np.array([(1 - 1e-6) * np.exp(1j * rng.uniform(0, np.pi))])
    value, low = _channels._powers(_channels._powers((pole, 0.0), 8)[-1], 6)[-1]
    a, b = Fraction(float(pole[0].real)), Fraction(float(pole[0].imag))
    re, im = Fraction(1), Fraction(0)
    for _ in range(48):
        re, im = re * a - im * b, re * b + im * a
    lost = complex(float(re - Fraction(float(value[0].real))), float(im - Fraction(float(value[0].imag))))
    assert abs(lost) > 0
    np.testing.assert_allclose(low[0], lost, rtol=1e-12)


SECOND_PROCESS = """
import numpy as np, ssmreduce as sr
from ssmreduce.engines.numba import _channels_loops as _siso
ssm = sr.DiagonalSSM(np.full((3, 2), 0.5), np.ones((3, 2, 1)), np.ones((3, 1, 2)), np.ones((3, 1, 1)))
for dtype in (np.float32, np.float64):
    assert sr.simulate(ssm, np.ones((9, 3), dtype))[1, 0] == 4.0
stats = _siso.respond.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_the_second_process_compiles_nothing(tmp_path):
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": str(Path(ssmreduce.__file__).parent.parent),
    }
    command = [sys.executable, "-W", "error", "-c", SECOND_PROCESS]
    first, second = (
        subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first.split() == ["0", "2"]
    assert second.split() == ["2", "0"]
