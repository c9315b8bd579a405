"""An HTML page taken apart, for tests."""

from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "wbr", "hr", "img"}


class Element:
    """An element with its attributes, text and children."""

    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent, self.children, self.parts = tag, dict(attributes), parent, [], []

    @property
    def text(self):
        return "".join(part if isinstance(part, str) else part.text for part in self.parts)

    def all(self, tag=None, **attributes):
        """Elements below with a tag and attributes; None asks for the attribute with any value."""
        for child in self.children:
            wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
            fits = all(
                key in child.attributes and value in (None, child.attributes[key]) for key, value in wanted.items()
            )
            if fits and tag in (None, child.tag):
                yield child
            yield from child.all(tag, **attributes)

    def rows(self):
        """Texts of the cells of a table, row by row."""
        return [[cell.text for cell in row.children] for row in self.all("tr")]


class Page(HTMLParser):
    """The elements of a page below `root`; fails where one is not closed in its place."""

    def __init__(self, html):
        super().__init__()
        self.root = self._open = Element("", {}, None)
        self.feed(html)
        self.close()
        assert self._open is self.root

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes)
        element = Element(tag, attributes, self._open)
        self._open.children.append(element)
        self._open.parts.append(element)
        if tag not in VOID:
            self._open = element

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert tag == self._open.tag
        self._open = self._open.parent

    def handle_data(self, data):
        self._open.parts.append(data)
