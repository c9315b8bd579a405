"""Progress of long work: a bar where a terminal is attached, a function where one is given."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ..._support.arguments import require_callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@contextlib.contextmanager
def shown(progress: bool | Progress | None) -> Iterator[Progress]:
    """What to call with the progress: a bar for True, nothing for False, for None as the terminal is."""
    if progress is None:
        progress = sys.stderr.isatty()
    if progress is False:
        yield lambda *_: None
    elif progress is True:
        with _bar() as update:
            yield update
    else:
        require_callable(progress, "progress", "True, False or a function of (text, done, total) is needed")
        yield progress


@contextlib.contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress as Bar

    tasks: dict[str, Any] = {}
    with Bar(console=Console(stderr=True), transient=True) as bar:

        def update(text: str, done: int, total: int) -> None:
            if text not in tasks:
                tasks[text] = bar.add_task(text, total=total)
            bar.update(tasks[text], completed=done, total=total)

        yield update


def named(progress: Progress, text: str) -> Callable[[int, int], None]:
    """The progress of one stage."""
    return lambda done, total: progress(text, done, total)
