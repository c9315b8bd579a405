"""The check of the built site finds links without a target, and what is loaded from elsewhere."""

import importlib.util

from support.paths import ROOT


def links():
    spec = importlib.util.spec_from_file_location("links", ROOT / "docs" / "links.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_site_without_faults(tmp_path):
    (tmp_path / "a.html").write_text('<h1 id="top">A</h1><a href="b.html#b">b</a><a href="https://example.org">far</a>')
    (tmp_path / "b.html").write_text('<h1 id="b">B</h1><img src="c.png"><a href="#b">here</a>')
    (tmp_path / "c.png").write_bytes(b"")
    assert links().complaints(tmp_path) == []


def test_faults_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html">b</a><a href="#gone">x</a><script src="https://cdn.org/x.js">')
    assert links().complaints(tmp_path) == [
        "a.html: no b.html",
        "a.html: no #gone",
        "a.html: loads https://cdn.org/x.js",
    ]
