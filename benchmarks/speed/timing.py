"""Medians of calls that take turns, and rows of a table."""

import statistics
import time
from collections.abc import Callable

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def medians(calls: dict[str, Callable], *, rounds: int, turn: float, clock: str) -> dict[str, float]:
    """Median seconds of each call; each turn repeats a call until it has taken `turn` seconds."""
    now = CLOCKS[clock]
    repeats, found = {}, {name: [] for name in calls}
    for name, call in calls.items():
        call()
        start = now()
        call()
        repeats[name] = max(1, round(turn / max(now() - start, 1e-7)))
    for _ in range(rounds):
        for name, call in calls.items():
            start = now()
            for _ in range(repeats[name]):
                call()
            found[name].append((now() - start) / repeats[name])
    return {name: statistics.median(times) for name, times in found.items()}


def row(*cells: object) -> str:
    """Text to the left, numbers to the right."""
    return "  ".join(f"{c:<22}" if isinstance(c, str) and k == 0 else f"{c:>11}" for k, c in enumerate(cells))


def ms(seconds: float) -> str:
    """Milliseconds in three digits."""
    return f"{1e3 * seconds:.3g}"
