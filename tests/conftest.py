"""Seeded generators, the hypothesis profile, and arrays of several libraries."""

import zlib

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("ssmreduce", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("ssmreduce")


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    reason = _no_device() if marked else None
    for item in marked if reason else []:
        item.add_marker(pytest.mark.skip(reason=reason))


def _no_device():
    """Why tests marked gpu cannot run; None if they can."""
    try:
        import cupy
    except ImportError:
        return "CuPy is not installed"
    return None if cupy.cuda.is_available() else "no CUDA device was found"


@pytest.fixture
def rng(request):
    """Generator seeded from the test's name, parameters included."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(params=["torch", "jax", "array_api_strict"])
def as_array(request):
    """Function from a NumPy array to an array of another library, in the same precision."""
    library = pytest.importorskip(request.param)
    if request.param == "torch":
        yield lambda array: library.from_numpy(np.array(array))
    elif request.param == "jax":
        with library.enable_x64(True):
            yield library.numpy.asarray
    else:
        yield library.asarray


@pytest.fixture
def double():
    """JAX computes in double precision."""
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield
