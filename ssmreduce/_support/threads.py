"""Work over threads: compiled loops release the interpreter lock, so plain threads are enough."""

import contextlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

from .arguments import positive_integer

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
        from numba.np.ufunc import parallel

        # asked before its threads run, Numba would start them, and set the number of OpenMP's, PyTorch's among them
        return numba.get_num_threads() if parallel._is_initialized else numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    return positive_integer(threads, "threads")


class TooFewThreads(RuntimeError):
    """The system started fewer threads than a team needs; nobody waits for the others any more."""


def together(work: Callable[[int], None], count: int, give_up: Callable[[], None] = lambda: None) -> None:
    """Call work(0), ..., work(count - 1) at the same time, each on a thread of its own; the first on this one.

    Where a member fails, or cannot be started, `give_up` is called: it must end whatever the others wait for.

    Raises
    ------
    TooFewThreads
        The system did not start enough threads; the results of those that ran are void.
    """
    called_off = False

    def member(index: int) -> None:
        if called_off:  # its turn came too late, when another thread was free again
            return
        try:
            work(index)
        except BaseException:
            give_up()
            raise

    others: list[Future] = []
    try:
        for index in range(1, count):
            others.append(_submitted(member, index))
        member(0)
    except BaseException:
        called_off = True
        give_up()
        raise
    finally:
        for other in others:
            other.result()


def _submitted(member: Callable[[int], None], index: int) -> Future:
    try:
        return _workers().submit(member, index)
    except (RuntimeError, MemoryError) as error:  # limits of processes or memory, an interpreter that ends
        raise TooFewThreads(str(error)) from error


def for_each_part(work: Callable[[int, int], None], count: int, threads: int | None) -> None:
    """Call work(start, stop) on contiguous parts of range(count), one part a thread (default: Numba's thread count).

    Where the system starts fewer threads, those that there are do the rest.
    """
    parts = max(1, min(thread_count(threads), count))
    left = deque((count * part // parts, count * (part + 1) // parts) for part in range(parts))

    def member() -> None:
        while left:
            try:
                part = left.popleft()
            except IndexError:  # another thread was faster
                return
            work(*part)

    others: list[Future] = []
    try:
        with contextlib.suppress(TooFewThreads):
            for _ in range(1, parts):
                others.append(_submitted(lambda _: member(), 0))
        member()
    finally:
        left.clear()
        for other in others:
            other.result()
