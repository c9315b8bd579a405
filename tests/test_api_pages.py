"""The API pages and the changelog name every public name of the library, and nothing that is not there."""

import importlib
import inspect
import re

import pytest
from support.paths import ROOT

import ssmreduce as sr

PAGES = ROOT / "docs" / "api"
ROOMS = [
    "adapters",
    "calibration",
    "engines",
    "errors",
    "evaluation",
    "models",
    "networks",
    "norms",
    "norms.peak",
    "plot",
    "realization",
    "reduction",
    "reduction.calibrated",
    "reduction.methods",
    "reporting",
    "responses",
    "selection",
    "selective",
    "systems",
]
SMALLER = {"prune", "reduce", "refit", "eliminate", "compress", "search"}  # verbs that make something smaller


def listed(text):
    """Module and name of every entry of the autosummary tables of a page."""
    module, table, found = None, False, []
    for line in text.splitlines():
        if match := re.match(r"\.\. currentmodule:: (\S+)", line):
            module = match[1]
        elif line.startswith(".. autosummary"):
            table = True
        elif table and (match := re.fullmatch(r"   (\w+)", line)):
            found.append((module, match[1]))
        elif line and not line.startswith(" "):
            table = False
    return found


DOCUMENTED = [entry for page in sorted(PAGES.glob("*.rst")) for entry in listed(page.read_text())]


def public(room):
    """Names that a room offers: its `__all__`, or what a room of one file defines."""
    module = importlib.import_module(f"ssmreduce.{room}")
    own = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.getmodule(value) is module and not inspect.ismodule(value)
    ]
    return getattr(module, "__all__", own)


def undocumented(names, documented):
    """Public names that no page has."""
    return sorted(set(names) - {name for _, name in documented})


def test_every_entry_of_the_pages_exists():
    for module, name in DOCUMENTED:
        assert hasattr(importlib.import_module(module), name), f"{module}.{name}"
    assert len(set(DOCUMENTED)) == len(DOCUMENTED)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_of_a_room_is_documented(room):
    assert undocumented(public(room), DOCUMENTED) == []


def test_the_facade_is_documented():
    rooms = {name for name in sr.__all__ if inspect.ismodule(getattr(sr, name))}
    assert rooms <= set(ROOMS)
    assert {name for module, name in DOCUMENTED if module == "ssmreduce"} == set(sr.__all__) - rooms
    assert all((PAGES / f"{room}.rst").is_file() for room in rooms)


def test_every_room_is_tested_here():
    folders = {path.parent.relative_to(ROOT / "ssmreduce") for path in (ROOT / "ssmreduce").rglob("__init__.py")}
    dotted = {".".join(folder.parts) for folder in folders} - {"", "_support", "cli", "engines.cuda", "engines.numba"}
    assert dotted == set(ROOMS) - {"errors", "plot"}


def test_an_undocumented_name_is_found():
    assert undocumented(["reduce", "no_such_name"], DOCUMENTED) == ["no_such_name"]
    assert listed(".. currentmodule:: a\n\n.. autosummary::\n   :toctree: g\n\n   f\n\nText\n\n   g\n") == [("a", "f")]


def test_everything_that_makes_something_smaller_can_be_chosen():
    page = (ROOT / "docs" / "guide" / "choosing.rst").read_text()
    for verb in SMALLER | {"realize", "hankel_orders", "refit_network"}:
        assert re.search(rf"\b{verb}\b", page), verb
    for method in sr.reduction.METHODS:
        assert f"``{method}``" in page, method


def renamed():
    """Old and new names of the table in the changelog."""
    return re.findall(r"^\| `(\w+)` \| `([\w.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_changelog_says_what_old_names_became():
    table = dict(renamed())
    assert len(table) == len(renamed()) > 50
    for old, new in table.items():
        assert old not in sr.__all__
        assert not hasattr(sr, old), old
        room, _, name = new.rpartition(".")
        assert (room or "ssmreduce", name) in {(m.removeprefix("ssmreduce."), n) for m, n in DOCUMENTED}, new
