"""Functions that Numba compiles on first use and keeps on disk; without a place to keep them, for this process only."""

import contextlib
import sys
import types
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba

from ..errors import CacheWarning


def compiled(function: Callable | None = None, *, key: str = "", **options: Any) -> Any:
    """Decorator: ``numba.njit`` that releases the interpreter lock, with a cache on disk where there is room.

    Code on disk is found by the function's name, its file's time and size, and `key`: what else the code is made of.
    """
    if function is None:
        return lambda function: compiled(function, key=key, **options)
    if key:
        function.__qualname__ += f"_{key}"
    try:
        dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
    except (RuntimeError, OSError):  # no directory that can be written to
        _say_once()
        return numba.njit(nogil=True, **options)(function)
    dispatcher._cache = _Forgiving(dispatcher._cache)
    return dispatcher


@cache
def _say_compiling() -> None:
    """Tell who sits at a terminal, once, why a first call takes seconds."""
    if sys.stderr is not None and sys.stderr.isatty():
        text = "compiling loops for this processor, which takes a few seconds to half a minute; they are kept for later"
        print(f"ssmreduce: {text}", file=sys.stderr, flush=True)


def inlined(function: Callable) -> Any:
    """Decorator: a part of compiled functions, compiled within each of them: much sooner than on its own."""
    return numba.njit(nogil=True, inline="always")(function)


def key_of(files: Iterable[Path]) -> str:
    """A key for `compiled` that changes with the text of some files."""
    return sha256(b"\0".join(file.read_bytes() for file in sorted(files))).hexdigest()[:12]


@cache
def _say_once() -> None:
    warnings.warn(
        "compiled functions cannot be kept on disk, and are compiled anew in each process; set the environment "
        "variable NUMBA_CACHE_DIR to a directory with room that can be written to",
        CacheWarning,
        stacklevel=2,
    )


def interpreted(function: Any, instead: Mapping[str, Callable] | None = None) -> Callable:
    """A compiled function as plain Python, with all compiled functions that it calls: slower, but there at once.

    Parameters
    ----------
    function : compiled function
    instead : dict, optional
        Name of a function that is called, in any module -> the function that is called in its place.
    """
    others, worlds = instead or {}, {}

    def plain(function: Any) -> Callable:
        function = getattr(function, "py_func", function)
        return types.FunctionType(function.__code__, world(function.__globals__), function.__name__)

    def world(names: dict[str, Any]) -> dict[str, Any]:
        """The names that a module's functions see."""
        module = names["__name__"]
        if module not in worlds:
            worlds[module] = seen = dict(names)
            for name, value in names.items():
                if hasattr(value, "py_func"):
                    seen[name] = plain(others.get(name, value))
                elif getattr(value, "__globals__", None) is names:  # a plain function beside them
                    seen[name] = plain(value)
        return worlds[module]

    return plain(function)


class Deferred:
    """A compiled function that runs as plain Python until it has as much to do as compiling it costs.

    Parameters
    ----------
    function : compiled function
    worth : int
        Work, in any unit, that is worth compiling it.
    instead : dict
        See `interpreted`.
    """

    def __init__(self, function: Any, worth: int, instead: Mapping[str, Callable]) -> None:
        self.function, self.left = function, worth
        self.plain, self.ready = interpreted(function, instead), False

    def chosen(self, arguments: tuple, work: int) -> Callable:
        """The function in the form that is to run with arguments of these types: compiled if it is on disk."""
        self.ready = self.ready or _is_kept(self.function, arguments)
        if not self.ready and self.left > work:
            self.left -= work
            return self.plain
        return self.function


def _is_kept(function: Any, arguments: tuple) -> bool:
    """Whether there is compiled code for arguments of these types, in this process or on disk; loads it."""
    kinds = tuple(numba.typeof(argument) for argument in arguments)
    if kinds in function.signatures or not isinstance(function._cache, _Forgiving):
        return kinds in function.signatures
    token = _ONLY_KEPT.set(True)
    try:
        function.compile(kinds)
    except _NotKeptError:
        return False
    finally:
        _ONLY_KEPT.reset(token)
    return True


_ONLY_KEPT: ContextVar[bool] = ContextVar("only what is on disk, nothing compiled", default=False)


class _NotKeptError(Exception):
    """No compiled code is on disk."""


class _Forgiving:
    """A cache whose damaged, mixed-up or unwritable files are taken for missing ones: the function is compiled.

    Processes that compile at once can number their files alike, so that one finds code for other types than it wants.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Compiled code for a signature, or None."""
        with contextlib.suppress(Exception):  # truncated, empty, of another machine
            found = self._cache.load_overload(sig, target_context)
            wanted = getattr(sig, "args", sig)
            if found is not None and tuple(found.signature.args) == tuple(wanted):
                return found
        if _ONLY_KEPT.get():
            raise _NotKeptError
        _say_compiling()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code where that is possible."""
        try:
            self._save(sig, data)
        except Exception:  # no room, no permission
            _say_once()

    def _save(self, sig: Any, data: Any) -> None:
        try:
            self._cache.save_overload(sig, data)
        except OSError:
            raise
        except Exception:  # an index that cannot be read: begin a new one
            self._cache.flush()
            self._cache.save_overload(sig, data)
