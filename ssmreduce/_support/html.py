"""HTML from plain text: everything is escaped where it goes in, but for what is marked as HTML."""

import html
from collections.abc import Iterable
from typing import Any

from ..errors import printable


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Text as HTML: no markup and no control characters; what is HTML already stays as it is."""
    return text if isinstance(text, Html) else Html(html.escape(printable(text).replace("\n", "\\n")))


def tag(name: str, *content: object, **attributes: object) -> Html:
    """An element; underscores in the names of attributes stand for hyphens, and those that are None are left out."""
    named = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    start = "".join([name, *(f' {key}="{html.escape(printable(value))}"' for key, value in named)])
    return Html(f"<{start}>{''.join(map(escaped, content))}</{name}>")


def html_row(cells: Iterable[object], **attributes: object) -> Html:
    """A row of a table: its first cell heads it, the others hold numbers."""
    first, *others = cells
    return tag("tr", tag("th", first, scope="row"), *(tag("td", cell) for cell in others), **attributes)


def html_table(
    headings: Iterable[object],
    rows: Iterable[Iterable[object] | Html],
    caption: object = "",
    groups: Iterable[tuple[object, int]] = (),
) -> Html:
    """A table of rows of cells, or of rows that are HTML already; without headings it has no head.

    Groups are headings above the headings, each with the number of columns that it spans.
    """
    parts = [tag("caption", caption)] if caption else []
    above = [tag("th", group, scope="colgroup", colspan=str(width)) for group, width in groups]
    columns = [tag("th", heading, scope="col") for heading in headings]
    if columns:
        parts.append(tag("thead", tag("tr", *above) if above else "", tag("tr", *columns)))
    body = (row if isinstance(row, Html) else html_row(row) for row in rows)
    return tag("table", *parts, tag("tbody", *body))


def html_of_rich(table: Any) -> Html:
    """The same table, or group of tables, that rich prints."""
    from rich.text import Text

    if hasattr(table, "renderables"):
        return Html("".join(map(html_of_rich, table.renderables)))

    def plain(text: str | None) -> str:
        return Text.from_markup(text or "").plain.strip()

    columns = [[plain(cell) for cell in column.cells] for column in table.columns]
    made = html_table(
        [plain(column.header) for column in table.columns], zip(*columns, strict=True), plain(table.title)
    )
    return Html(made + (tag("p", plain(table.caption)) if table.caption else ""))
