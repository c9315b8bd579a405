"""The examples of the gallery are short, stored results are of the present sources, and cheap pages run.

A page without a stored result runs whenever the documentation is built; `make gallery` stores them all.
"""

import ast
import hashlib
import runpy

import pytest
from support.paths import ROOT

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("plot_*.py"))
STORED = ROOT / "docs" / "auto_examples"
CHEAP = ("plot_02_last_states", "plot_08_filter_bank", "plot_09_own_adapter")


def code_lines(text):
    """Lines with code: no comments, no docstring of the page, no empty lines."""
    tree = ast.parse(text)
    begin = tree.body[0].end_lineno
    lines = text.splitlines()[begin:]
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_page_is_short(path):
    assert len(code_lines(path.read_text())) <= 80


@pytest.mark.parametrize("path", sorted(STORED.glob("plot_*.md5")), ids=lambda path: path.stem)
def test_a_stored_result_is_that_of_its_source(path):
    source = ROOT / "docs" / "examples" / path.stem
    assert path.read_text() == hashlib.md5(source.read_bytes()).hexdigest(), f"make gallery: {source.name}"
    assert source.with_suffix(".ipynb").name in {other.name for other in STORED.iterdir()}
    assert ".. image-sg::" in (STORED / source.name).with_suffix(".rst").read_text()


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_pages_run(name, monkeypatch):
    pytest.importorskip("matplotlib").use("agg")
    pytest.importorskip("sklearn")
    if name == "plot_09_own_adapter":
        pytest.importorskip("torch")
    monkeypatch.chdir(ROOT / "docs" / "examples")
    runpy.run_path(f"{name}.py")
    import matplotlib.pyplot as plt

    assert plt.get_fignums()
    plt.close("all")
