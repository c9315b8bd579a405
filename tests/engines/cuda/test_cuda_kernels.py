"""The CUDA kernels and their host side, run on the CPU behind the shim under adversarial schedules."""

import mpmath
import numpy as np
import pytest
from cases import KINDS, LAYERS, SCANS, assert_close, rounded_layer, rounded_scan
from shim import POLICIES, ScheduleError, ShimDevice, compile_shim, needs_compiler
from support.oracles import complex_normal, loop_simulate

from ssmreduce.engines import _reference
from ssmreduce.engines._layer import Layer
from ssmreduce.engines.cuda import _device
from ssmreduce.responses import _responses as responses

pytestmark = needs_compiler
SCHEDULES = [(policy, resident) for policy in POLICIES for resident in (1, 2, 8)]
PATHS = {"scan_chunks": (1e-9, False), "carry_chunks": (100, False), "scan_look_back": (100, True)}


def run_layer(device, ssm, u, state, state_reverse, *, strict=False, look_back=False):
    ready = _device.prepare(device, responses._layer(ssm, u), look_back=look_back)
    return ready.run(u, state, state_reverse, strict=strict)


def as_double(*arrays):
    return [a.astype(np.complex128) for a in arrays]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", SCANS, ids=str)
def test_scans_against_the_reference(rng, device, real, path, case, reverse):
    Lambda, inputs, state = rounded_scan(rng, case, real)
    expected = _reference.scan(*as_double(Lambda, inputs, state), reverse=reverse)
    processors, look_back = PATHS[path]
    for policy, resident in [("random", 3), ("eager_descending", 2)]:
        used = device(policy=policy, resident=resident, processors=processors)
        states = inputs.copy()
        result = _device.scan(used, Lambda, states, state, reverse=reverse, look_back=look_back)
        assert result is states  # in place
        assert_close(result, expected, KINDS[real][2])


@pytest.mark.parametrize(("path", "length"), [("scan_chunks", 50), ("carry_chunks", 200), ("scan_look_back", 400)])
def test_scans_under_every_schedule(rng, device, real, path, length):
    Lambda, inputs, state = rounded_scan(rng, (2, 2, length, 20), real)
    expected = _reference.scan(*as_double(Lambda, inputs, state), reverse=True)
    results = set()
    for policy, resident in SCHEDULES:
        used = device(policy=policy, resident=resident, processors=PATHS[path][0])
        result = _device.scan(used, Lambda, inputs.copy(), state, reverse=True, look_back=PATHS[path][1])
        assert used.launched[-1][0].startswith(path if path != "carry_chunks" else "scan_chunks")
        assert ("carry_chunks" in [name for name, *_ in used.launched]) == (path == "carry_chunks")
        assert_close(result, expected, KINDS[real][2])
        results.add(result.tobytes())
    assert len(results) == 1 or path == "scan_look_back"  # the others are deterministic


def test_look_back_waits_for_a_prefix_beyond_its_reach(rng, device, real):
    """The first chunk is held back until every other block has published its aggregate and waits."""
    Lambda, inputs, state = rounded_scan(rng, (1, 1, 128 * 40, 3), real, radius=(0.999, 1.0))
    expected = _reference.scan(*as_double(Lambda, inputs, state), reverse=False)
    used = device(policy="starved", resident=100, processors=100)
    result = _device.scan(used, Lambda, inputs.copy(), state, reverse=False, look_back=True)
    assert_close(result, expected, KINDS[real][2])


def test_scan_beside_poles_that_overflow(rng, device, real):
    """A power of an unstable pole overflows before its state does: what is zero stays zero."""
    Lambda, inputs, state = rounded_scan(rng, (1, 1, 700, 3), real)
    Lambda[:, 0], inputs[..., 0], state[..., 0] = 40.0, 0.0, 0.0
    expected = _reference.scan(*as_double(Lambda, inputs, state), reverse=False)
    for look_back in (False, True):
        used = device(processors=100)
        result = _device.scan(used, Lambda, inputs.copy(), state, reverse=False, look_back=look_back)
        assert_close(result, expected, KINDS[real][2])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layers_against_loops(rng, device, real, case, strict):
    ssm, u, state, state_reverse = rounded_layer(rng, case, real)
    expected = loop_simulate(ssm, u, state, state_reverse, strict=strict)
    for policy, resident, processors in [("random", 3, 0.25), ("eager_descending", 2, 8), ("lagging", 4, 100)]:
        used = device(policy=policy, resident=resident, processors=processors)
        response = run_layer(used, ssm, u, state, state_reverse, strict=strict)
        for actual, value in zip(response, expected, strict=True):
            assert_close(actual, value, KINDS[real][2])
        assert response.output.dtype == u.dtype
        assert response.state.dtype == response.state_reverse.dtype == state.dtype


def test_fused_kernel_under_every_schedule(rng, device, real):
    ssm, u, state, state_reverse = rounded_layer(rng, (1, 520, 9, 4, 1, 1), real)
    expected = loop_simulate(ssm, u, state, state_reverse)
    results = set()
    for policy, resident in SCHEDULES:
        used = device(policy=policy, resident=resident, processors=2)
        response = run_layer(used, ssm, u, state, state_reverse)
        assert used.launched[-1][:3] == ("respond", 5, 8 * 32)  # two systems and four shares of the states
        assert_close(response.output, expected[0], KINDS[real][2])
        results.add(response.output.tobytes())
    assert len(results) == 1


def test_causal_layers_and_layers_with_diagonal_D(rng, device, real):
    for case in ((2, 50, 1, 4, 3, 3), (2, 50, 3, 4, 1, 1)):
        ssm, u, state, _ = rounded_layer(rng, case, real, diagonal=True)
        causal = type(ssm)(ssm.Lambda, ssm.B, ssm.C, ssm.D, None, True)
        response = run_layer(device(), causal, u, state, None)
        expected = loop_simulate(causal, u, state)
        assert_close(response.output, expected[0], KINDS[real][2])
        assert_close(response.state, expected[1], KINDS[real][2])
        assert response.state_reverse is None


@pytest.mark.parametrize("samples", [16, 150 * 2])  # spans of 64 steps of one sequence; groups of two sequences
@pytest.mark.parametrize("strict", [False, True])
def test_blocks_bound_the_workspace(rng, device, real, monkeypatch, samples, strict):
    ssm, u, state, state_reverse = rounded_layer(rng, (5, 150, 2, 4, 2, 3), real)
    expected = loop_simulate(ssm, u, state, state_reverse, strict=strict)
    monkeypatch.setattr(_device, "_WORKSPACE_BYTES", samples * 4 * state.itemsize)
    used = device()
    response = run_layer(used, ssm, u, state, state_reverse, strict=strict)
    assert len(used.launched) > 2 * 2 * 2
    for actual, value in zip(response, expected, strict=True):
        assert_close(actual, value, KINDS[real][2])


def test_no_input_is_written_to(rng, device, real):
    for case in ((2, 50, 1, 4, 3, 3), (2, 50, 3, 4, 1, 1)):
        ssm, u, state, state_reverse = rounded_layer(rng, case, real)
        given = (u, state, state_reverse)
        before = [array.copy() for array in given]  # a kernel has pointers, which no flag of NumPy stops
        for strict in (False, True):
            run_layer(device(), ssm, *given, strict=strict)
            for array, copy in zip(given, before, strict=True):
                np.testing.assert_array_equal(array, copy)


def test_strided_input(rng, device, real):
    for case in ((4, 50, 1, 4, 3, 3), (4, 50, 3, 4, 1, 1)):
        ssm, u, state, state_reverse = rounded_layer(rng, case, real)
        u, state = np.asfortranarray(u)[::2, ::-1], state[::2]
        response = run_layer(device(), ssm, u, state, state_reverse[::2])
        assert_close(response.output, loop_simulate(ssm, u, state, state_reverse[::2])[0], KINDS[real][2])


# ---------------------------------------------------------------- accuracy


def long_scan(rng, real):
    """Poles with 1 - |lambda| down to 1e-6, 16384 steps, and the states in extended precision."""
    Lambda, inputs, state = rounded_scan(rng, (1, 1, 16384, 8), real)
    gap = np.array([1e-6, 1e-6, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    Lambda = ((1 - gap) * np.exp(1j * rng.uniform(-np.pi, np.pi, (1, 8)))).astype(Lambda.dtype)
    x, states = state[0, 0].astype(np.clongdouble), np.empty((16384, 8), np.clongdouble)
    for k in range(16384):
        x = Lambda[0].astype(np.clongdouble) * x + inputs[0, 0, k]
        states[k] = x
    return Lambda, inputs, state, states


@pytest.mark.parametrize("path", PATHS)
def test_accuracy_of_scans_near_the_circle(rng, device, real, path):
    Lambda, inputs, state, expected = long_scan(rng, real)
    processors, look_back = PATHS[path]
    used = device(policy="ascending", processors=processors)
    states = _device.scan(used, Lambda, inputs, state, reverse=False, look_back=look_back)[0, 0]
    error = np.abs(states - expected).max(axis=0) / np.abs(expected).max(axis=0)
    np.testing.assert_array_less(error, 1e-6 if real == "float" else 2e-14)


def test_accuracy_of_the_fused_kernel_near_the_circle(rng, device, real):
    Lambda, _, _, _ = long_scan(rng, real)
    u = rng.normal(size=(1, 16384, 1)).astype(KINDS[real][0])
    C = complex_normal(rng, 1, 1, 8).astype(Lambda.dtype)
    layer = Layer(Lambda, np.ones((1, 8, 1), Lambda.dtype), C, None, np.zeros((1, 1, 1), u.dtype))
    x, expected = np.zeros(8, np.clongdouble), np.empty(16384)
    for k in range(16384):
        x = Lambda[0].astype(np.clongdouble) * x + u[0, k]
        expected[k] = (C[0, 0] * x).sum().real
    response = _device.prepare(device(policy="ascending"), layer).run(u, np.zeros((1, 1, 8), C.dtype), None)
    error = np.abs(response.output[0, :, 0] - expected).max() / np.abs(expected).max()
    assert error < (1e-6 if real == "float" else 2e-14)
    assert_close(response.state[0, 0], x, 1e-6 if real == "float" else 2e-14)


def test_powers_of_poles_to_fifty_digits(rng, device, real):
    Lambda = rounded_scan(rng, (2, 1, 1, 3), real, radius=(1 - 1e-6, 1.0))[0]
    rounded, wide = _device.pole_powers(device(), Lambda, 700, 33)
    for index in np.ndindex(2, 3):
        pole = mpmath.mpc(complex(Lambda[index]))
        for j in (0, 1, 7, 32):
            exact = pole ** (700 * j)
            assert abs(mpmath.mpc(complex(wide[index][j])) - exact) < 4e-16 * abs(exact)
            assert abs(complex(rounded[index][j]) - complex(exact)) < (1e-7 if real == "float" else 4e-16)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize(
    ("columns", "length", "processors", "expected"),
    [
        (4 * 132 * 128, 16384, 132, 16384),  # columns enough
        (4 * 132 * 128 - 1, 16384, 132, 8192),
        (384, 16384, 132, 96),
        (384, 16384, 1, 8192),
        (1, 10**6, 132, 64),
        (1, 63, 132, 63),
        (1, 65, 132, 64),
    ],
)
def test_chunk_length(columns, length, processors, expected):
    chunk = _device.chunk_length(columns, length, processors, 16)
    assert chunk == expected
    assert chunk == length or chunk % 16 == 0


@pytest.mark.parametrize(
    ("rows", "systems", "order", "processors", "expected"),
    [
        (64, 256, 32, 132, (8, 1)),
        (8, 256, 32, 132, (4, 4)),
        (1, 256, 32, 132, (1, 16)),
        (1, 256, 3, 132, (1, 3)),
        (1, 1, 0, 132, (1, 1)),
    ],
)
def test_shape_of_the_fused_kernel(rows, systems, order, processors, expected):
    width, groups = _device.fused_shape(rows, systems, order, processors)
    assert (width, groups) == expected
    assert width * groups <= 16


# ---------------------------------------------------------------- the shim itself

BROKEN = """
extern "C" __global__ void deadlock(long long) { if (threadIdx.x) __syncthreads(); }
extern "C" __global__ void spin(long long) { while (true) __nanosleep(1); }
extern "C" __global__ void overrun(long long) { SHARED_MEMORY(char, shared); shared[threadIdx.x + 1] = 0; }
extern "C" __global__ void outside(char* array) { array[blockDim.x] = 0; }
extern "C" __global__ void shared_is_nan(double* out) {
    SHARED_MEMORY(double, shared);
    out[threadIdx.x] = shared[threadIdx.x];
}
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    names = ("deadlock", "spin", "overrun", "outside", "shared_is_nan")
    return compile_shim(tmp_path_factory.mktemp("broken"), "float", BROKEN, kernels=names)


@pytest.mark.parametrize(
    ("kernel", "argument", "message"),
    [
        ("deadlock", 0, "deadlock: deadlock"),
        ("spin", 0, "spin: deadlock"),
        ("overrun", 0, "overrun: overrun of shared memory"),
        ("outside", np.zeros(64, np.uint8), "outside: wrote outside an array"),
    ],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_the_shim_sees_broken_kernels(broken, kernel, argument, message, policy):
    with pytest.raises(ScheduleError, match=message):
        ShimDevice(broken, policy=policy).launch(kernel, 2, 64, (argument,), 64)


def test_the_shim_poisons_shared_memory(broken):
    out = np.zeros(64)
    ShimDevice(broken).launch("shared_is_nan", 1, 64, (out,), 64 * 8)
    assert np.isnan(out).all()
