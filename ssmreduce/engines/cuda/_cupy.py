"""The CUDA engine: device arrays in and out, also PyTorch's and JAX's through DLPack. Never run on hardware so far."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

import array_api_compat
import numpy as np

from ..._support.arrays import Array, is_traced
from ..._support.optional import optional_import
from ...errors import ArrayKindError
from .._layer import Layer, Response
from . import _device

_REAL = {np.dtype(np.complex64): "float", np.dtype(np.complex128): "double"}


def compiler_options(kind: Any) -> tuple[str, ...]:
    """Options with which `_device.source` is compiled for a complex dtype."""
    return ("--std=c++17", f"-DREAL={_REAL[np.dtype(kind)]}")


@cache
def _module(kind: np.dtype) -> Any:
    """The kernels for a complex dtype; CuPy compiles them for each device on first use, and keeps them on disk."""
    cupy = optional_import("cupy", "cuda13")
    return cupy.RawModule(code=_device.source(), options=compiler_options(kind))


class CuPyDevice:
    """The current CUDA device and stream of CuPy; see `_device.Device`."""

    def __init__(self, kind: np.dtype) -> None:
        self.xp, self.kind = optional_import("cupy", "cuda13"), kind

    @property
    def processors(self) -> int:
        """Number of multiprocessors."""
        return self.xp.cuda.Device().attributes["MultiProcessorCount"]

    def launch(self, kernel: str, blocks: int, threads: int, args: tuple, shared: int = 0) -> None:
        """See `_device.Device`."""
        if blocks:
            args = tuple(np.int64(a) if isinstance(a, int) else a for a in args)
            _module(self.kind).get_function(kernel)((blocks,), (threads,), args, shared_mem=shared)

    def accumulate(self, a: Array, b: Array, out: Array) -> None:
        """See `_device.Device`."""
        from cupy import cublas

        cublas.gemm("N", "N", a, b, out=out, alpha=1.0, beta=1.0)


def scan(Lambda: Array, inputs: Array, state: Array, *, reverse: bool, look_back: bool = False) -> Array:
    """See `_reference.scan`; keeps `inputs`. Arrays of CuPy, or CUDA arrays of PyTorch or JAX."""
    with _context(inputs):
        Lambda, values, state = (_borrowed(array) for array in (Lambda, inputs, state))
        device = CuPyDevice(values.dtype)
        Lambda, state = (device.xp.ascontiguousarray(array) for array in (Lambda, state))
        states = device.xp.array(values, order="C")
        _device.scan(device, Lambda, states, state, reverse=reverse, look_back=look_back)
        return _returned(states, inputs)


def prepare(layer: Layer, *, look_back: bool = False) -> "Ready":
    """See `_reference.prepare`; arrays of CuPy, or CUDA arrays of PyTorch or JAX."""
    return Ready(layer, look_back=look_back)


class Ready:
    """A layer ready to run on the device of its arrays; `run` takes and gives arrays of the same library."""

    def __init__(self, layer: Layer, *, look_back: bool) -> None:
        with _context(layer.Lambda):
            borrowed = Layer(*(_borrowed(array) for array in layer))
            self.ready = _device.prepare(CuPyDevice(borrowed.Lambda.dtype), borrowed, look_back=look_back)

    def run(
        self, u: Array, state: Array, state_reverse: Array | None, *, strict: bool = False, threads: int | None = None
    ) -> Response:
        """See `Products.run`; `threads` is not used."""
        with _context(u):
            arrays = (_borrowed(array) for array in (u, state, state_reverse))
            return Response(*(_returned(array, u) for array in self.ready.run(*arrays, strict=strict)))


@contextmanager
def _context(array: Array) -> Iterator[None]:
    """The device of the array, and PyTorch's current stream for its tensors; otherwise CuPy's current stream."""
    if is_traced(array):
        raise ArrayKindError("engine 'cupy' cannot be traced by jax.jit or jax.grad; use the default engine there")
    cupy, stream = optional_import("cupy", "cuda13"), nullcontext()
    if array_api_compat.is_torch_array(array):
        if array.device.type != "cuda":
            raise ArrayKindError(f"engine 'cupy' serves arrays on a CUDA device, got one on {array.device}")
        stream = cupy.cuda.Stream.from_external(_TorchStream(sys.modules["torch"].cuda.current_stream(array.device)))
        index = array.device.index
    elif array_api_compat.is_cupy_array(array):
        index = array.device.id
    else:
        device, *others = array.devices()
        if others or device.platform not in ("gpu", "cuda"):
            raise ArrayKindError(f"engine 'cupy' serves arrays on a CUDA device, got one on {[device, *others]}")
        index = device.local_hardware_id
    with cupy.cuda.Device(index), stream:
        yield


class _TorchStream:
    """CUDA stream protocol for PyTorch's streams, of which older ones do not know it."""

    def __init__(self, stream: Any) -> None:
        self.pointer = stream.cuda_stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.pointer


def _borrowed(array: Array | None) -> Array:
    """The same memory as a CuPy array."""
    if array is None or array_api_compat.is_cupy_array(array):
        return array
    if array_api_compat.is_torch_array(array):
        if array.requires_grad:
            raise ArrayKindError("engine 'cupy' is not differentiable; detach the tensors, or use the default engine")
        array = array.resolve_conj()
    return optional_import("cupy", "cuda13").from_dlpack(array)


def _returned(array: Array | None, like: Array) -> Array | None:
    """The same memory as an array of the library of `like`."""
    if array is None or array_api_compat.is_cupy_array(like):
        return array
    return array_api_compat.array_namespace(like).from_dlpack(array)
