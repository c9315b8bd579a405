"""safetensors: a JSON header and the tensors; a SHA-256 of each in the metadata, which other readers ignore."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._support.trees import foreign_dtype
from ..errors import CheckpointFormatError
from ._stored import PIECE, Stored, digest_of, raw_bytes

DIGESTS = "ssmreduce.sha256"
"""Key of the metadata: JSON of name -> SHA-256, and one of the rest of the metadata under the name ``""``."""

_LONGEST_HEADER = 100_000_000  # as in the reference implementation
_FOREIGN = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip
_DTYPES = {
    **{kind: np.dtype(text) for kind, text in _TYPES.items()},
    **{kind: foreign_dtype(name) for kind, name in _FOREIGN.items()},
}
_KINDS = {dtype: kind for kind, dtype in _DTYPES.items()}


def index(path: Path, stack: contextlib.ExitStack) -> tuple[dict[str, Stored], dict[str, str], bool]:
    """Name -> tensor in the file, its text metadata, and whether every tensor has a checksum; `stack` keeps it open."""
    file = stack.enter_context(path.open("rb"))
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, _LONGEST_HEADER):
        raise ValueError("the header is longer than the file")
    header = json.loads(file.read(length), object_pairs_hook=_unique)
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not text")
    digests = _digests(metadata, header) if DIGESTS in metadata else {}
    found, ends = {}, []
    for name in sorted(header):
        stored, start, stop = _stored(file, name, header[name], 8 + length, digests.get(name, ""), path)
        ends.append((start, stop))
        found[name] = stored
    _check_layout(sorted(ends), size - 8 - length)
    return found, metadata, bool(digests)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in the header")
    return found


def _stored(
    file: BinaryIO, name: str, entry: Mapping[str, Any], base: int, digest: str, path: Path
) -> tuple[Stored, int, int]:
    kind, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if kind not in _DTYPES:
        raise CheckpointFormatError(f"{name!r} in {str(path)!r} has the dtype {kind}, which is not read here")
    if not all(type(number) is int and number >= 0 for number in (start, stop, *shape)):
        raise ValueError(f"{name!r} has a shape or place that is none")
    stored = Stored(_DTYPES[kind], tuple(shape), functools.partial(_opened, file, base + start), digest=digest)
    if stored.nbytes != stop - start:
        raise ValueError(f"{name!r} has {stop - start} bytes, not the {stored.nbytes} of its shape")
    return stored, start, stop


@contextlib.contextmanager
def _opened(file: BinaryIO, place: int) -> Any:
    file.seek(place)
    yield file


def _check_layout(places: list[tuple[int, int]], size: int) -> None:
    """Tensors fill the file without holes and overlaps."""
    at = 0
    for start, stop in places:
        if start != at:
            raise ValueError("its tensors overlap or leave holes")
        at = stop
    if at != size:
        raise ValueError(f"it has {size} bytes of tensors, not the {at} of its header")


def _digests(metadata: dict[str, str], header: Mapping[str, Any]) -> dict[str, str]:
    """Name -> SHA-256, taken out of the metadata; an error where it is not that of the rest of them."""
    digests = json.loads(metadata.pop(DIGESTS))
    if digests.pop("", None) != _digest_of_text(metadata) or digests.keys() != header.keys():
        raise ValueError("its names or metadata are not those of its SHA-256: the file was damaged or changed")
    return digests


def _digest_of_text(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest()


def write(file: BinaryIO, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> dict[str, str]:
    """Write tensors, one after another, and then the header into the space left for it; the SHA-256 of each."""
    for name, array in arrays.items():
        if array.dtype not in _KINDS:
            raise CheckpointFormatError(f"{name!r} has dtype {array.dtype}, which a safetensors file cannot hold")
    if "__metadata__" in arrays:
        raise CheckpointFormatError("a safetensors file cannot hold a tensor named '__metadata__'; use another format")
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))  # so that each is aligned
    metadata = {key: text for key, text in metadata.items() if key != DIGESTS}
    digests = {"": _digest_of_text(metadata), **dict.fromkeys(names, "0" * 64)}
    space = len(_header(arrays, names, metadata, digests))
    file.seek(space)
    for name in names:
        digest, raw = digest_of(arrays[name].dtype, arrays[name].shape), raw_bytes(arrays[name])
        for start in range(0, raw.size, PIECE):
            file.write(raw[start : start + PIECE].data)
            digest.update(raw[start : start + PIECE])
        digests[name] = digest.hexdigest()
    file.seek(0)
    file.write(_header(arrays, names, metadata, digests))
    return {name: digests[name] for name in names}


def _header(
    arrays: Mapping[str, np.ndarray], names: list[str], metadata: Mapping[str, str], digests: Mapping[str, str]
) -> bytes:
    header: dict[str, Any] = {"__metadata__": {**metadata, DIGESTS: json.dumps(digests)}}
    at = 0
    for name in names:
        array = arrays[name]
        header[name] = {"dtype": _KINDS[array.dtype], "shape": array.shape, "data_offsets": (at, at + array.nbytes)}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
