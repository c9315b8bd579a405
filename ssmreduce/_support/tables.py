"""Tables for people: printed by rich, shown in notebooks as HTML; and the base of results that are such tables."""

from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

import numpy as np

from ..errors import printable
from .html import html_of_rich


class Report(ABC):
    """Text by rich, HTML for notebooks, plain data by dataclasses."""

    _width = 110

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=self._width, force_terminal=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip("\n")

    @abstractmethod
    def __rich__(self) -> Any:
        """Table that rich prints."""

    def _repr_html_(self) -> str:
        """The same table for notebooks."""
        return html_of_rich(self.__rich__())

    def to_dict(self) -> dict:
        """Plain data for JSON; infinite numbers become None."""
        return _finite(asdict(self))  # type: ignore[call-overload]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def shown(name: str) -> str:
    """A name as it is printed: neither markup nor control characters."""
    from rich.markup import escape

    return escape(printable(name).replace("\n", "\\n"))


def table_of(title: str, *headings: str) -> Any:
    """Table whose first column folds where the terminal is narrow; numbers stay whole."""
    from rich.table import Table

    table = Table(title=shown(title))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left", overflow="fold", no_wrap=i > 0)
    return table
