"""The exact strings that CuPy is given, compiled by NVRTC for several architectures; needs no device and no driver."""

import importlib.util
import re
from pathlib import Path

import pytest
from shim import KERNELS

from ssmreduce.engines.cuda import _cupy, _device

pytest.importorskip("cupy", reason="CuPy is missing: the CUDA sources cannot be compiled")


@pytest.fixture
def nvrtc():
    from cupy.cuda import nvrtc

    try:
        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"NVRTC is missing: pip install nvidia-cuda-nvrtc ({error})")
    return nvrtc


def compiled(nvrtc, source, options):
    """Machine code, or the compiler's log if it refuses."""
    program = nvrtc.createProgram(source, "kernels.cu", [], [])
    try:
        nvrtc.compileProgram(program, options)
    except nvrtc.NVRTCError:
        return nvrtc.getProgramLog(program)
    assert "warning" not in nvrtc.getProgramLog(program)
    return nvrtc.getCUBIN(program)


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("kind", ["complex64", "complex128"])
def test_kernels_compile(nvrtc, kind, architecture):
    code = compiled(nvrtc, _device.source(), (*_cupy.compiler_options(kind), f"-arch={architecture}"))
    assert isinstance(code, bytes), code
    for kernel in KERNELS:
        assert f".text.{kernel}".encode() in code


def test_blocks_of_the_fused_kernel_have_enough_registers(nvrtc):
    path = Path(__file__).parents[3] / "benchmarks" / "cuda_resources.py"
    spec = importlib.util.spec_from_file_location("cuda_resources", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.resources("complex64", "sm_90")
    assert set(found) == set(KERNELS)
    assert found["respond"][0] * 16 * _device.LANES <= 65536


def test_the_compiler_refuses_what_is_wrong(nvrtc):
    log = compiled(nvrtc, _device.source() + "\nsyntax error", _cupy.compiler_options("complex64"))
    assert "error" in log


def test_every_kernel_is_run_on_the_cpu():
    assert set(re.findall(r"__global__ void(?: __launch_bounds__\(.*\))?\s+(\w+)\(", _device.source())) == set(KERNELS)
