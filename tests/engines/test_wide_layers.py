"""The register tiles of wide layers: every path on any machine, shared states, precision, threads, cache and memory."""

import concurrent.futures
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from support.oracles import assert_same_bits, complex_normal, converted, loop_simulate, mp_simulate, random_ssm

import ssmreduce
from ssmreduce import DiagonalSSM, simulate
from ssmreduce._support import threads as _threads
from ssmreduce.engines._layer import BlockedProducts
from ssmreduce.engines.numba import _engine as _numba
from ssmreduce.engines.numba import _host, _memory
from ssmreduce.engines.numba import _wide as _tiles
from ssmreduce.engines.numba._host import Registers
from ssmreduce.errors import NonFiniteError
from ssmreduce.responses import _responses as responses
from ssmreduce.responses import simulate_chunk

PATHS = {
    "avx512": Registers(64, 12),
    "avx2": Registers(32, 6),
    "neon": Registers(16, 12),
    "sse": Registers(16, 6),
    "unknown": None,
}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-13}


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Each kind of processor, whatever the one at hand is; LLVM splits the vectors that it does not have."""
    monkeypatch.setattr(_host, "registers", lambda: PATHS[request.param])
    return PATHS[request.param]


@pytest.fixture
def small_chunks(monkeypatch):
    """So that short sequences have several chunks."""
    monkeypatch.setattr(_tiles, "_CHUNK_BYTES", 1)


def rounded(ssm, dtype):
    """The system with parameters that a precision can hold."""
    kinds = {"c": np.result_type(dtype, np.complex64), "f": dtype}
    return converted(ssm, lambda a: a.astype(kinds[a.dtype.kind]).astype(a.dtype))


def assert_close(actual, expected, tolerance, scale=0.0):
    assert actual.shape == expected.shape
    np.testing.assert_array_less(np.abs(actual - expected).max(), tolerance * max(scale, np.abs(expected).max()))


def assert_chunk(actual, expected, tolerance):
    for name in ("output", "state", "state_reverse"):
        if getattr(expected, name) is None:
            assert getattr(actual, name) is None
        else:
            assert_close(getattr(actual, name), getattr(expected, name), tolerance)


def prepared(ssm, u):
    return responses._prepared(ssm, u, _numba)


@DTYPES
@pytest.mark.parametrize("form", ["causal", "inclusive", "strict"])
@pytest.mark.parametrize(
    ("rows", "length", "n", "m", "p", "diagonal"),
    [
        (1, 1, 1, 2, 2, True),
        (2, 1, 3, 2, 5, False),
        (1, 13, 16, 32, 32, True),
        (2, 29, 17, 37, 37, True),
        (2, 88, 20, 64, 64, True),
        (3, 12, 5, 7, 67, False),
        (1, 25, 33, 31, 1, False),
        (2, 6, 64, 1, 33, False),
        (1, 47, 8, 64, 64, False),
    ],
)
def test_against_loops(rng, path, small_chunks, dtype, form, rows, length, n, m, p, diagonal):
    ssm = random_ssm(rng, n, m, p, bidirectional=form != "causal", conj_sym=True)
    if diagonal:
        ssm = DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, np.diag(np.diag(ssm.D)), ssm.C_reverse, conj_sym=True)
    u, starts = rng.normal(size=(rows, length, m)).astype(dtype), {"state": complex_normal(rng, rows, n)}
    if form != "causal":
        starts |= {"state_reverse": complex_normal(rng, rows, n), "strict_reverse": form == "strict"}
    chunk = simulate_chunk(ssm, u, **starts)
    assert isinstance(prepared(ssm, u), _tiles.Wide if path else BlockedProducts)
    assert chunk.output.dtype == dtype
    starts["strict"] = starts.pop("strict_reverse", False)
    names = ("state", "state_reverse")
    expected = loop_simulate(rounded(ssm, dtype), u.astype(float), **starts)
    for actual, value in zip((chunk.output, *(getattr(chunk, name) for name in names)), expected, strict=True):
        if actual is not None:
            assert_close(actual, value, TOLERANCE[dtype], scale=1.0)  # a single sum of numbers near 1 may cancel


@DTYPES
def test_long_sequences_with_poles_at_the_circle(rng, path, dtype):
    ssm = rounded(random_ssm(rng, 40, 6, 5, radius=(1 - 1e-4, 1 - 1e-6), conj_sym=True, bidirectional=True), dtype)
    u = rng.normal(size=(3, 16384, 6)).astype(dtype)
    u[1] += 1.0  # errors of one sign must not pile up either
    u[2] = np.cos(np.angle(ssm.Lambda[0]) * np.arange(16384.0))[:, None]
    actual = simulate_chunk(ssm, u)
    expected = simulate_chunk(ssm, u.astype(float), engine="reference")
    assert_chunk(actual, expected, TOLERANCE[dtype])


@DTYPES
def test_long_sequences_against_many_digits(rng, path, dtype):
    ssm = rounded(random_ssm(rng, 2, 1, 1, radius=(1 - 1e-6, 1 - 1e-6), conj_sym=True), dtype)
    u = rng.normal(size=(16384, 1)).astype(dtype)
    assert_close(simulate(ssm, u), mp_simulate(ssm, u), TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("square", [False, True])
def test_threads_change_no_bit(rng, path, small_chunks, dtype, bidirectional, square):
    """Of layers whose inputs are copied, and of some (square, diagonal D) whose inputs are read where they lie."""
    ssm = random_ssm(rng, 50, *((64, 64) if square else (9, 70)), bidirectional=bidirectional)
    if square:
        ssm = DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, np.diag(np.diag(ssm.D)), ssm.C_reverse)
    for rows in (1, 2, 3, 5):
        u, state = rng.normal(size=(rows, 61, ssm.B.shape[-1])).astype(dtype), complex_normal(rng, rows, 50)
        one = simulate_chunk(ssm, u, state=state, threads=1)
        for threads in (1, 2, 2, 3, 4, 7):
            more = simulate_chunk(ssm, u, state=state, threads=threads)
            assert_same_bits(more.output, one.output)
            assert_same_bits(more.state, one.state)
            if bidirectional:
                assert_same_bits(more.state_reverse, one.state_reverse)


@DTYPES
@pytest.mark.parametrize("strict", [None, False, True])
@pytest.mark.parametrize(("kind", "systems"), [*((name, 1) for name in PATHS if PATHS[name]), ("avx2", 2)])
def test_inputs_where_they_lie_and_copied(rng, monkeypatch, small_chunks, dtype, strict, kind, systems):
    """The same bits; in whole tiles, with a short one at the end, and with a rest that is copied in either case."""
    monkeypatch.setattr(_host, "registers", lambda: PATHS[kind])
    ssm = random_ssm(rng, 20, 64, 64, batch=(systems,), bidirectional=strict is not None)
    ssm = DiagonalSSM(ssm.Lambda, ssm.B, ssm.C, ssm.D * np.eye(64), ssm.C_reverse)
    for length in (1, 12, 16, 60, 61, 88):
        u = rng.normal(size=(2, length, 64 * systems)).astype(dtype)
        tiles, start = prepared(ssm, u), np.zeros((2, systems, 20), np.result_type(dtype, np.complex64))
        assert tiles.direct
        direct = tiles.run(u, start, None if strict is None else start, strict=bool(strict))
        monkeypatch.setattr(tiles, "direct", False)
        copied = tiles.run(u, start, None if strict is None else start, strict=bool(strict))
        monkeypatch.setattr(tiles, "direct", True)
        for one, other in zip(direct, copied, strict=True):
            if one is not None:
                assert_same_bits(one, other)


def test_rows_that_share_a_set_of_the_cache_are_copied(monkeypatch):
    monkeypatch.setattr(_host, "registers", lambda: PATHS["avx512"])
    for width, direct in ((1024, False), (1056, True), (1040, False)):
        D, weights = np.eye(width), np.ones((4, width))
        tiles = prepared(DiagonalSSM(np.full(4, 0.5), weights, weights.T, D), np.ones((1, 1, width), np.float32))
        assert tiles.direct == direct


@DTYPES
@pytest.mark.parametrize("outputs", [64, 80, 70])
def test_streaming_stores_change_no_bit(rng, monkeypatch, small_chunks, dtype, outputs):
    """Sums of one part and of two (more than 256 numbers), whole panels of outputs and others."""
    monkeypatch.setattr(_host, "registers", lambda: PATHS["avx512"])
    for n, bidirectional in ((20, True), (150, False)):
        ssm, u = random_ssm(rng, n, 9, outputs, bidirectional=bidirectional), rng.normal(size=(3, 61, 9)).astype(dtype)
        runs = []
        for limit, threads in ((2**40, 1), (0, 1), (0, 2)):
            monkeypatch.setattr(_memory, "_STREAM_BYTES", limit)
            runs.append(simulate(ssm, u, threads=threads))
        assert_close(runs[0], loop_simulate(rounded(ssm, dtype), u.astype(float))[0], TOLERANCE[dtype])
        for run in runs[1:]:
            assert_same_bits(run, runs[0])


@DTYPES
def test_chunks_equal_one_run(rng, path, small_chunks, dtype):
    ssm = random_ssm(rng, 20, 6, 6, conj_sym=True)
    u, state, parts = rng.normal(size=(2, 53, 6)).astype(dtype), None, []
    for start, stop in [(0, 1), (1, 25), (25, 53)]:
        chunk = simulate_chunk(ssm, u[:, start:stop], state=state)
        state = chunk.state
        parts.append(chunk.output)
    whole = simulate_chunk(ssm, u)
    assert_close(np.concatenate(parts, axis=1), whole.output, TOLERANCE[dtype])
    assert_close(state, whole.state, TOLERANCE[dtype])


@DTYPES
def test_several_wide_systems(rng, path, dtype):
    ssm = random_ssm(rng, 48, 64, 64, batch=(3,), bidirectional=True, radius=(0.3, 1.02))
    u = np.asfortranarray(rng.normal(size=(2, 30, 192)).astype(dtype))[:, ::-1]
    actual = simulate_chunk(ssm, u, threads=2)
    assert isinstance(prepared(ssm, u), _tiles.Wide if path else BlockedProducts)
    assert_chunk(actual, simulate_chunk(rounded(ssm, dtype), u.astype(float), engine="reference"), TOLERANCE[dtype])


def test_what_tiles_would_waste_goes_to_products(rng, monkeypatch):
    monkeypatch.setattr(_host, "registers", lambda: PATHS["avx512"])
    many, one = random_ssm(rng, 4, 2, 2, batch=(8,)), random_ssm(rng, 1, 2, 2)
    assert isinstance(prepared(many, rng.normal(size=(5, 16))), BlockedProducts)
    assert isinstance(prepared(one, rng.normal(size=(5, 2))), _tiles.Wide)


@DTYPES
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 2])
def test_input_that_is_not_finite(rng, small_chunks, dtype, value, threads):
    ssm, u = random_ssm(rng, 20, 3, 3), np.full((1, 40, 3), np.finfo(dtype).max, dtype)
    with np.errstate(all="ignore"):
        simulate(ssm, u, threads=threads)  # the largest numbers are welcome
    assert isinstance(prepared(ssm, u), _tiles.Wide)
    for place in ((0, 0, 0), (0, 21, 1), (0, 39, 2)):
        bad = u.copy()
        bad[place] = value
        with pytest.raises(NonFiniteError, match="u holds NaN or infinite values"):
            simulate(ssm, bad, threads=threads)


def test_powers_that_would_overflow_go_to_products(rng, path):
    ssm = DiagonalSSM([2e4, 0.5], [[1.0], [0.0]], [[1.0, 1.0]], [[0.0]])
    u = np.zeros((12, 1), np.float32)
    u[8] = 1.0
    assert_close(simulate(ssm, u), simulate(ssm, u.astype(float), engine="reference"), 1e-6)


# ---------------------------------------------------------------- threads


def test_concurrent_callers(rng, small_chunks):
    """Each call has teams that wait for each other; calls from several Python threads must not starve them."""
    ssm, u = random_ssm(rng, 64, 5, 40), rng.normal(size=(1, 500, 5))
    expected = simulate(ssm, u, threads=1)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for result in [pool.submit(simulate, ssm, u, threads=5) for _ in range(30)]:
            assert_same_bits(result.result(timeout=120), expected)


def run_python(code, **environment):
    environment = os.environ | {"PYTHONPATH": str(Path(ssmreduce.__file__).parents[1])} | environment
    command = [sys.executable, "-c", PREAMBLE + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout


PREAMBLE = """
import os
import numpy as np
import ssmreduce as sr
rng = np.random.default_rng(0)
def normal(*shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)
ssm = sr.DiagonalSSM(np.linspace(0.5, 0.9, 40), normal(40, 6), normal(6, 40), np.eye(6))
u = rng.normal(size=(1, 3000, 6))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_nothing_is_read_beyond_the_input():
    """Between two pages that nobody may touch: inputs are read by address, where no index is checked."""
    code = """
import ctypes, mmap
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
page = mmap.PAGESIZE
wide = sr.DiagonalSSM(np.linspace(0.5, 0.9, 40), normal(40, 64), normal(64, 40), np.eye(64), normal(64, 40))
B, C = normal(64, 3, 1), normal(64, 1, 3)
narrow = sr.DiagonalSSM(np.full((64, 3), 0.5), B, C, np.ones((64, 1, 1)), C)
for length in (1, 4, 12, 16, 61, 192, 200):
    values = rng.normal(size=(2, length, 64)).astype(np.float32)
    pages = -(-values.nbytes // page)
    memory = mmap.mmap(-1, (pages + 2) * page)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    inner = np.frombuffer(memory, np.float32, pages * page // 4, page)
    assert protect(begin, page, 0) == protect(begin + (pages + 1) * page, page, 0) == 0
    for u in (inner[: values.size], inner[-values.size :]):
        u = u.reshape(values.shape)
        u[...] = values
        for layer in (wide, narrow):
            assert (sr.simulate(layer, u) == sr.simulate(layer, values)).all()
print("done")
"""
    assert run_python(code).split() == ["done"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")
def test_a_team_on_one_core():
    code = """
one = sr.simulate(ssm, u, threads=1)
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print((sr.simulate(ssm, u, threads=4) == one).all())
"""
    assert run_python(code).split() == ["True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    code = """
one = sr.simulate(ssm, u, threads=3)
child = os.fork()
if child == 0:
    os._exit(0 if (sr.simulate(ssm, u, threads=3) == one).all() else 1)
print(os.waitpid(child, 0)[1])
"""
    assert run_python(code).split() == ["0"]


@pytest.mark.parametrize("threads", [1, 2, 5, 20])
def test_parts_cover_the_range(threads):
    done = np.zeros(7, int)

    def work(start, stop):
        done[start:stop] += 1

    _threads.for_each_part(work, 7, threads)
    assert done.tolist() == [1] * 7


@pytest.mark.parametrize("failing", [0, 2])
def test_errors_of_threads_reach_the_caller(failing):
    def work(member):
        if member == failing:
            raise ArithmeticError(f"member {member}")

    with pytest.raises(ArithmeticError, match=f"member {failing}"):
        _threads.together(work, 3)


# ---------------------------------------------------------------- processor, cache, memory


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", "+avx,+avx2,+fma,+avx512f", "avx512"),
        ("AMD64", "+avx,+avx2,+fma", "avx2"),
        ("x86_64", "+avx2,-fma", "sse"),
        ("x86_64", "", "sse"),
        ("aarch64", "", "neon"),
        ("arm64", "", "neon"),
        ("riscv64", "", "unknown"),
    ],
)
def test_registers_of_processors(monkeypatch, machine, features, expected):
    monkeypatch.setattr(_host.platform, "machine", lambda: machine)
    monkeypatch.setenv("NUMBA_CPU_FEATURES", features)
    assert _host.registers.__wrapped__() == PATHS[expected]


def test_a_second_process_finds_compiled_code(tmp_path):
    code = """
sr.simulate(ssm, u), sr.simulate(ssm, u.astype(np.float32))
from ssmreduce.engines.numba._wide_loops import respond
print(sum(respond.stats.cache_hits.values()), sum(respond.stats.cache_misses.values()))
"""

    def files():
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.rglob("*.nb*")}

    assert run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["0", "2"]
    first = files()
    assert first
    assert run_python(code, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["2", "0"]
    assert files() == first


def workspace(ssm, u, threads):
    """Peak of the memory of a call beyond what it returns."""
    tracemalloc.start()
    y = simulate(ssm, u, threads=threads)
    peak = tracemalloc.get_traced_memory()[1] - y.nbytes
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("threads", [1, 2])
def test_workspace_does_not_grow_with_the_length(rng, threads):
    ssm = random_ssm(rng, 64, 32, 32, bidirectional=True)
    short, long = (rng.normal(size=(1, length, 32)).astype(np.float32) for length in (3000, 60000))
    simulate(ssm, short, threads=threads)  # makes the system ready
    assert workspace(ssm, long, threads) < workspace(ssm, short, threads) + 2**16
    assert workspace(ssm, long, threads) < 2**21
