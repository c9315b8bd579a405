"""Functions that Numba compiles on first use and keeps on disk; without a place to keep them, for this process only."""

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numba

from ..errors import CacheWarning


def compiled(function: Callable | None = None, **options: Any) -> Any:
    """Decorator: ``numba.njit`` that releases the interpreter lock, with a cache on disk where there is room."""
    if function is None:
        return lambda function: compiled(function, **options)
    try:
        dispatcher = numba.njit(cache=True, nogil=True, **options)(function)
    except (RuntimeError, OSError):  # no directory that can be written to
        _say_once()
        return numba.njit(nogil=True, **options)(function)
    dispatcher._cache = _Forgiving(dispatcher._cache)
    return dispatcher


@cache
def _say_once() -> None:
    warnings.warn(
        "compiled functions cannot be kept on disk, and are compiled anew in each process; set the environment "
        "variable NUMBA_CACHE_DIR to a directory with room that can be written to",
        CacheWarning,
        stacklevel=2,
    )


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
        try:
            found = self._cache.load_overload(sig, target_context)
            wanted = getattr(sig, "args", sig)
            return found if found is not None and tuple(found.signature.args) == tuple(wanted) else None
        except Exception:  # truncated, empty, of another machine
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
