"""Frozen dataclasses with read-only mappings."""

from dataclasses import fields
from types import MappingProxyType
from typing import Any


def rebuild(frozen: Any) -> tuple:
    """For ``__reduce__`` of frozen dataclasses with read-only mappings, which cannot be pickled themselves."""
    values = (getattr(frozen, field.name) for field in fields(frozen) if field.init)
    return type(frozen), tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)
