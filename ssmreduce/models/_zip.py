"""Zip archives: the members that a checkpoint may have, each read to its end and compared with its CRC-32."""

import contextlib
import zipfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ..errors import CheckpointFormatError
from ._stored import PIECE

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def members(archive: zipfile.ZipFile, *, compressed: bool) -> dict[str, zipfile.ZipInfo]:
    """Name -> member; an error where two have one name, or one is packed as no checkpoint is."""
    infos = archive.infolist()
    found = {info.filename: info for info in infos}
    if len(found) < len(infos):
        raise CheckpointFormatError(f"two members of {archive.filename!r} have one name")
    for info in infos:
        if info.compress_type not in _METHODS[: 1 + compressed]:
            raise CheckpointFormatError(
                f"the member {info.filename!r} of {archive.filename!r} is compressed as those of such files never are"
            )
        if info.filename != info.orig_filename:
            raise CheckpointFormatError(f"the name of a member of {archive.filename!r} holds NUL")
    return found


@contextlib.contextmanager
def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, skip: int = 0) -> Iterator[BinaryIO]:
    """A member open for reading, behind its first `skip` bytes."""
    with archive.open(info) as file:
        file.read(skip)
        yield file  # type: ignore[misc]


def check_to_the_end(archive: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo]) -> None:
    """Read members and compare them with their CRC-32."""
    for info in infos:
        with archive.open(info) as file:
            while file.read(PIECE):
                pass
