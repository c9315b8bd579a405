"""Files that are written whole or not at all."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ..errors import WriteError


def write_whole(path: str | os.PathLike, write: Callable[[Path], None]) -> None:
    """Write a temporary file beside the path, then give it the place, and the permissions, of the old one.

    Raises
    ------
    WriteError
        The file could not be written; what stood there before is untouched.
    """
    path = Path(os.path.realpath(path))  # through a link to the file that it names
    temporary = path.with_name(f".ssmreduce-{os.getpid()}.tmp")
    with _our_error(path):
        _check(path)
        try:
            write(temporary)
            _replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def check_place(path: str | os.PathLike) -> None:
    """Raise `WriteError` where a file plainly cannot be written."""
    path = Path(os.path.realpath(path))
    with _our_error(path):
        _check(path)


def _check(path: Path) -> None:
    if path.is_dir() or not path.parent.is_dir():
        raise OSError("it is a directory" if path.is_dir() else "its directory does not exist")
    if path.exists() and not os.access(path, os.W_OK):
        raise OSError("it is there and read-only")


@contextlib.contextmanager
def _our_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _replace(temporary: Path, path: Path) -> None:
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    if path.exists():
        temporary.chmod(path.stat().st_mode)
    os.replace(temporary, path)
