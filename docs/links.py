"""Check the built site: every internal link has its target, and nothing is loaded from elsewhere.

``python docs/links.py docs/_build/html`` prints what is wrong and fails if anything is.
"""

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

SOURCES = "_modules"  # pages of source code, which Sphinx links by itself
SKIPPED = {SOURCES, "_static"}
LOADED = {"script": "src", "img": "src", "link": "href", "source": "src", "iframe": "src"}


class Page(HTMLParser):
    """Links, anchors and loaded files of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect what the tag links to."""
        given = {key: value or "" for key, value in attrs}
        self.anchors |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in LOADED and given.get(LOADED[tag]) and given.get("rel") != "canonical":
            self.loaded.append(given[LOADED[tag]])


@cache
def page(path: Path) -> Page:
    """A parsed page."""
    return Page(path.read_text())


def broken(path: Path, link: str) -> bool:
    """Whether an internal link has no target."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return True
    if not parts.fragment or target.suffix != ".html" or SOURCES in target.parts:
        return False
    return unquote(parts.fragment) not in page(target).anchors


def complaints(root: Path) -> list[str]:
    """What is wrong with the pages of a site."""
    wrong = []
    for path in sorted(path for path in root.rglob("*.html") if not SKIPPED & set(path.parts)):
        found = page(path)
        wrong += [f"{path.relative_to(root)}: no {link}" for link in found.links + found.loaded if broken(path, link)]
        wrong += [f"{path.relative_to(root)}: loads {src}" for src in found.loaded if urlsplit(src).netloc]
    return wrong


def main() -> int:
    """Check the site that is named on the command line."""
    wrong = complaints(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "every internal link has its target; nothing is loaded from elsewhere")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
