"""Optional packages, imported on use."""

import importlib
from typing import Any

from ..errors import MissingDependencyError


def optional_import(module: str, extra: str) -> Any:
    """Import a package of an extra, or say how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"this needs the package {module.split('.')[0]}, which is not installed: pip install 'ssmreduce[{extra}]'"
        ) from error
