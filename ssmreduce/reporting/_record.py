"""What made the report: versions, the machine, and what the models say was done to them."""

import importlib.metadata
import json
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..models import SSMModel
from ..networks import RECORD

_PACKAGES = ("numpy", "scipy", "numba")
_LONGEST = 300  # characters of a value that is shown


def environment() -> dict[str, str]:
    """Versions of what computes, the system, and the time."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    ours = sys.modules[__package__.partition(".")[0]].__version__
    system = f"{platform.system()} {platform.machine()}"
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"ssmreduce": ours, "Python": platform.python_version(), **versions, "system": system, "written": when}


def told(model: SSMModel) -> dict[str, str]:
    """What a model holds of its past: its record, the text of its file, and the layers that were changed."""
    found: dict[str, Any] = {"adapter": repr(model.adapter)}
    for key, value in model.metadata.items():
        if key != "ssmreduce.adapter":  # which the adapter's text says
            found |= _record(value) if key == RECORD else {key: value}
    if model.keep:
        found["layers pruned"] = ", ".join(name for name in model if name in model.keep)
    if model.refitted:
        found["layers refitted"] = ", ".join(sorted(model.refitted))
    if model.systems:
        found["layers with new poles"] = ", ".join(model.systems)
    if model.checksum:
        found["file verified by"] = model.checksum
    return {key: _short(str(value)) for key, value in found.items()}


def _record(text: str) -> dict[str, Any]:
    """The entries of a record; the text itself where it is not one."""
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    return dict(record) if isinstance(record, Mapping) else {"record": text}


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
