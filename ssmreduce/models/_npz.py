"""npz: a zip archive of arrays, each with a header of one line; no pickles."""

import ast
import contextlib
import functools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import CheckpointFormatError, UnsafeFileError
from ._stored import PIECE, Stored, raw_bytes
from ._zip import member, members, raw_member

_LONGEST_HEADER = 2**16
_LONGEST_NAME = 2**16 - 1 - len(".npy")


def index(path: Path, stack: contextlib.ExitStack, crcs: Mapping[str, int] | None = None) -> dict[str, Stored]:
    """Name -> array in the archive; `stack` keeps the file open.

    Given the CRC-32 of each, as `write` returns them, those of the archive are compared with them, and bytes are read
    without being compared with their CRC-32 again, where they are not compressed.
    """
    archive = stack.enter_context(zipfile.ZipFile(path))
    found = {}
    for name, info in members(archive, compressed=True).items():
        if not name.endswith(".npy"):
            raise CheckpointFormatError(f"{str(path)!r} has a member {name!r}, which is no array")
        key = name.removesuffix(".npy")
        if crcs is not None and crcs.get(key) != info.CRC:
            raise ValueError(f"the CRC-32 of {key!r} is not that of what was written")
        found[key] = _stored(archive, info, path, raw=crcs is not None and info.compress_type == zipfile.ZIP_STORED)
    return found


def _stored(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, *, raw: bool) -> Stored:
    with archive.open(info) as file:
        header, length = _header(file)  # type: ignore[arg-type]
    dtype, shape = np.lib.format.descr_to_dtype(header["descr"]), header["shape"]
    if dtype.hasobject:
        raise UnsafeFileError(f"{info.filename!r} in {str(path)!r} is a pickled object; it is not read")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{info.filename!r} has the shape {shape!r}")
    stored = Stored(
        dtype,
        tuple(shape),
        functools.partial(raw_member if raw else member, archive, info, length),
        to_end=not raw,
        fortran=bool(header["fortran_order"]) and len(shape) > 1,
    )
    if stored.nbytes != info.file_size - length:
        raise ValueError(f"{info.filename!r} has {info.file_size - length} bytes, not the {stored.nbytes} of its shape")
    return stored


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """The header of an array, and where its bytes begin."""
    start = file.read(8)
    if start[:6] != b"\x93NUMPY" or start[6:] not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise ValueError("a member is not an array that NumPy wrote")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > _LONGEST_HEADER:
        raise ValueError("the header of an array is too long")
    text = file.read(length)
    if len(text) < length:
        raise EOFError("the header of an array is cut off")
    try:
        header = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1").strip())
        if header.keys() != {"descr", "fortran_order", "shape"}:
            raise ValueError("its keys are others")
    except Exception as error:  # text that no array has, brackets without end
        raise ValueError("the header of an array cannot be read") from error
    except MemoryError as error:  # the parser says so of many brackets
        raise ValueError("the header of an array cannot be read") from error
    return header, 8 + width + length


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray], *, compress: bool = False) -> dict[str, int]:
    """Write arrays of plain dtypes whose rows lie together; the CRC-32 of each."""
    for name in arrays:
        if len(name.encode()) > _LONGEST_NAME:
            raise CheckpointFormatError(f"an npz file cannot hold a name of {len(name)} characters")
        if name.endswith(".npy") and name.removesuffix(".npy") in arrays:
            raise CheckpointFormatError(
                f"an npz file cannot hold {name!r} beside {name.removesuffix('.npy')!r}: NumPy would mix them up"
            )
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # the same date in every file
            info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=True) as entry:
                np.lib.format.write_array_header_1_0(entry, np.lib.format.header_data_from_array_1_0(array))
                raw = raw_bytes(array)
                for start in range(0, raw.size, PIECE):
                    entry.write(raw[start : start + PIECE].data)
    return {info.filename.removesuffix(".npy"): info.CRC for info in archive.infolist()}
