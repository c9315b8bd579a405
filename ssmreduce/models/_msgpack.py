"""Flax msgpack: nested maps, and arrays as an extension type; read and written one array at a time.

Read and written here rather than by the package msgpack, which holds a file in memory, and each array twice. The format
has no place for a checksum.
"""

import contextlib
import functools
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._support.optional import optional_import
from .._support.trees import FOREIGN, foreign_dtype, foreign_name
from ..errors import CheckpointFormatError
from ._stored import PIECE, Stored, raw_bytes

_ARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # extension types of flax.serialization
_DEEPEST = 200
_MOST_VALUES = 5_000_000  # beside arrays
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4,
            0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}  # fmt: skip


class Scalar:
    """A NumPy scalar in a file."""

    def __init__(self, stored: Stored) -> None:
        self.stored = stored


def index(path: Path, stack: contextlib.ExitStack) -> Any:
    """The nested mapping of a file, with `Stored` arrays as leaves; `stack` keeps the file open."""
    file = stack.enter_context(path.open("rb"))
    reader = _Reader(file, os.fstat(file.fileno()).st_size)  # of this very file: another may take its name
    tree = reader.value(0)
    if file.tell() != reader.size:
        raise ValueError("there are bytes behind its end")
    return tree


class _Reader:
    """Values of a file, whose sizes are compared with what is left of it before anything is made of them."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.values = file, size, 0

    def value(self, depth: int) -> Any:
        self.values += 1
        if depth > _DEEPEST or self.values > _MOST_VALUES:
            raise ValueError("it is nested too deeply" if depth > _DEEPEST else "it holds too many values")
        first = self.bytes(1)[0]
        if first <= 0x7F or first >= 0xE0:
            return first if first <= 0x7F else first - 256
        if first <= 0x8F:
            return self.map(first & 0x0F, depth)
        if first <= 0x9F:
            return self.list(first & 0x0F, depth)
        if first <= 0xBF:
            return self.bytes(first & 0x1F).decode()
        if first in _CONSTANTS:
            return _CONSTANTS[first]
        if first in _NUMBERS:
            return struct.unpack(_NUMBERS[first], self.bytes(struct.calcsize(_NUMBERS[first])))[0]
        if 0xD4 <= first <= 0xD8:
            return self.extension(1 << (first - 0xD4))
        if first not in _LENGTHS:
            raise ValueError(f"the byte {first:#x} begins no value")
        return self.sized(first, int.from_bytes(self.bytes(_LENGTHS[first]), "big"), depth)

    def sized(self, first: int, length: int, depth: int) -> Any:
        if first <= 0xC6:
            return self.bytes(length)
        if first <= 0xC9:
            return self.extension(length)
        if first <= 0xDB:
            return self.bytes(length).decode()
        return self.list(length, depth) if first <= 0xDD else self.map(length, depth)

    def bytes(self, count: int) -> bytes:
        data = self.file.read(count) if count <= self.size else b""
        if len(data) < count:
            raise EOFError("it ends within a value")
        return data

    def list(self, count: int, depth: int) -> list:
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> dict:
        found = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if key in found:
                raise ValueError(f"the name {key!r} stands twice")
            found[key] = self.value(depth + 1)
        return found

    def extension(self, length: int) -> Any:
        code = int.from_bytes(self.bytes(1), "big", signed=True)
        end = self.file.tell() + length
        if end > self.size:
            raise EOFError("it ends within an array")
        if code == _COMPLEX:
            real, imag = self.value(0)
            found: Any = complex(real, imag)
        elif code in (_ARRAY, _SCALAR):
            stored = self.array(end)
            found = stored if code == _ARRAY else Scalar(stored)
        else:
            raise CheckpointFormatError(f"unknown msgpack extension type {code}")
        if self.file.tell() != end:
            raise ValueError("an array is longer or shorter than it says")
        return found

    def array(self, end: int) -> Stored:
        """Shape, name of the dtype, and where the bytes begin; goes behind them."""
        if self.bytes(1) != b"\x93":
            raise ValueError("an array lacks its shape, its dtype or its bytes")
        shape, name = self.value(0), self.value(0)
        first = self.bytes(1)[0]
        if first not in (0xC4, 0xC5, 0xC6):
            raise ValueError("an array has no bytes")
        length, place = int.from_bytes(self.bytes(_LENGTHS[first]), "big"), self.file.tell()
        if not (isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)):
            raise ValueError(f"an array has the shape {shape!r}")
        stored = Stored(_dtype(name), tuple(shape), functools.partial(_opened, self.file, place))
        if stored.nbytes != length or place + length > end:
            raise ValueError(f"an array has {length} bytes, not the {stored.nbytes} of its shape")
        self.file.seek(place + length)
        return stored


def _dtype(name: Any) -> np.dtype:
    name = name.decode() if isinstance(name, bytes) else name
    if not isinstance(name, str) or not re.fullmatch(r"[a-z]+[a-z0-9_]{0,20}", name):
        raise ValueError(f"an array has the dtype {name!r}")
    dtype = foreign_dtype(name) if name in FOREIGN else np.dtype(name)
    if dtype.kind not in "biufc" and name not in FOREIGN:
        raise ValueError(f"an array has the dtype {name!r}")
    return dtype


@contextlib.contextmanager
def _opened(file: BinaryIO, place: int) -> Any:
    file.seek(place)
    yield file


def write(file: BinaryIO, tree: Mapping[str, Any]) -> None:
    """Write a nested mapping of arrays with their rows together, and other leaves."""
    packer = optional_import("msgpack", "jax").Packer(strict_types=True)
    _write_value(file, tree, packer)


def _write_value(file: BinaryIO, value: Any, packer: Any) -> None:
    if type(value) is dict:
        file.write(packer.pack_map_header(len(value)))
        for key, item in value.items():
            file.write(packer.pack(key))
            _write_value(file, item, packer)
    elif type(value) is list:
        file.write(packer.pack_array_header(len(value)))
        for item in value:
            _write_value(file, item, packer)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        name = foreign_name(array.dtype) or array.dtype.name
        head = _head(packer, array, name)
        code = _ARRAY if isinstance(value, np.ndarray) else _SCALAR
        file.write(_extension_header(code, len(head) + array.nbytes) + head)
        raw = raw_bytes(array)
        for start in range(0, raw.size, PIECE):
            file.write(raw[start : start + PIECE].data)
    elif type(value) is complex:
        data = packer.pack([value.real, value.imag])
        file.write(_extension_header(_COMPLEX, len(data)) + data)
    elif value is None or type(value) in (bool, int, float, str, bytes):
        file.write(packer.pack(value))
    else:
        raise CheckpointFormatError(f"a {type(value).__name__} leaf cannot be stored in a msgpack file")


def _head(packer: Any, array: np.ndarray, name: str) -> bytes:
    """What stands before the bytes of an array."""
    size = array.nbytes
    width = 1 if size < 2**8 else 2 if size < 2**16 else 4
    if size >= 2**32:
        raise CheckpointFormatError(f"a msgpack file cannot hold an array of {size:,} bytes")
    mark = bytes([{1: 0xC4, 2: 0xC5, 4: 0xC6}[width]])
    return b"\x93" + packer.pack(list(array.shape)) + packer.pack(name) + mark + size.to_bytes(width, "big")


def _extension_header(code: int, length: int) -> bytes:
    if length in (1, 2, 4, 8, 16):
        return bytes([0xD4 + length.bit_length() - 1, code])
    width = 1 if length < 2**8 else 2 if length < 2**16 else 4
    return bytes([{1: 0xC7, 2: 0xC8, 4: 0xC9}[width]]) + length.to_bytes(width, "big") + bytes([code])
