"""Tensors that still lie in a file: their sizes are checked before memory is taken, their bytes as they are read."""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

PIECE = 2**20  # bytes that are read at once


@dataclass(frozen=True, eq=False)
class Stored:
    """One array in a file.

    Attributes
    ----------
    dtype : dtype
    shape : tuple of int
    open : callable
        Opens what is read from: its first bytes are the array's.
    to_end : bool
        Whether the array must end where that ends. A member of a zip archive that is read to its end is compared with
        its checksum.
    fortran : bool
        Whether the first axis runs fastest.
    digest : str
        SHA-256 of the array's dtype, shape and bytes (see `digest_of`), or empty.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    open: Callable[[], AbstractContextManager[BinaryIO]]
    to_end: bool = False
    fortran: bool = False
    digest: str = ""

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def fetch(self) -> np.ndarray:
        """The array; `ValueError` where its bytes are not all there, or are not those of its checksum."""
        array = np.empty(self.shape, self.dtype, order="F" if self.fortran else "C")
        self._fill(_pieces(raw_bytes(array)))
        return array

    def holds(self, array: np.ndarray) -> bool:
        """Whether the file has exactly this array; its bytes are compared with it, not with their SHA-256."""
        if (self.dtype, self.shape) != (array.dtype, array.shape):
            return False
        scratch, same = np.empty(PIECE, np.uint8), True

        def compared() -> Iterator[np.ndarray]:
            nonlocal same
            for piece in _pieces(raw_bytes(array.T if self.fortran else array)):
                found = scratch[: piece.size]
                yield found
                same &= _equal(found, piece)

        self._fill(compared(), checked=False)
        return same

    def _fill(self, pieces: Iterator[np.ndarray], *, checked: bool = True) -> None:
        digest = digest_of(self.dtype, self.shape) if self.digest and checked else None
        with self.open() as file:
            for piece in pieces:
                _read_exactly(file, piece.data)
                if digest is not None:
                    digest.update(piece)
            if self.to_end and file.read(1):
                raise ValueError("a member is longer than its array")
        if digest is not None and digest.hexdigest() != self.digest:
            raise ValueError("the bytes of a tensor are not those of its SHA-256: the file was damaged or changed")


@dataclass(frozen=True, eq=False)
class StoredView:
    """A tensor that is a view of a one-dimensional array in a file; strides count entries."""

    storage: Stored
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype:
        """That of the storage."""
        return self.storage.dtype

    def of(self, values: np.ndarray) -> np.ndarray:
        """The view, given the array."""
        bytes_ = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, bytes_)

    def holds(self, array: np.ndarray) -> bool:
        """Whether the file has exactly this array, alone in its storage."""
        whole = self.offset == 0 and self.storage.shape == (array.size,)
        if self.shape != array.shape or not whole or not array.flags.c_contiguous:
            return False
        if array.size and self.strides != tuple(stride // array.itemsize for stride in array.strides):
            return False
        return self.storage.holds(array.reshape(-1))


def digest_of(dtype: np.dtype, shape: tuple[int, ...]) -> Any:
    """SHA-256 that has seen dtype and shape, so that neither can change unnoticed; the bytes come next."""
    return hashlib.sha256(f"{dtype.str if dtype.names is None else dtype.names[0]} {list(shape)} ".encode())


def raw_bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of a contiguous array, without a copy."""
    flat = array.reshape(-1, order="A")
    return flat.view(np.uint8) if flat.dtype.itemsize else np.empty(0, np.uint8)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether bytes are equal, eight at a time."""
    whole = a.size - a.size % 8
    same = np.array_equal(a[:whole].view(np.uint64), b[:whole].view(np.uint64))
    return bool(same and np.array_equal(a[whole:], b[whole:]))


def _pieces(raw: np.ndarray) -> Iterator[np.ndarray]:
    return (raw[start : start + PIECE] for start in range(0, raw.size, PIECE))


def _read_exactly(file: BinaryIO, target: memoryview) -> None:
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"a tensor ends {len(target) - done} bytes early")
        done += count
