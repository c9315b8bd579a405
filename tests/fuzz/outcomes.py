"""What can come of one input, and the count of it."""

import contextlib
import signal
import time
import tracemalloc
from collections import Counter

from ssmreduce.errors import SSMReduceError

GOOD = ("right", "refused", "unverifiable")
BAD = ("WRONG", "RAW", "HANG", "MEMORY")
LONGEST = 10.0  # seconds
FACTOR, SPARE = 128, 2**25  # of the size of the file, and bytes on top


class Hang(BaseException):
    """The time of one input is over."""


@contextlib.contextmanager
def deadline():
    """Raise `Hang` in the main thread after the longest time that one input may take."""

    def late(*_):
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, LONGEST)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def outcome(attempt, size=None):
    """What `attempt` comes to: what it returns, or how it fails; with a size, its memory is watched too.

    Returns
    -------
    str
        One of `GOOD` or `BAD`.
    str
        What is bad, in words.
    """
    if size is not None:
        tracemalloc.start()
    try:
        with deadline():
            found = attempt()
    except SSMReduceError:
        found = "refused"
    except Hang:
        return "HANG", f"longer than {LONGEST:g} s"
    except Exception as error:  # what this is looking for
        return "RAW", f"{type(error).__name__}: {error}"[:200]
    finally:
        peak = tracemalloc.get_traced_memory()[1] if size is not None else 0
        if size is not None:
            tracemalloc.stop()
    if size is not None and peak > FACTOR * size + SPARE:
        return "MEMORY", f"{peak:,} bytes for a file of {size:,}"
    return (found, "") if found in GOOD else ("WRONG", found)


class Tally:
    """Counts of outcomes by what was tried."""

    def __init__(self):
        self.counts, self.seconds, self.examples = {}, Counter(), []

    def add(self, row, found, why="", example=None):
        """Count one outcome; keep the first bad ones."""
        self.counts.setdefault(row, Counter())[found] += 1
        if found in BAD and len(self.examples) < 50:
            self.examples.append((row, found, why, example))

    def take(self, other):
        """Add the counts of another tally."""
        for row, counts in other.counts.items():
            self.counts.setdefault(row, Counter()).update(counts)
        self.seconds.update(other.seconds)
        self.examples += other.examples

    @contextlib.contextmanager
    def timed(self, row):
        """Add the seconds of a block to a row."""
        start = time.perf_counter()
        yield
        self.seconds[row] += time.perf_counter() - start

    def table(self):
        """Text for people."""
        heads = ("tried", *GOOD, *BAD)
        lines = [f"{'':44}" + "".join(f"{head:>13}" for head in heads) + f"{'seconds':>9}"]
        total = Counter()
        for row, counts in self.counts.items():
            total += counts
            lines.append(self._line(" ".join(row), counts, self.seconds[row]))
        return "\n".join([*lines, self._line("all", total, sum(self.seconds.values()))])

    def _line(self, name, counts, seconds):
        values = (counts.total(), *(counts[head] for head in (*GOOD, *BAD)))
        return f"{name:44}" + "".join(f"{value:13,}" for value in values) + f"{seconds:9.1f}"

    def bad(self):
        """Number of inputs that came to something bad."""
        return sum(counts[head] for counts in self.counts.values() for head in BAD)
