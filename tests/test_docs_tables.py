"""The tables of the documentation are those of the stored results, and the pages quote what the tables say."""

import csv
import importlib.util
import re

import pytest
from support.paths import ROOT

DOCS = ROOT / "docs"
MADE = {"generated", "auto_examples", "_build"}
PAGES = [path for path in sorted(DOCS.rglob("*.rst")) if not MADE & set(path.parts)] + [ROOT / "README.md"]


@pytest.fixture(scope="module")
def results():
    spec = importlib.util.spec_from_file_location("results", DOCS / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_those_of_the_stored_results(results):
    made = results.tables()
    assert {path.stem for path in results.TABLES.glob("*.csv")} == set(made), "python docs/results.py"
    assert {path.stem for path in results.TABLES.glob("*.inc")} == {f"evidence_{name}" for name in results.includes()}
    for name, table in made.items():
        assert table[1], name
        assert {len(row) for row in table[1]} <= {len(table[0])}, name
        assert (results.TABLES / f"{name}.csv").read_text() == results.text(table), f"{name}: python docs/results.py"

    for name, content in results.includes().items():
        assert (results.TABLES / f"evidence_{name}.inc").read_text() == content, f"{name}: python docs/results.py"


def test_the_readme_has_the_table_of_the_live_networks(results):
    assert results.markdown(results.networks()) in (ROOT / "README.md").read_text()


def quotes(text):
    """What pages take from tables: ``.. from TABLE: row: column: value`` comments."""
    return re.findall(r"\.\. from (\w+): ([^:\n]+): ([^:\n]+): ([^\n]+)", text)


def unquoted(text, folder):
    """Quotes of a page that its table does not say, or that the page itself does not."""
    shown = re.sub(r"\.\. (from|text of) [^\n]+", "", text)
    wrong = []
    for name, label, column, value in quotes(text):
        with (folder / f"{name}.csv").open(newline="") as file:
            found = [row[column] for row in csv.DictReader(file) if next(iter(row.values())) == label]
        if found != [value] or not re.search(rf"(?<![\d.]){re.escape(value)}(?![\d.]*\d)", shown):
            wrong.append((name, label, column, value, found))
    return wrong


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "evidence.rst"], ids=lambda p: p.name)
def test_pages_quote_the_tables(page, results):
    text = page.read_text()
    assert unquoted(text, results.TABLES) == []
    for name, words in re.findall(r"\.\. text of (\w+): ([^\n]+)", text):
        assert words in " ".join(results.stored(name).split())
        assert text.count(words) == 2  # on the page, and in the comment


def test_a_wrong_quote_is_found(results):
    right = "30 % go.\n\n.. from evidence_summary_s5_all: AIRE: ratio (%): 30\n"
    assert unquoted(right, results.TABLES) == []
    assert unquoted(right.replace("30", "31"), results.TABLES)
    assert unquoted(right.replace("30 % go", "3 % go"), results.TABLES)


def test_every_table_is_on_a_page(results):
    text = "".join(page.read_text() for page in PAGES)
    sections = [results.TABLES / name for name in re.findall(r"include:: tables/(\w+\.inc)", text)]
    assert set(sections) == set(results.TABLES.glob("*.inc"))
    text += "".join(path.read_text() for path in sections)
    assert set(re.findall(r":file: (?:\S*tables/)?(\w+)\.csv", text)) == set(results.tables())
