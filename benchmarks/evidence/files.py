"""Files that are whole or not there."""

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Write a file under a name of this process and move it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    if isinstance(data, str):
        data = data.encode()
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
