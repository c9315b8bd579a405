"""The CuPy engine: what it refuses without a device, and, where there is one, the cases of every engine."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cases import KINDS, LAYERS, SCANS, assert_close, rounded_layer, rounded_scan
from support.oracles import converted, loop_simulate, random_ssm

from ssmreduce import simulate
from ssmreduce.engines import _reference
from ssmreduce.engines._layer import Layer
from ssmreduce.engines.cuda import _cupy, _cupy_look_back, _device
from ssmreduce.errors import ArrayKindError, MissingDependencyError, UnknownNameError
from ssmreduce.responses import simulate_chunk

ENGINES = pytest.mark.parametrize("engine", ["cupy", "cupy-look-back"])
gpu = pytest.mark.gpu


@pytest.fixture
def torch_cpu(rng):
    torch = pytest.importorskip("torch")
    ssm = converted(random_ssm(rng), lambda array: torch.from_numpy(np.array(array)))
    return ssm, torch.zeros(4, 3, dtype=torch.float64)


# ---------------------------------------------------------------- without a device


@ENGINES
def test_host_arrays_are_not_copied_to_a_device(rng, engine):
    with pytest.raises(UnknownNameError, match=f"engine '{engine}' serves CUDA arrays"):
        simulate(random_ssm(rng), np.zeros((4, 3)), engine=engine)


@ENGINES
def test_missing_cupy(monkeypatch, torch_cpu, engine):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match=r"package cupy, .*: pip install 'ssmreduce\[cuda13\]'"):
        simulate(*torch_cpu, engine=engine)


@ENGINES
def test_tensors_that_do_not_fit(torch_cpu, engine):
    pytest.importorskip("cupy")
    ssm, u = torch_cpu
    with pytest.raises(ArrayKindError, match="CUDA device, got one on cpu"):
        simulate(ssm, u, engine=engine)
    with pytest.raises(ArrayKindError, match="not differentiable; detach"):
        _cupy._borrowed(u.requires_grad_())


@ENGINES
def test_jax_arrays_that_do_not_fit(rng, engine):
    pytest.importorskip("cupy")
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True), jax.default_device(jax.devices("cpu")[0]):
        ssm, u = converted(random_ssm(rng), jax.numpy.asarray), jax.numpy.zeros((4, 3))
        with pytest.raises(ArrayKindError, match=r"CUDA device, got one on .*[Cc]pu"):
            simulate(ssm, u, engine=engine)
        with pytest.raises(ArrayKindError, match=r"cannot be traced by jax\.jit"):
            jax.jit(lambda x: simulate(converted(ssm, lambda a: a * x), u, engine=engine))(1.0)


def test_module_is_built_from_the_source_and_compiled_later():
    cupy = pytest.importorskip("cupy")
    module = _cupy._module(np.dtype(np.complex64))
    assert isinstance(module, cupy.RawModule)
    assert module.code == _device.source()
    assert module is _cupy._module(np.dtype(np.complex64))
    assert module is not _cupy._module(np.dtype(np.complex128))


@pytest.mark.parametrize("pointer", [0, 64])
def test_torch_streams_are_used_by_their_pointer(pointer):
    cupy = pytest.importorskip("cupy")
    stream = cupy.cuda.Stream.from_external(_cupy._TorchStream(SimpleNamespace(cuda_stream=pointer)))
    assert stream.ptr == pointer


# ---------------------------------------------------------------- on a device


def on_host(array):
    return array.get() if hasattr(array, "get") else np.asarray(array.cpu() if hasattr(array, "cpu") else array)


def assert_runs(as_array, case, real, rng, *, strict, engine):
    """simulate_chunk on arrays of a library gives arrays of that library, and what loops give."""
    ssm, u, state, state_reverse = rounded_layer(rng, case, real)
    arrays = [as_array(a) for a in (u, *(s.astype(np.complex128) for s in (state, state_reverse)))]
    chunk = simulate_chunk(
        converted(ssm, as_array),
        arrays[0],
        state=arrays[1],
        state_reverse=arrays[2],
        strict_reverse=strict,
        engine=engine,
    )
    expected = loop_simulate(ssm, u, state, state_reverse, strict=strict)
    for actual, value in zip((chunk.output, chunk.state, chunk.state_reverse), expected, strict=True):
        assert type(actual) is type(arrays[0])
        assert_close(on_host(actual), value, KINDS[real][2])


@gpu
@ENGINES
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("case", [*LAYERS, (1, 16384, 1, 16, 3, 3), (2, 16384, 3, 16, 1, 1)], ids=str)
def test_layers_on_a_device(rng, real, case, strict, engine):
    import cupy

    assert_runs(cupy.asarray, case, real, rng, strict=strict, engine=engine)


@gpu
@pytest.mark.parametrize("look_back", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("case", [*SCANS, (1, 1, 16384, 48), (1, 40, 300, 5000)], ids=str)
def test_scans_on_a_device(rng, real, case, reverse, look_back):
    import cupy

    arrays = rounded_scan(rng, case, real, radius=(1 - 1e-6, 1.0))
    expected = _reference.scan(*(a.astype(np.complex128) for a in arrays), reverse=reverse)
    engine = _cupy_look_back if look_back else _cupy
    device_arrays = [cupy.asarray(a) for a in arrays]
    results = [engine.scan(*device_arrays, reverse=reverse).get() for _ in range(5)]
    for kept, array in zip(device_arrays, arrays, strict=True):
        np.testing.assert_array_equal(kept.get(), array)
    for result in results:
        assert_close(result, expected, KINDS[real][2])
    assert look_back or len({result.tobytes() for result in results}) == 1


@gpu
def test_cupy_arrays_choose_the_engine(rng):
    import cupy

    ssm, u = converted(random_ssm(rng), cupy.asarray), cupy.ones((4, 3))
    np.testing.assert_array_equal(simulate(ssm, u).get(), simulate(ssm, u, engine="cupy").get())
    ready = _cupy.prepare(Layer(*(a[None] for a in (ssm.Lambda, ssm.B, ssm.C)), None, ssm.D[None]))
    response = ready.run(u[None], cupy.zeros((1, 1, 5), complex), None)
    np.testing.assert_array_equal(response.output[0].get(), simulate(ssm, u).get())


@gpu
@ENGINES
@pytest.mark.parametrize("case", [(2, 300, 3, 5, 1, 1), (2, 300, 1, 5, 3, 2)], ids=str)
def test_torch_tensors_on_their_stream(rng, real, case, engine):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch sees no CUDA device")
    with torch.cuda.stream(torch.cuda.Stream()):
        assert_runs(lambda a: torch.from_numpy(np.array(a)).cuda(), case, real, rng, strict=False, engine=engine)


@gpu
@ENGINES
@pytest.mark.parametrize("case", [(2, 300, 3, 5, 1, 1), (2, 300, 1, 5, 3, 2)], ids=str)
def test_jax_arrays_on_a_device(rng, real, case, engine):
    jax = pytest.importorskip("jax")
    if jax.default_backend() not in ("gpu", "cuda"):
        pytest.skip("JAX sees no CUDA device")
    with jax.enable_x64(True):
        assert_runs(jax.numpy.asarray, case, real, rng, strict=False, engine=engine)
