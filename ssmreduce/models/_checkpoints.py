"""Checkpoint files to a flat mapping name -> array, and back.

Nothing that a file contains is ever executed: npz without pickles, PyTorch files with ``weights_only=True``. A file is
written whole or not at all.
"""

import errno
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._support.arguments import require_path
from .._support.optional import optional_import
from .._support.trees import FOREIGN, Params, flatten, foreign_dtype, foreign_name, unflatten
from .._support.whole import write_whole
from ..errors import CheckpointFormatError, MissingDependencyError, MissingFileError, UnsafeFileError

_SAFETENSORS_FOREIGN = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_SAFETENSORS_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip
_SUFFIXES = {
    ".npz": "npz", ".safetensors": "safetensors", ".msgpack": "msgpack",
    ".pt": "torch", ".pth": "torch", ".ckpt": "torch", ".bin": "torch",
}  # fmt: skip


def read_file(path: str | os.PathLike) -> tuple[Params, dict[str, str]]:
    """Flat parameters and text metadata of a checkpoint file; the format is told by the content.

    Parameters
    ----------
    path : path
        npz, safetensors, Flax msgpack, or a PyTorch file (state_dict, or a mapping that holds one).

    Returns
    -------
    params : dict
        name -> NumPy array.
    metadata : dict
        Text metadata of a safetensors file, else empty.

    Raises
    ------
    MissingFileError
        No such file, or one that may not be read.
    CheckpointFormatError
        A truncated, corrupted or foreign file.
    UnsafeFileError
        A pickle, or a file that contains pickled objects.
    MissingDependencyError
        msgpack or torch is needed and not installed.
    """
    require_path(path)
    path = Path(path)
    kind = "unknown format"
    try:
        path.open("rb").close()
        kind = _sniff(path)
        return _READERS[kind](path)
    except (UnsafeFileError, CheckpointFormatError, MissingDependencyError, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:  # not the system's word, but a reader's
            raise CheckpointFormatError(f"{str(path)!r} is truncated or corrupted ({kind}): {error}") from error
        what = {errno.ENOENT: "there is no such file", errno.EISDIR: "it is a directory"}.get(error.errno)
        raise MissingFileError(f"cannot read {str(path)!r}: {what or os.strerror(error.errno)}") from error
    except Exception as error:
        raise CheckpointFormatError(f"{str(path)!r} is truncated or corrupted ({kind}): {error}") from error


def _sniff(path: Path) -> str:
    """Format by content; the suffix decides only between formats that look alike."""
    with path.open("rb") as file:
        head = file.read(16)
    if head[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("data.pkl") for name in names):
            return "torch"
        if names and all(name.endswith(".npy") for name in names):
            return "npz"
    elif len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return "safetensors"
    elif head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 1:
        if _SUFFIXES.get(path.suffix.lower()) == "torch":
            return "torch"  # the format of PyTorch before 1.6, which weights_only reads safely
        raise UnsafeFileError(
            f"{str(path)!r} is a pickle, which can run any code when it is read; load it where you trust it and save "
            "the arrays as .npz or .safetensors"
        )
    elif head and (head[0] in range(0x81, 0x90) or head[0] in (0xDE, 0xDF)):
        return "msgpack"
    raise CheckpointFormatError(
        f"{str(path)!r} is not an npz, safetensors, Flax msgpack or PyTorch checkpoint (or it is empty or truncated)"
    )


def _read_npz(path: Path) -> tuple[Params, dict[str, str]]:
    params: Params = {}
    with np.load(path, allow_pickle=False) as archive:
        for name in archive.files:
            try:
                params[name] = archive[name]
            except ValueError as error:
                if "pickle" in str(error):
                    raise UnsafeFileError(f"{name!r} in {str(path)!r} is a pickled object; it is not read") from error
                raise
    return params, {}


def _read_safetensors(path: Path) -> tuple[Params, dict[str, str]]:
    import safetensors

    params: Params = {}
    foreign = []
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata() or {})
        for name in sorted(file.keys()):
            kind = file.get_slice(name).get_dtype()
            if kind in _SAFETENSORS_TYPES:
                params[name] = file.get_tensor(name)
            elif kind in _SAFETENSORS_FOREIGN:
                foreign.append(name)
            else:
                raise CheckpointFormatError(f"{name!r} in {str(path)!r} has the dtype {kind}, which is not read here")
    if foreign:
        raw = dict(safetensors.deserialize(path.read_bytes()))
        for name in foreign:
            dtype = foreign_dtype(_SAFETENSORS_FOREIGN[raw[name]["dtype"]])
            params[name] = np.frombuffer(raw[name]["data"], dtype=dtype).reshape(raw[name]["shape"])
    return params, metadata


def _read_msgpack(path: Path) -> tuple[Params, dict[str, str]]:
    unpack = optional_import("msgpack", "jax").unpackb
    tree = unpack(path.read_bytes(), ext_hook=_decode_flax, raw=False, strict_map_key=False)
    return flatten(tree), {}


def _decode_flax(code: int, data: bytes) -> Any:
    """Extension types of flax.serialization: 1 an array, 2 a complex number, 3 a NumPy scalar."""
    import msgpack

    if code == 2:
        return complex(*msgpack.unpackb(data))
    if code not in (1, 3):
        raise CheckpointFormatError(f"unknown msgpack extension type {code}")
    shape, name, buffer = msgpack.unpackb(data, raw=True)
    name = name.decode()
    dtype = foreign_dtype(name) if name in FOREIGN else np.dtype(name)
    array = np.frombuffer(buffer, dtype=dtype).reshape(shape)
    return array if code == 1 else array[()]


def _read_torch(path: Path) -> tuple[Params, dict[str, str]]:
    torch = optional_import("torch", "torch")
    import pickle

    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise
        raise UnsafeFileError(
            f"{str(path)!r} holds pickled objects beside tensors, which can run any code when they are read; save "
            "model.state_dict() instead"
        ) from error
    return flatten(tree), {}


_READERS: dict[str, Callable[[Path], tuple[Params, dict[str, str]]]] = {
    "npz": _read_npz,
    "safetensors": _read_safetensors,
    "msgpack": _read_msgpack,
    "torch": _read_torch,
}


def write_file(path: str | os.PathLike, params: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write a checkpoint, whole or not at all; the suffix names the format.

    Parameters
    ----------
    path : path
        ``.npz``, ``.safetensors``, ``.msgpack``, or ``.pt``, ``.pth``, ``.ckpt``, ``.bin``.
    params : mapping
        name -> array or other leaf.
    metadata : mapping
        Text metadata; only safetensors files have room for it.

    Raises
    ------
    CheckpointFormatError
        An unknown suffix, or a leaf that the format cannot hold.
    WriteError
        The file could not be written; what stood there before is untouched.
    MissingDependencyError
        msgpack or torch is needed and not installed.
    """
    kind = format_of(path)
    write_whole(path, lambda temporary: _WRITERS[kind](temporary, params, metadata))


def format_of(path: str | os.PathLike) -> str:
    """Format that a file's suffix names; `CheckpointFormatError` where it names none."""
    require_path(path)
    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise CheckpointFormatError(f"cannot tell a format from {path.name!r}; use one of {', '.join(_SUFFIXES)}")
    return kind


def _array(what: str, leaf: Any, kind: str, dtype_kinds: str = "biufc") -> np.ndarray:
    """The array with its rows together, or an error where the format would lose its dtype."""
    if leaf.dtype.kind not in dtype_kinds and foreign_name(leaf.dtype) is None:
        raise CheckpointFormatError(f"{what} has dtype {leaf.dtype}, which a {kind} file cannot hold")
    return np.asarray(leaf, order="C")


def _arrays_only(params: Mapping[str, Any], kind: str, dtype_kinds: str = "biufc") -> dict[str, np.ndarray]:
    arrays = {}
    for name, leaf in params.items():
        if isinstance(leaf, Mapping) and not leaf:
            continue  # an empty branch has nothing to store
        if not isinstance(leaf, np.ndarray | np.generic):
            raise CheckpointFormatError(
                f"{name!r} is a {type(leaf).__name__}, which a {kind} file cannot hold; use .msgpack or .pt"
            )
        arrays[name] = _array(repr(name), leaf, kind, dtype_kinds)
    return arrays


def _write_npz(path: Path, params: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    arrays = _arrays_only(params, "npz", "biufcSUMm")
    if "file" in arrays:
        raise CheckpointFormatError("an npz file cannot hold an array named 'file'; use another format")
    with path.open("xb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _write_safetensors(path: Path, params: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    import safetensors

    arrays = _arrays_only(params, "safetensors")
    names = set(FOREIGN) | {np.dtype(t).name for t in _SAFETENSORS_TYPES.values()}
    specs = {}
    for name, array in arrays.items():
        kind = foreign_name(array.dtype) or array.dtype.name
        if kind not in names:
            raise CheckpointFormatError(f"{name!r} has dtype {array.dtype}, which a safetensors file cannot hold")
        array = arrays[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
        specs[name] = safetensors.TensorSpec(
            dtype=kind, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
    data = safetensors.serialize(specs, metadata=dict(metadata) or None)
    with path.open("xb") as file:
        file.write(data)


def _write_msgpack(path: Path, params: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    msgpack = optional_import("msgpack", "jax")

    def encode(leaf: Any) -> Any:
        if isinstance(leaf, complex):
            return msgpack.ExtType(2, msgpack.packb((leaf.real, leaf.imag)))
        if isinstance(leaf, np.ndarray | np.generic):
            name = foreign_name(leaf.dtype) or leaf.dtype.name
            array = _array("a leaf", leaf, "msgpack")
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            data = msgpack.packb((array.shape, name, array.tobytes()), use_bin_type=True)
            return msgpack.ExtType(1 if isinstance(leaf, np.ndarray) else 3, data)
        raise CheckpointFormatError(f"a {type(leaf).__name__} leaf cannot be stored in a msgpack file")

    data = msgpack.packb(unflatten(params), default=encode, strict_types=True)
    with path.open("xb") as file:
        file.write(data)


def _write_torch(path: Path, params: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    torch = optional_import("torch", "torch")

    def encode(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray | np.generic):
            return leaf
        array = _array("a leaf", leaf, "PyTorch").copy()
        foreign = foreign_name(array.dtype)
        if foreign is None:
            return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        bits = "i2" if FOREIGN[foreign] == "<u2" else "u1"
        return torch.from_numpy(array.view(bits)).view(getattr(torch, foreign))

    buffer = io.BytesIO()  # torch.save hides the cause where the disk is full
    torch.save(unflatten({name: encode(leaf) for name, leaf in params.items()}), buffer)
    with path.open("xb") as file:
        file.write(buffer.getbuffer())


_WRITERS: dict[str, Callable[[Path, Mapping[str, Any], Mapping[str, str]], None]] = {
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "msgpack": _write_msgpack,
    "torch": _write_torch,
}
