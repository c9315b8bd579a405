"""Bases of the frozen dataclasses: read-only mappings in the fields, and mappings from layer names to values."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from ..errors import UnknownLayerError

Value = TypeVar("Value", covariant=True)


class Frozen:
    """Base of a frozen dataclass whose mappings become read-only; it can be pickled all the same."""

    def __post_init__(self) -> None:
        for name, value in self._given().items():
            if isinstance(value, Mapping):
                object.__setattr__(self, name, MappingProxyType(dict(value)))

    def __reduce__(self) -> tuple:
        values = self._given().values()
        return type(self), tuple(dict(v) if isinstance(v, MappingProxyType) else v for v in values)

    def _given(self) -> dict[str, Any]:
        """Field name -> value, of the fields that the constructor takes."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]


class FrozenMapping(Frozen, Mapping[str, Value]):
    """Base of a frozen dataclass that maps layer names to values, arrays among them: equal only to itself."""

    whole: ClassVar[str]
    """What has the layers, for messages: "the model"."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def require(self, name: str) -> None:
        """Raise `UnknownLayerError` unless there is this layer."""
        if name not in (names := tuple(self)):
            raise UnknownLayerError(f"there is no layer {name!r}; {self.whole} has {', '.join(names)}")


class LayerMapping(FrozenMapping[Value]):
    """One whose values stand in its field ``by_layer``."""

    by_layer: Mapping[str, Value]

    def __getitem__(self, name: str) -> Value:
        self.require(name)
        return self.by_layer[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_layer)

    def __len__(self) -> int:
        return len(self.by_layer)
