"""The cache of compiled code: no place for it, damaged files, processes that compile at once."""

import io
import os
import subprocess
import sys

import numba
import pytest

from ssmreduce._support.compiled import _say_compiling, compiled, interpreted, key_of

DEFERRED = """
import sys
sys.path.insert(0, {folder!r})
import plain
from ssmreduce._support.compiled import Deferred
twice = Deferred(plain.twice, 10, {{}})
forms = [twice.chosen((3,), 4) for _ in range(4)]
print(*(form is plain.twice for form in forms), *(form(3) for form in forms), len(plain.twice.signatures))
"""
PROGRAM = """
import sys, warnings
sys.path.insert(0, {folder!r})
warnings.simplefilter("always")
import plain
print(plain.twice(3), plain.twice(1.5))
"""
MODULE = "from ssmreduce._support.compiled import compiled\n\n\n@compiled\ndef twice(x):\n    return 2 * x\n"


def run(folder, program=PROGRAM, **environment):
    (folder / "plain.py").write_text(MODULE) if not (folder / "plain.py").exists() else None
    program = program.format(folder=str(folder))
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_without_a_place_functions_still_run_and_say_how_to_get_one(tmp_path):
    (tmp_path / "file").write_text("no directory")
    found = run(tmp_path, NUMBA_CACHE_LOCATOR_CLASSES="UserProvidedCacheLocator", NUMBA_CACHE_DIR="")
    assert found.stdout == "6 3.0\n", found.stderr
    assert "CacheWarning" in found.stderr
    assert "NUMBA_CACHE_DIR" in found.stderr


@pytest.mark.parametrize("content", [b"", b"\x80", b"no pickle"])
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_damaged_files_are_compiled_anew(kind, content, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    assert run(tmp_path, NUMBA_CACHE_DIR=str(cache)).returncode == 0
    files = list(cache.rglob(f"*.{kind}"))
    assert files
    for file in files:
        file.write_bytes(content)
    found = run(tmp_path, NUMBA_CACHE_DIR=str(cache))
    assert (found.stdout, found.stderr) == ("6 3.0\n", "")
    if kind == "nbi":
        assert all(file.stat().st_size > len(content) for file in files)


def test_code_of_other_types_is_not_run(tmp_path):
    """Two processes that compile at once can give their files one number."""
    cache = tmp_path / "cache"
    cache.mkdir()
    run(tmp_path, NUMBA_CACHE_DIR=str(cache))
    one, two = sorted(cache.rglob("*.nbc"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    found = run(tmp_path, NUMBA_CACHE_DIR=str(cache))
    assert (found.stdout, found.stderr) == ("6 3.0\n", "")


def test_functions_are_compiled_once_it_pays_and_taken_from_the_disk_then(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    first = run(tmp_path, DEFERRED, NUMBA_CACHE_DIR=str(cache))
    assert (first.stdout, first.stderr) == ("False False True True 6 6 6 6 1\n", "")
    again = run(tmp_path, DEFERRED, NUMBA_CACHE_DIR=str(cache))
    assert (again.stdout, again.stderr) == ("True True True True 6 6 6 6 1\n", "")


def test_interpreted_functions_call_interpreted_ones_and_those_given_instead(tmp_path, monkeypatch):
    more = "\n\ndef plus(x):\n    return x + 1\n\n\n@compiled\ndef both(x):\n    return twice(plus(x))\n"
    (tmp_path / "nested.py").write_text(MODULE + more)
    monkeypatch.syspath_prepend(tmp_path)
    import nested

    assert interpreted(nested.both)([1][0]) == 4
    assert interpreted(nested.both, {"twice": lambda x: 3 * x})(1) == 6
    assert nested.both.signatures == nested.twice.signatures == []


def fresh():
    def twice(x):
        return 2 * x

    return twice


def test_code_on_disk_is_found_by_its_key(tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    hits = []
    for key in ("one", "one", "other"):
        function = compiled(fresh(), key=key)
        assert function(3) == 6
        hits.append(sum(function.stats.cache_hits.values()))
    assert hits == [0, 1, 0]


@pytest.mark.parametrize("terminal", [True, False])
def test_who_sits_at_a_terminal_is_told_once_what_takes_so_long(terminal, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    _say_compiling.cache_clear()
    for key in ("one", "other"):
        compiled(fresh(), key=key)(3)
    assert sys.stderr.getvalue().count("ssmreduce: compiling loops") == terminal


def test_the_key_changes_with_the_text(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("text")
    first = key_of(files)
    assert key_of(reversed(files)) == first
    files[1].write_text("text ")
    assert key_of(files) != first
