"""Work over threads: compiled loops release the interpreter lock, so plain threads are enough."""

import numbers
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from ..errors import UnknownNameError

_MOST = 4096  # in effect a thread for each task at hand: members of a team wait for each other, so none may queue


@cache
def _workers() -> ThreadPoolExecutor:
    """Threads that are kept between calls; new ones start only while none is idle."""
    return ThreadPoolExecutor(_MOST, thread_name_prefix="ssmreduce")


if hasattr(os, "register_at_fork"):  # threads do not survive a fork: the child starts its own
    os.register_at_fork(after_in_child=_workers.cache_clear)


def thread_count(threads: int | None) -> int:
    """Number of threads asked for, by default Numba's thread count."""
    if threads is None:
        import numba

        return numba.get_num_threads()
    if not isinstance(threads, numbers.Integral) or threads < 1:
        raise UnknownNameError(f"threads must be a whole number from 1 on, got {threads!r}")
    return threads


def together(work: Callable[[int], None], count: int) -> None:
    """Call work(0), ..., work(count - 1) at the same time, each on a thread of its own; the first on this one."""
    others = [_workers().submit(work, member) for member in range(1, count)]
    try:
        work(0)
    finally:
        for other in others:
            other.result()


def for_each_part(work: Callable[[int, int], None], count: int, threads: int | None) -> None:
    """Call work(start, stop) on contiguous parts of range(count), one part a thread (default: Numba's thread count)."""
    parts = max(1, min(thread_count(threads), count))
    together(lambda part: work(count * part // parts, count * (part + 1) // parts), parts)
