"""Batches over threads: compiled loops release the interpreter lock, so plain threads are enough."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise


def for_each_part(work: Callable[[int, int], None], count: int, threads: int | None) -> None:
    """Call work(start, stop) on contiguous parts of range(count), one part a thread (default: Numba's thread count)."""
    if threads is None:
        import numba

        threads = numba.get_num_threads()
    threads = max(1, min(threads, count))
    bounds = [count * t // threads for t in range(threads + 1)]
    if threads == 1:
        work(0, count)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *part) for part in pairwise(bounds)]:
            done.result()
