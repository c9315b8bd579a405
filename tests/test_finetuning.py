"""The page on fine-tuning runs as it stands: three steps lower the loss of a pruned layer in both frameworks."""

import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "finetuning.rst"


def test_the_page_runs(monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    monkeypatch.chdir(PAGE.parents[2])  # the page loads a checkpoint of examples/
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert found.attempted > 20
    assert found.failed == 0
