"""Checkpoint files to a flat mapping name -> array, and back.

Nothing that a file contains is ever executed. What a file says of its tensors is compared with its size before memory
is taken; the checksums that it has are compared with what was read. A file is written whole or not at all, and read
back before it takes its place.
"""

import collections
import contextlib
import ctypes
import errno
import json
import os
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .._support.arguments import require_path
from .._support.memory import Budget
from .._support.optional import optional_import
from .._support.trees import FOREIGN, Params, flatten, foreign_name, tensor_to_numpy, unflatten
from .._support.whole import is_leftover, write_whole
from ..errors import CheckpointFormatError, MissingFileError, SSMReduceError, UnsafeFileError, WriteError
from . import _msgpack, _npz, _safetensors, _torch
from ._stored import Stored, StoredView

_SUFFIXES = {
    ".npz": "npz", ".safetensors": "safetensors", ".msgpack": "msgpack",
    ".pt": "torch", ".pth": "torch", ".ckpt": "torch", ".bin": "torch",
}  # fmt: skip
_VERSIONS = "torch._metadata"
"""Key of the text metadata: JSON of the ``_metadata`` of the state_dicts of a PyTorch file."""


class Contents(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    params : dict
        name -> NumPy array, or another leaf.
    metadata : dict
        Text metadata (of a PyTorch file, the versions of its modules as JSON).
    checksum : str
        Which checksums the file has of its tensors, all of them verified: ``CRC-32``, ``SHA-256``, or none (empty).
    """

    params: Params
    metadata: dict[str, str]
    checksum: str


def read_file(path: str | os.PathLike, *, max_bytes: int | None = None) -> tuple[Params, dict[str, str]]:
    """Flat parameters and text metadata of a checkpoint file; the format is told by the content.

    Parameters
    ----------
    path : path
        npz, safetensors, Flax msgpack, or a PyTorch file (state_dict, or a mapping that holds one).
    max_bytes : int, optional
        Memory that the tensors may take; by default what the machine has left.

    Returns
    -------
    params : dict
        name -> NumPy array.
    metadata : dict
        Text metadata of a safetensors file, and the versions of the modules in a PyTorch file; else empty.

    Raises
    ------
    MissingFileError
        No such file, or one that may not be read.
    CheckpointFormatError
        A truncated, corrupted or foreign file, or one whose checksums are not those of its tensors.
    UnsafeFileError
        A pickle, or a file that contains pickled objects.
    FileTooLargeError
        Tensors that take more memory than `max_bytes`.
    MissingDependencyError
        torch is needed and not installed.
    """
    return read_contents(path, Budget(max_bytes))[:2]


def read_contents(path: str | os.PathLike, budget: Budget | None = None) -> Contents:
    """See `read_file`; also says which checksums were verified. Several files can share one budget."""
    require_path(path)
    budget = Budget() if budget is None else budget
    with _reading(path):
        kind = _sniff(Path(path))
        with _reading(path, kind):
            return _READERS[kind](Path(path), budget)


@contextlib.contextmanager
def _reading(path: str | os.PathLike, kind: str = "unknown format") -> Any:
    """Turn what goes wrong into our errors."""
    damaged = f"{str(path)!r} is truncated or corrupted ({kind})"
    try:
        yield
    except (SSMReduceError, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:  # not the system's word, but a reader's
            raise CheckpointFormatError(f"{damaged}: {error}") from error
        what = {errno.ENOENT: "there is no such file", errno.EISDIR: "it is a directory"}.get(error.errno)
        raise MissingFileError(f"cannot read {str(path)!r}: {what or os.strerror(error.errno)}") from error
    except RecursionError as error:
        raise CheckpointFormatError(f"{damaged}: it is nested too deeply") from error
    except Exception as error:
        raise CheckpointFormatError(f"{damaged}: {error}") from error


def _sniff(path: Path) -> str:
    """Format by content; the suffix decides only between formats that look alike."""
    if is_leftover(path):
        raise CheckpointFormatError(f"{str(path)!r} is the leftover of a file that was never finished; it is not read")
    try:
        mode = path.stat().st_mode
    except ValueError as error:
        raise MissingFileError(f"cannot read {str(path)!r}: no file can have this name ({error})") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise MissingFileError(f"cannot read {str(path)!r}: it is a pipe or a device, not a regular file")
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


def _read_npz(path: Path, budget: Budget) -> Contents:
    with contextlib.ExitStack() as stack:
        return Contents(_fetched(_npz.index(path, stack), budget, path), {}, "CRC-32")


def _read_safetensors(path: Path, budget: Budget) -> Contents:
    with contextlib.ExitStack() as stack:
        stored, metadata, checked = _safetensors.index(path, stack)
        return Contents(_fetched(stored, budget, path), metadata, "SHA-256" if checked else "")


def _read_msgpack(path: Path, budget: Budget) -> Contents:
    with contextlib.ExitStack() as stack:
        return Contents(_fetched(flatten(_msgpack.index(path, stack)), budget, path), {}, "")


def _read_torch(path: Path, budget: Budget) -> Contents:
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))  # once: another file may take its name
        old = not zipfile.is_zipfile(file)
        tree, plain = ({}, False) if old else _torch.index(file, stack)
        flat = flatten(tree, most=_torch.size_of(file)) if plain else {}
        if not plain or any(_holds_tensors(leaf) for leaf in flat.values()):
            tree = _loaded_by_torch(file, path, budget, old)
            flat = flatten(tree, most=_torch.size_of(file))
        versions = _torch.metadata_of(tree)
        params = _fetched(flat, budget, path)
    return Contents(params, {_VERSIONS: json.dumps(versions)} if versions else {}, "" if old else "CRC-32")


def _holds_tensors(leaf: Any) -> bool:
    """Whether there are tensors in a container that is no level of names, such as a list."""
    items = leaf.values() if isinstance(leaf, Mapping) else leaf if isinstance(leaf, list | tuple | set) else ()
    return any(isinstance(item, StoredView) or _holds_tensors(item) for item in items)


def _loaded_by_torch(file: BinaryIO, path: Path, budget: Budget, old: bool) -> Any:
    torch = optional_import("torch", "torch")
    import pickle

    _torch.check_old(file) if old else _torch.check_members(file)
    budget.take(_torch.size_of(file), path)
    file.seek(0)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise
        raise UnsafeFileError(
            f"{str(path)!r} holds pickled objects beside tensors, which can run any code when they are read; save "
            "model.state_dict() instead"
        ) from error


def _fetched(flat: Mapping[str, Any], budget: Budget, path: Path) -> Params:
    """The leaves in memory, once all of them fit into the budget."""
    for leaf in flat.values():
        budget.take(_size(leaf), path)
    storages: dict[int, np.ndarray] = {}
    return {name: _fetch(leaf, storages) for name, leaf in flat.items()}


def _size(leaf: Any) -> int:
    if isinstance(leaf, list | tuple):
        return sum(map(_size, leaf))
    if isinstance(leaf, StoredView):
        return max(leaf.storage.nbytes, int(np.prod(leaf.shape, dtype=object)) * leaf.dtype.itemsize)
    return leaf.nbytes if isinstance(leaf, Stored) else 0


def _fetch(leaf: Any, storages: dict[int, np.ndarray]) -> Any:
    if isinstance(leaf, Stored):
        return leaf.fetch()
    if isinstance(leaf, _msgpack.Scalar):
        return leaf.stored.fetch()[()]
    if isinstance(leaf, StoredView):  # views of one storage stay views of one array
        if id(leaf.storage) not in storages:
            storages[id(leaf.storage)] = leaf.storage.fetch()
        return leaf.of(storages[id(leaf.storage)])
    if type(leaf) is list:
        return [_fetch(item, storages) for item in leaf]
    if type(leaf) is _torch.Ordered:
        return collections.OrderedDict((key, _fetch(item, storages)) for key, item in leaf.items())
    return {key: _fetch(item, storages) for key, item in leaf.items()} if type(leaf) is dict else leaf


_READERS: dict[str, Callable[[Path, Budget], Contents]] = {
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
    for name in params:
        _check_name(name, kind)
    _write(path, kind, lambda: _WRITERS[kind](params, metadata))


def write_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed npz file under any name, whole or not at all."""
    require_path(path)
    _write(path, "npz", lambda: _write_npz(arrays, {}, compress=True))


def _write(path: str | os.PathLike, kind: str, prepare: Callable[[], "_Writing"]) -> None:
    try:
        write, check = prepare()
        write_whole(path, write, lambda temporary: _read_back(path, temporary, check))
    except (SSMReduceError, OSError, MemoryError):
        raise
    except Exception as error:  # what a library says of a leaf
        if isinstance(error.__context__, KeyboardInterrupt):  # PyTorch's writer puts an error of its own in its place
            raise error.__context__ from None
        raise CheckpointFormatError(f"a {kind} file cannot hold these parameters: {error}") from error


def _check_name(name: Any, kind: str) -> None:
    try:
        if "\0" in name:
            raise ValueError("it holds NUL")
        name.encode()
    except (TypeError, ValueError) as error:
        raise CheckpointFormatError(f"the name {name!r} cannot be written to a {kind} file: {error}") from error


def _read_back(path: str | os.PathLike, temporary: Path, check: Callable[[Path, contextlib.ExitStack], str]) -> None:
    """Raise `WriteError` where the file does not hold what was to be written."""
    try:
        with contextlib.ExitStack() as stack:
            problem = check(temporary, stack)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        problem = str(error)
    if problem:
        raise WriteError(
            f"cannot write {str(path)!r}: what was read back is not what was to be written ({problem}); what stood "
            "there before is untouched"
        )


def _difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What a file lacks, or holds otherwise, in a few words."""
    if names := found.keys() ^ wanted.keys():
        return f"the name {min(names)!r} is {'missing' if min(names) in wanted else 'new'}"
    return next((f"{name!r} differs" for name, leaf in wanted.items() if not _same(found[name], leaf)), "")


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, np.generic) and isinstance(found, _msgpack.Scalar):
        found, wanted = found.stored, np.asarray(wanted)
    if hasattr(wanted, "detach"):
        wanted = tensor_to_numpy(wanted)
    if isinstance(found, Stored | StoredView):
        return isinstance(wanted, np.ndarray) and found.holds(wanted)
    if isinstance(wanted, Mapping):
        pairs = isinstance(found, Mapping) and found.keys() == wanted.keys()
        return pairs and all(_same(found[key], wanted[key]) for key in wanted)
    if isinstance(wanted, list | tuple):
        pairs = isinstance(found, list | tuple) and len(found) == len(wanted)
        return pairs and all(map(_same, found, wanted))
    if isinstance(found, _torch.Opaque):
        return True  # of a kind that PyTorch reads
    return type(found) is type(wanted) and (found == wanted or (found != found and wanted != wanted))


def format_of(path: str | os.PathLike) -> str:
    """Format that a file's suffix names; `CheckpointFormatError` where it names none."""
    require_path(path)
    path = Path(path)
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise CheckpointFormatError(f"cannot tell a format from {path.name!r}; use one of {', '.join(_SUFFIXES)}")
    return kind


def _array(what: str, leaf: Any, kind: str, dtype_kinds: str = "biufc") -> np.ndarray:
    """The array with its rows together and its bytes in the machine's order; an error where its dtype would be lost."""
    if leaf.dtype.kind not in dtype_kinds and foreign_name(leaf.dtype) is None:
        raise CheckpointFormatError(f"{what} has dtype {leaf.dtype}, which a {kind} file cannot hold")
    array = np.asarray(leaf, order="C")
    return array if kind == "npz" else array.astype(array.dtype.newbyteorder("="), copy=False)


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


class _Writing(NamedTuple):
    """Functions that write a file, and that say what is wrong with what was written."""

    write: Callable[[BinaryIO], None]
    check: Callable[[Path, contextlib.ExitStack], str]


def _write_npz(params: Mapping[str, Any], metadata: Mapping[str, str], *, compress: bool = False) -> _Writing:
    arrays = _arrays_only(params, "npz", "biufcSUMm")
    crcs: dict[str, int] = {}
    return _Writing(
        lambda file: crcs.update(_npz.write(file, arrays, compress=compress)),
        lambda path, stack: _difference(_npz.index(path, stack, crcs), arrays),
    )


def _write_safetensors(params: Mapping[str, Any], metadata: Mapping[str, str]) -> _Writing:
    arrays = _arrays_only(params, "safetensors")

    def check(path: Path, stack: contextlib.ExitStack) -> str:
        stored, text, _ = _safetensors.index(path, stack)
        if text != {key: value for key, value in metadata.items() if key != _safetensors.DIGESTS}:
            return "the metadata differ"
        if {name: leaf.digest for name, leaf in stored.items()} != digests:
            return "the checksums differ"
        return _difference(stored, arrays)

    digests: dict[str, str] = {}
    return _Writing(lambda file: digests.update(_safetensors.write(file, arrays, metadata)), check)


def _write_msgpack(params: Mapping[str, Any], metadata: Mapping[str, str]) -> _Writing:
    optional_import("msgpack", "jax")
    tree = _plain(unflatten(params))
    return _Writing(
        lambda file: _msgpack.write(file, tree),
        lambda path, stack: _difference(_msgpack.index(path, stack), tree),
    )


def _plain(leaf: Any) -> Any:
    """A tree whose arrays and scalars are as the file will hold them."""
    if type(leaf) in (dict, list):
        return {key: _plain(item) for key, item in leaf.items()} if type(leaf) is dict else list(map(_plain, leaf))
    array = _array("a leaf", leaf, "msgpack") if _is_array(leaf) else leaf
    return array[()] if isinstance(leaf, np.generic) else array


def _write_torch(params: Mapping[str, Any], metadata: Mapping[str, str]) -> _Writing:
    optional_import("torch", "torch")
    arrays = {name: _array("a leaf", leaf, "PyTorch") if _is_array(leaf) else leaf for name, leaf in params.items()}
    seen: set[int] = set()
    tree = unflatten({name: _tensor(leaf, seen) if _is_array(leaf) else leaf for name, leaf in arrays.items()})
    versions = json.loads(metadata.get(_VERSIONS, "{}"))

    def check(path: Path, stack: contextlib.ExitStack) -> str:
        return _difference(_torch.index(stack.enter_context(path.open("rb")), stack)[0], unflatten(arrays))

    return _Writing(lambda file: _torch.write(file, tree, versions), check)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic)


def _tensor(array: np.ndarray, seen: set[int]) -> Any:
    """Tensor on the same memory, or on a copy where another tensor, perhaps of another dtype, is on it already."""
    torch = optional_import("torch", "torch")
    if array.ctypes.data in seen or array.nbytes == 0:
        array = array.copy()
    seen.add(array.ctypes.data)
    if not array.flags.writeable:  # PyTorch warns, and the tensor is only read
        memory: Any = (ctypes.c_char * array.nbytes).from_address(array.ctypes.data)
        memory._keep = array
        array = np.frombuffer(memory, array.dtype).reshape(array.shape)
    foreign = foreign_name(array.dtype)
    if foreign is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view("i2" if FOREIGN[foreign] == "<u2" else "u1")).view(getattr(torch, foreign))


_WRITERS: dict[str, Callable[[Mapping[str, Any], Mapping[str, str]], _Writing]] = {
    "npz": _write_npz,
    "safetensors": _write_safetensors,
    "msgpack": _write_msgpack,
    "torch": _write_torch,
}
