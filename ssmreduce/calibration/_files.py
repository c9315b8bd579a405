"""Calibrations as files: npz arrays and one line of JSON, no pickle."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from .._support.arguments import require_kind, require_path
from ..errors import CheckpointFormatError, FileTooLargeError, MissingFileError
from ..models._checkpoints import read_file, write_arrays
from ._moments import CALIBRATION_ADVICE, Calibration, Moments

_FORMAT = "ssmreduce.calibration.1"
_ARRAYS = ("Lambda", "B", "second", "cross", "energy")


def save_calibration(calibration: Calibration, path: str | os.PathLike) -> None:
    """Write a calibration to an npz file, whole or not at all.

    Parameters
    ----------
    calibration : Calibration
    path : path

    Raises
    ------
    ArgumentError
        Anything but a calibration.
    WriteError
        The file could not be written; what stood there before is untouched.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> calibration = sr.calibrate(model, {"layers.0.seq": np.ones((2, 8, 32))})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_calibration(calibration, pathlib.Path(folder, "calibration.npz"))
    ...     load_calibration(pathlib.Path(folder, "calibration.npz"))
    Calibration(layers.0.seq: 16 steps)
    """
    require_kind(calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    layers = [{"name": name, "steps": m.steps, "length": m.length} for name, m in calibration.items()]
    header = json.dumps({"format": _FORMAT, "layers": layers})
    arrays = {
        f"{i}.{key}": getattr(m, key)
        for i, m in enumerate(calibration.values())
        for key in _ARRAYS
        if getattr(m, key) is not None
    }

    arrays = {"header": np.frombuffer(header.encode(), dtype=np.uint8), **arrays}
    write_arrays(path, arrays)


def load_calibration(path: str | os.PathLike, *, max_bytes: int | None = None) -> Calibration:
    """Read a calibration that `save_calibration` wrote.

    Parameters
    ----------
    path : path
    max_bytes : int, optional
        Memory that its arrays may take; by default what the machine has left.

    Returns
    -------
    Calibration

    Raises
    ------
    MissingFileError
    FileTooLargeError
    CheckpointFormatError
        Another kind of file, or a damaged one.

    Examples
    --------
    >>> load_calibration("no-such-file.npz")
    Traceback (most recent call last):
    ssmreduce.errors.MissingFileError: cannot read 'no-such-file.npz': there is no such file
    """
    require_path(path)
    foreign = f"{str(path)!r} is not a calibration that save_calibration wrote"
    try:
        arrays = read_file(path, max_bytes=max_bytes)[0]
        header = json.loads(bytes(arrays["header"]))
        if header["format"] != _FORMAT:
            raise ValueError(f"its format is {header['format']!r}")
        layers = {layer["name"]: _moments(arrays, i, layer) for i, layer in enumerate(header["layers"])}
        if len(layers) < len(header["layers"]):
            raise ValueError("two of its layers have one name")
    except (MissingFileError, FileTooLargeError):
        raise
    except Exception as error:  # a header can hold anything
        raise CheckpointFormatError(f"{foreign} ({error}); make one with calibrate") from error
    return Calibration(layers)


def _moments(file: Mapping[str, np.ndarray], number: int, layer: dict) -> Moments:
    arrays: dict[str, Any] = {key: file.get(f"{number}.{key}") for key in _ARRAYS}
    if not all(array is None or np.isfinite(array).all() for array in arrays.values()):
        raise ValueError(f"the moments of layer {layer['name']!r} hold NaN or infinite values")
    moments = Moments(**arrays, steps=int(layer["steps"]), length=int(layer["length"]))
    if not _fit(moments):
        raise ValueError(f"the arrays of layer {layer['name']!r} are not all there, or do not fit together")
    return moments


def _fit(moments: Moments) -> bool:
    """Whether shapes and counts are those of one layer's moments."""
    if any(array is None for array in (moments.Lambda, moments.B, moments.second)) or moments.B.ndim != 3:
        return False
    s, n, m = moments.B.shape
    sizes = [width * n + m for width in (2, 4)]
    size = moments.second.shape[-1]
    shapes = moments.Lambda.shape == (s, n) and moments.second.shape == (s, size, size) and size in sizes
    positive = moments.steps > 0 and moments.length > 0 and (np.einsum("sii->si", moments.second) >= 0).all()
    if not shapes or not positive or (moments.cross is None) != (moments.energy is None):
        return False
    cross, energy = moments.cross, moments.energy
    return cross is None or energy is None or (cross.shape[::2] == (s, size) and energy.shape == (s,))
