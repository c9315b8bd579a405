"""Zip archives: the members that a checkpoint may have, each read to its end and compared with its CRC-32."""

import contextlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, BinaryIO

from ..errors import CheckpointFormatError
from ._stored import PIECE

_HEADER, _NAME_LENGTH = 30, 26  # bytes before a member's name, and where the lengths of that and what follows stand
_DESCRIPTOR = 24  # bytes at most that follow a member whose size was not known before
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
    _check_layout(archive, infos)
    return found


def _check_layout(archive: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo]) -> None:
    """Members fill the archive up to its directory: none is left out, none overlaps another."""
    file, at, most = archive.fp, 0, 0
    assert file is not None
    for info in sorted(infos, key=lambda info: info.header_offset):
        if not at <= info.header_offset <= at + most:
            raise CheckpointFormatError(f"{archive.filename!r} is damaged: its members overlap or leave holes")
        at = _begin(file, info) + info.compress_size
        most = _DESCRIPTOR if info.flag_bits & 8 else 0
    if not at <= archive.start_dir <= at + most:
        raise CheckpointFormatError(f"{archive.filename!r} is damaged: a member is missing in its directory")


def _begin(file: IO[bytes], info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin."""
    file.seek(info.header_offset + _NAME_LENGTH)
    lengths = file.read(4)
    return info.header_offset + _HEADER + sum(int.from_bytes(part, "little") for part in (lengths[:2], lengths[2:]))


@contextlib.contextmanager
def raw_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, skip: int = 0) -> Iterator[BinaryIO]:
    """The file where a member that is not compressed begins, behind its first `skip` bytes; no checksum is taken."""
    file = archive.fp
    assert file is not None
    file.seek(_begin(file, info) + skip)
    yield file  # type: ignore[misc]


@contextlib.contextmanager
def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, skip: int = 0) -> Iterator[BinaryIO]:
    """A member open for reading, behind its first `skip` bytes; its CRC-32 is verified where it ends."""
    with archive.open(info) as file:  # looks at its header
        opened: Any = _InPlace(archive, info) if info.compress_type == zipfile.ZIP_STORED else file
        opened.read(skip)
        yield opened


class _InPlace:
    """A member that is not compressed: `zipfile` would copy each piece of it twice."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        assert archive.fp is not None
        self._file, self._info, self._crc, self._left = archive.fp, info, 0, info.file_size
        self._file.seek(_begin(self._file, info))

    def readinto(self, target: memoryview) -> int:
        """Fill as much of the target as there is; `ValueError` at the end where the CRC-32 is another."""
        target = target[: self._left]
        count = self._file.readinto(target)  # type: ignore[attr-defined]
        self._crc = zlib.crc32(target[:count], self._crc)
        self._left -= count
        if not self._left and self._crc != self._info.CRC:
            raise ValueError(f"the CRC-32 of {self._info.filename!r} is not that of its bytes")
        return count

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`."""
        data = bytearray(min(count, self._left))
        return bytes(data[: self.readinto(memoryview(data))])


def check_to_the_end(archive: zipfile.ZipFile, infos: Iterable[zipfile.ZipInfo]) -> None:
    """Read members and compare them with their CRC-32."""
    for info in infos:
        with archive.open(info) as file:
            while file.read(PIECE):
                pass
