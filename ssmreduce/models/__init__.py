"""Models: named systems with the parameters that they were read from, files, export."""

from .._support.trees import flatten, unflatten
from ._example import example
from ._loading import load, read, save
from ._model import SSMModel, export, replace_system

__all__ = [
    "SSMModel",
    "example",
    "export",
    "flatten",
    "load",
    "read",
    "replace_system",
    "save",
    "unflatten",
]
