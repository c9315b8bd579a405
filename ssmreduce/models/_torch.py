"""PyTorch files: what their pickle says is looked at, and compared with what is in the file, before PyTorch reads it.

The pickle is interpreted with every class and function replaced by an inert stand-in, so nothing in it runs. A file of
plain tensors is then read here, one tensor at a time, each compared with its CRC-32; any other goes to ``torch.load``
with ``weights_only=True``, once its members have been compared.
"""

import collections
import contextlib
import functools
import json
import math
import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar

import numpy as np

from .._support.optional import optional_import
from .._support.trees import FOREIGN, foreign_dtype
from ..errors import UnsafeFileError
from ._stored import Stored, StoredView
from ._zip import check_to_the_end, member, members

_STORAGES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2", "Char": "i1",
    "Byte": "u1", "Bool": "?", "ComplexFloat": "c8", "ComplexDouble": "c16", "BFloat16": "bfloat16",
}  # fmt: skip
_DTYPES = {
    "float32": "f4", "float64": "f8", "float16": "f2", "int64": "i8", "int32": "i4", "int16": "i2", "int8": "i1",
    "uint8": "u1", "uint16": "u2", "uint32": "u4", "uint64": "u8", "bool": "?", "complex64": "c8",
    "complex128": "c16", **{name: name for name in FOREIGN},
}  # fmt: skip
_MAGIC = 0x1950A86A20F9469CFC6C  # of files before 1.6
_REFUSED = [
    code[0]
    for code in (
        pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID,
        pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.FROZENSET,
    )
]  # fmt: skip
_REBUILD = ("_rebuild_tensor_v2", "_rebuild_tensor_v3")


class Opaque:
    """Stands for an object that is not looked into."""

    def __call__(self, *args: Any, **kwargs: Any) -> "Opaque":
        return Opaque()

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, value: Any) -> None:
        """Nothing."""

    extend = add = update = append


class Ordered(dict):
    """An OrderedDict of the pickle, with the attributes that it was given: of a state_dict, ``_metadata``."""

    _metadata: Any = None


class _Global(Opaque):
    """A class or function that the pickle names."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class _Storage:
    def __init__(self, stored: Stored | None, dtype: np.dtype | None) -> None:
        self.stored, self.dtype = stored, dtype


_Unpickler: Any = pickle._Unpickler  # the one in C cannot be told what a REDUCE means


class _Bounded:
    """A file that is asked for no more bytes than it can have: Python makes room for all of them first."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.readline = file, size, file.readline

    def read(self, count: int) -> bytes:
        if count > self.size:
            raise EOFError("it ends within a value")
        return self.file.read(count)

    def readinto(self, target: Any) -> int:
        target[:] = self.read(len(target))
        return len(target)


class _Looking(_Unpickler):
    """Interprets a pickle without making or calling anything that it names."""

    def __init__(self, file: BinaryIO, archive: zipfile.ZipFile | None, sizes: Mapping[str, Any], largest: int) -> None:
        super().__init__(_Bounded(file, largest), encoding="utf-8")
        self.archive, self.sizes, self.largest, self.opaque = archive, sizes, largest, False
        self.storages: dict[tuple[str, str], _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _Global(module, name)

    def persistent_load(self, saved: Any) -> _Storage:
        """A storage: ("storage", its type, its key, where it was, its entries, ...)."""
        if not (isinstance(saved, tuple) and len(saved) >= 5 and saved[0] == "storage"):
            raise pickle.UnpicklingError("a storage is described in a way that PyTorch does not have")
        kind, key, count = saved[1], saved[2], saved[4]
        if type(count) is not int or count < 0 or not isinstance(kind, _Global) or not isinstance(key, str):
            raise pickle.UnpicklingError("a storage is described in a way that PyTorch does not have")
        name = kind.name.removesuffix("Storage")
        text = "u1" if name == "Untyped" else _STORAGES.get(name)
        if (key, name) not in self.storages:
            self.storages[key, name] = self._storage(key, None if text is None else _dtype(text), count)
        return self.storages[key, name]

    def _storage(self, key: str, dtype: np.dtype | None, count: int) -> _Storage:
        size = count * (1 if dtype is None else dtype.itemsize)
        if self.archive is None:
            self.largest -= size
            if self.largest < 0:
                raise EOFError("its tensors are larger than the file")
            return _Storage(None, dtype)
        info = self.sizes[f"data/{key}"]
        if size > info.file_size or (dtype is not None and size != info.file_size):
            raise EOFError(f"a storage has {info.file_size} bytes, not {size}")
        if dtype is None:
            return _Storage(None, None)
        return _Storage(Stored(dtype, (count,), functools.partial(member, self.archive, info), to_end=True), dtype)

    def called(self, function: Any, args: Any) -> Any:
        """What a call in the pickle returns."""
        if not isinstance(function, _Global):
            self.opaque = True
            return Opaque()
        place = (function.module, function.name)
        if place == ("collections", "OrderedDict") and not args:
            return Ordered()
        if place[0] == "torch._utils" and place[1] in _REBUILD:
            return self._tensor(place[1], *args)
        if place == ("torch._utils", "_rebuild_parameter"):
            return args[0]
        if any(type(arg) is int and abs(arg) > self.largest for arg in args) and place[0] != "torch._utils":
            raise EOFError("it asks for more memory than the file can fill")  # bytearray(10**12), torch.Tensor(10**12)
        self.opaque = True
        return Opaque()

    def _tensor(self, name: str, storage: Any, offset: Any, shape: Any, strides: Any, *rest: Any) -> Any:
        _, _, *more = rest
        numbers = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"a tensor has the shape {shape!r} and the strides {strides!r}")
        stored = storage.stored
        if name == "_rebuild_tensor_v3" and stored is not None:
            text = _DTYPES.get(more.pop(0).name)
            stored = None if text is None else _cast(stored, _dtype(text))
        if stored is None or any(more):  # quantised, conjugated, ...
            self.opaque = True
            return Opaque()
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if math.prod(shape) and last >= stored.shape[0]:
            raise EOFError("a tensor reaches beyond its storage")
        return StoredView(stored, offset, tuple(shape), tuple(strides))

    # ------------------------------------------------------------ opcodes that make objects

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.called(self.stack[-1], args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.called(self.stack[-1], args)

    def load_build(self) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Ordered) and isinstance(state, dict):
            self.stack[-1]._metadata = state.get("_metadata")
        else:
            self.opaque = True

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_plain(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_plain(key)] = value

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({_plain(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def load_additems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(map(_plain, items))

    def load_refused(self) -> None:
        raise UnsafeFileError("it is a pickle with instructions that no PyTorch file has")

    dispatch: ClassVar = {
        **_Unpickler.dispatch,
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        **dict.fromkeys(_REFUSED, load_refused),
    }


def _plain(key: Any) -> Any:
    """A key; one of tuples within tuples is refused, since its hash can take for ever."""
    parts = key if isinstance(key, tuple) else (key,)
    if len(parts) > 100 or not all(isinstance(part, str | int | float | bytes | Opaque | None) for part in parts):
        raise UnsafeFileError("it is a pickle with keys that no PyTorch file has")
    return key


def _dtype(text: str) -> np.dtype:
    return foreign_dtype(text) if text in FOREIGN else np.dtype(text).newbyteorder("<")


def _cast(stored: Stored, dtype: np.dtype) -> Stored | None:
    """The same bytes as entries of another dtype."""
    if stored.nbytes % dtype.itemsize:
        return None
    return Stored(dtype, (stored.nbytes // dtype.itemsize,), stored.open, to_end=True)


def index(file: BinaryIO, stack: contextlib.ExitStack) -> tuple[Any, bool]:
    """What an open file holds, with `StoredView` tensors as leaves, and whether that is all that it holds."""
    archive = stack.enter_context(zipfile.ZipFile(file))
    infos = members(archive, compressed=False)
    start = next(name for name in infos if name.endswith("data.pkl")).removesuffix("data.pkl")
    own = {name.removeprefix(start): info for name, info in infos.items() if name.startswith(start)}
    order = archive.read(own["byteorder"]) if "byteorder" in own else b"little"
    with archive.open(own["data.pkl"]) as pickled:
        looking = _Looking(pickled, archive, own, size_of(file))  # type: ignore[arg-type]
        tree, opaque = looking.load(), looking.opaque
        while pickled.read(2**16):  # what is behind the pickle belongs to its checksum
            pass
    if opaque and (weights := _lightning_weights(tree)) is not None:
        tree, opaque = weights, False
    return tree, not opaque and order.decode() == sys.byteorder


def _lightning_weights(tree: Any) -> dict[str, Any] | None:
    """The weights of a checkpoint of PyTorch Lightning, without the configurations, callbacks and loops beside them."""
    if not (isinstance(tree, dict) and "pytorch-lightning_version" in tree):
        return None
    state = tree.get("state_dict")
    if not (isinstance(state, dict) and state and all(isinstance(leaf, StoredView) for leaf in state.values())):
        return None
    return {"state_dict": state}


def size_of(file: BinaryIO) -> int:
    """Size of an open file; its name may be another file's by now."""
    return os.fstat(file.fileno()).st_size


def check_members(file: BinaryIO) -> None:
    """Compare all members of an archive with their checksums, which PyTorch does not look at."""
    with zipfile.ZipFile(file) as archive:
        check_to_the_end(archive, archive.infolist())


def check_old(file: BinaryIO) -> None:
    """Look at a file of PyTorch before 1.6, as far as it is one: a number, two headers, the pickle, the storages."""
    size = size_of(file)
    file.seek(0)
    if _Looking(file, None, {}, size).load() == _MAGIC:
        for _ in range(3):
            _Looking(file, None, {}, size).load()


def write(file: BinaryIO, tree: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write a nested mapping of tensors and other leaves; `metadata` are the ``_metadata`` of state_dicts in it."""
    torch = optional_import("torch", "torch")
    whole = _with_metadata(tree, metadata)
    sink = _Sink(file)
    try:
        torch.save(whole, sink)
    except Exception:
        if sink.failed is not None:  # torch.save hides the cause where the disk is full
            raise sink.failed from None
        raise


class _Sink:
    """A file that remembers why it could not be written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.failed = file, None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.failed = self.failed or error  # type: ignore[assignment]
            raise

    def flush(self) -> None:
        self.file.flush()


def _with_metadata(tree: Mapping[str, Any], metadata: Mapping[str, Any], path: str = "") -> Mapping[str, Any]:
    own = {
        key: _with_metadata(value, metadata, f"{path}{key}/") if type(value) is dict else value
        for key, value in tree.items()
    }
    if path not in metadata:
        return own
    state: Any = collections.OrderedDict(own)
    state._metadata = collections.OrderedDict(metadata[path])
    return state


def metadata_of(tree: Any, path: str = "") -> dict[str, Any]:
    """Path of each state_dict in a tree -> its ``_metadata`` (versions of its modules), as far as JSON can hold it."""
    found = {}
    if isinstance(versions := vars(tree).get("_metadata") if hasattr(tree, "__dict__") else None, Mapping):
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            found[path] = json.loads(json.dumps(versions))
    for key, value in tree.items():
        if isinstance(value, Mapping) and all(isinstance(inner, str) and "/" not in inner for inner in value):
            found.update(metadata_of(value, f"{path}{key}/"))
    return found
