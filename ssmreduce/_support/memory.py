"""How much memory the machine has left, and a budget for what a file asks for."""

import os
from pathlib import Path

from ..errors import FileTooLargeError


def available_memory() -> int | None:
    """Bytes that a process of this machine can still take without swapping; None where the system does not tell."""
    limits = [limit for limit in (_of_the_system(), _of_the_container()) if limit is not None]
    return min(limits, default=None)


class Budget:
    """Bytes that the tensors of one file may take.

    Parameters
    ----------
    max_bytes : int or None
        By default what the machine has left.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self.given = max_bytes is not None
        self.most = available_memory() if max_bytes is None else max_bytes
        self.taken = 0

    def take(self, count: int, path: str | os.PathLike) -> None:
        """Count bytes before they are allocated; `FileTooLargeError` where they are too many."""
        self.taken += count
        if self.most is not None and self.taken > self.most:
            limit = "max_bytes allows" if self.given else "this machine has left (max_bytes=... sets another limit)"
            raise FileTooLargeError(
                f"the tensors of {str(path)!r} take {self.taken:,} bytes or more, and {limit} {self.most:,}"
                if self.given
                else f"the tensors of {str(path)!r} take {self.taken:,} bytes or more; {self.most:,} are what {limit}"
            )


def _of_the_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def _of_the_container() -> int | None:
    """What the control group of the process has left (version 2, as containers see it)."""
    try:
        most, now = (Path(f"/sys/fs/cgroup/memory.{name}").read_text() for name in ("max", "current"))
        return int(most) - int(now)
    except (OSError, ValueError):  # no such group, or "max": no limit
        return None
