"""Arrays that begin with a cache line, and memory that a thread keeps."""

import math
import threading

import numpy as np

LINE = 64  # bytes of a cache line
_PAGE = 2**21  # bytes of a large page, for which NumPy asks from twice as many on
_STREAM_BYTES = 2**22  # outputs of this size would only drive other things out of the caches
_OWN = threading.local()


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Uninitialised array that begins with a cache line."""
    return _view(np.empty(_bytes(shape, dtype), np.uint8), shape, dtype)


def aligned_copy(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Copy, in C order, that begins with a cache line."""
    copy = aligned_empty(values.shape, dtype)
    copy[...] = values
    return copy


def begin_of(array: np.ndarray) -> int:
    """Where the numbers of an array begin; they stay there as long as the array."""
    return array.__array_interface__["data"][0]


def own_memory(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The same in memory that the thread keeps, until its next call: the system takes long to hand out fresh pages.

    It begins with a large page where the system has them: small ones may share sets of the second-level cache.
    """
    size = _bytes(shape, dtype)
    if getattr(_OWN, "bytes", np.empty(0)).size < size:
        fresh = np.empty(max(size, _PAGE) + _PAGE, np.uint8)
        _OWN.bytes = fresh[-begin_of(fresh) % _PAGE :]
    return _view(_OWN.bytes, shape, dtype)


def past_caches(y: np.ndarray, columns: int, vector: int) -> bool:
    """Whether outputs go straight to memory: they are many, and vectors of so many bytes are whole cache lines.

    `columns` is how many neighbouring numbers are written by one system.
    """
    return vector == LINE and columns * y.itemsize % LINE == 0 and y.nbytes >= _STREAM_BYTES


def _bytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    return math.prod(shape) * dtype.itemsize + LINE


def _view(memory: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Array at the first cache line of some bytes."""
    start = -begin_of(memory) % LINE
    return memory[start : start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
