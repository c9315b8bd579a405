"""Files that are written whole or not at all.

The content goes to a temporary file beside the target, under a name that no other process or thread has, is checked
there while it reaches the disk, and then takes the target's place in one step. A process that is killed leaves a file
``.ssmreduce-<random>.tmp`` behind, which readers refuse and which may be deleted.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from ..errors import WriteError

_LEFTOVER = re.compile(r"\.ssmreduce-[0-9a-f]+\.tmp")


def write_whole(
    path: str | os.PathLike, write: Callable[[BinaryIO], object], check: Callable[[Path], None] | None = None
) -> None:
    """Write a temporary file beside the path, check it, and give it the place and the permissions of the old one.

    Parameters
    ----------
    path : path
        A link is followed to the file that it names.
    write : callable
        Writes the content to an empty file that is open for reading and writing.
    check : callable, optional
        Reads the temporary file back, and raises where it is not what was meant.

    Raises
    ------
    WriteError
        The file could not be written; what stood there before is untouched.
    """
    with our_error(path):
        target = _target(path)
        with _folder(target.parent) as folder:
            with _temporary(target) as temporary:
                with _created(temporary, target) as file:
                    write(file)
                    file.flush()
                    with _reaching_the_disk(file):
                        if check is not None:
                            check(temporary)
                os.replace(temporary, target)
            folder()


def check_place(path: str | os.PathLike) -> None:
    """Raise `WriteError` where a file plainly cannot be written."""
    with our_error(path):
        _target(path)


def is_leftover(path: str | os.PathLike) -> bool:
    """Whether a file has the name of one that was never finished."""
    return _LEFTOVER.fullmatch(Path(path).name) is not None


@contextlib.contextmanager
def our_error(path: str | os.PathLike) -> Iterator[None]:
    """Turn what the system says of a path into `WriteError`."""
    try:
        yield
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def _target(path: str | os.PathLike) -> Path:
    """The file that will be replaced or made; an error where that cannot be."""
    try:
        target = Path(os.path.realpath(path))
        info = target.stat()
    except ValueError as error:  # NUL, or characters that file names of this system cannot have
        raise OSError(f"no file can have this name ({error})") from error
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise OSError("its directory does not exist") from None
        return target
    except NotADirectoryError:
        raise OSError("its directory does not exist") from None
    if not stat.S_ISREG(info.st_mode):
        raise OSError(f"it is a {_kind(info.st_mode)}, not a regular file")
    if not os.access(target, os.W_OK):
        raise OSError("it is there and read-only")
    return target


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    return kinds.get(stat.S_IFMT(mode), "device")


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A name beside the target that is nobody else's; whatever is there at the end is removed."""
    temporary = target.with_name(f".ssmreduce-{secrets.token_hex(8)}.tmp")
    try:
        yield temporary
    except FileExistsError:  # somebody else's after all
        raise
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _created(temporary: Path, target: Path) -> BinaryIO:
    """The new temporary file, never open to anyone whom the target is closed to."""
    old = target.stat() if target.exists() else None
    mode = 0o666 if old is None else stat.S_IMODE(old.st_mode)
    file = open(temporary, "x+b", opener=lambda name, flags: os.open(name, flags, mode & 0o777))  # noqa: SIM115
    if old is not None:
        if hasattr(os, "chown"):
            with contextlib.suppress(PermissionError):  # only the superuser may give files away
                os.chown(temporary, old.st_uid, old.st_gid)
        os.chmod(temporary, mode)  # what the umask took away
    return file


@contextlib.contextmanager
def _reaching_the_disk(file: BinaryIO) -> Iterator[None]:
    """Bring a file to the disk while the block reads it back; before that where no thread can be started."""
    pool = ThreadPoolExecutor(1)
    try:
        done = pool.submit(os.fsync, file.fileno())
    except (RuntimeError, MemoryError):  # limits of threads or memory, an interpreter that ends
        os.fsync(file.fileno())
        yield
        return
    try:
        yield
    finally:
        pool.shutdown()
    done.result()


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Callable[[], None]]:
    """A function that makes the entries of a directory reach the disk."""
    try:
        handle = None if os.name == "nt" else os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # a directory that one may write into but not list
        handle = None

    def sync() -> None:
        try:
            if handle is not None:
                os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):  # some file systems have no such call
                raise OSError("the new file is in place, but may not outlive a power failure") from error

    try:
        yield sync
    finally:
        if handle is not None:
            os.close(handle)
