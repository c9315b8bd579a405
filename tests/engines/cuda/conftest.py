"""The CUDA sources compiled once for the CPU."""

import pytest
import shim


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    if shim.COMPILER is None:
        pytest.skip("no g++ on Linux to run the CUDA sources on the CPU")
    folder = tmp_path_factory.mktemp("shim")
    return {real: shim.compile_shim(folder, real) for real in ("float", "double")}


@pytest.fixture(params=["float", "double"])
def real(request):
    return request.param


@pytest.fixture
def device(libraries, real):
    """Maker of devices of that precision: device(policy="random", ...)."""
    return lambda **options: shim.ShimDevice(libraries[real], **options)
