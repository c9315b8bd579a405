"""The import law: one order of the rooms, relative imports to the left only, and a light `import ssmreduce`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssmreduce

# This list is the law: a room imports only from rooms before it. Rooms that are not built yet have their place.
ORDER = [
    "errors",
    "_arguments",
    "_optional",
    "_whole",
    "_arrays",
    "trees",
    "kernels",
    "scan",
    "systems",
    "model",
    "discretize",
    "conversions",
    "responses",
    "dense",
    "gramians",
    "hankel",
    "level_set",
    "exclusion",
    "wide",
    "peak_gain",
    "norms",
    "pair_norms",
    "finite_horizon",
    "scores",
    "selection",
    "calibration",
    "reduction",
    "certificates",
    "checkpoints",
    "adapters",
    "loading",
    "sweep",
    "search",
    "report",
    "plot",
    "cli",
    "__main__",
    "__init__",
]
ALSO = {"kernels": {"errors", "_arrays", "_optional"}}  # rooms that see less than what stands before them
# kernels that are compiled throughout
COMPILED = {"_cauchy", "_circle", "_cover", "_exclusion", "_host", "_intrinsics", "_mimo", "_peak"}
COMPILED |= {"_scan_ir", "_siso", "_siso_ir", "_vector_ir"}
LAZY = {"torch", "jax", "jaxlib", "flax", "matplotlib", "control", "cupy", "numba"}

PACKAGE = Path(ssmreduce.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def dotted(path):
    """Module below the package: 'kernels._numba', 'kernels', 'errors'; '__init__' for the package itself."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in MODULES}


def imported(source, path):
    """Modules of the package that a file imports, the package root as '', and complaints about the way it does."""
    modules, complaints = set(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            complaints += [f"line {node.lineno}: absolute" for a in node.names if a.name.split(".")[0] == "ssmreduce"]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            complaints += [f"line {node.lineno}: absolute"] * (node.module.split(".")[0] == "ssmreduce")
        elif isinstance(node, ast.ImportFrom):
            folder = path.parent.parts
            base = folder[: len(folder) - node.level + 1]
            if node.level - 1 > len(folder):
                complaints.append(f"line {node.lineno}: beyond the package")
            for alias in node.names:
                target = ".".join([*base, node.module] if node.module else base)
                submodule = f"{target}.{alias.name}".lstrip(".")
                modules.add(submodule if submodule in NAMES else target)
    return modules, complaints


def unlawful(source, path):
    """What a file imports against the law."""
    modules, complaints = imported(source, path)
    room = dotted(path).split(".")[0]
    allowed = ALSO.get(room, set(ORDER[: ORDER.index(room)])) | ({room} if len(path.parts) > 1 else set())
    for module in sorted(modules):
        if module == "":
            complaints.append("imports the package root")
        elif module.split(".")[0] not in allowed:
            complaints.append(f"{module} stands to the right of {room}, or is out of its sight")
        elif module == room and dotted(path) != room:
            complaints.append(f"imports the __init__ of its own folder, {room}")
    return complaints


def test_every_module_has_its_place():
    assert {name.split(".")[0] for name in NAMES} <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_the_law(path):
    assert unlawful((PACKAGE / path).read_text(), path) == []


def test_no_cycle_inside_a_folder():
    graph = {dotted(path): imported((PACKAGE / path).read_text(), path)[0] for path in MODULES}
    done = set()
    while ready := {name for name in graph if name not in done and graph[name] <= done}:
        done |= ready
    assert set(graph) == done


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        ("from .scores import score", "norms.py", "right of norms"),
        ("def f():\n    from .cli import main", "norms.py", "right of norms"),
        ("import ssmreduce.errors", "norms.py", "line 1: absolute"),
        ("from ssmreduce import errors", "norms.py", "line 1: absolute"),
        ("from . import h2_norm", "scores.py", "package root"),
        ("from .. import h2_norm", "adapters/s5.py", "package root"),
        ("from ... import h2_norm", "adapters/s5.py", "beyond the package"),
        ("from ..systems import DiagonalSSM", "kernels/_numba.py", "out of its sight"),
        ("from . import detect", "adapters/s5.py", "own folder"),
        ("from ..cli import main", "adapters/s5.py", "right of adapters"),
    ],
)
def test_the_law_is_enforced(source, path, words):
    assert any(words in complaint for complaint in unlawful(source, Path(path)))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from .errors import ShapeError\nfrom . import kernels", "norms.py"),
        ("from ._base import Adapter\nfrom ..systems import DiagonalSSM\nfrom . import _base", "adapters/s5.py"),
        ("import numpy as np\nfrom scipy import linalg", "norms.py"),
    ],
)
def test_what_the_law_allows(source, path):
    assert unlawful(source, Path(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_heavy_packages_are_imported_on_use(path):
    """Only the engine of a compiler or a device imports it where its file begins."""
    found = set()
    for node in ast.parse((PACKAGE / path).read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    own = {dotted(path).removeprefix("kernels._")} if path.parts[0] == "kernels" else set()
    if path.stem in COMPILED:
        own.add("numba")
    assert found & LAZY <= own


def in_fresh_python(code, tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def test_import_loads_no_framework_and_compiles_nothing(tmp_path):
    out = in_fresh_python("import sys, ssmreduce; print(*sys.modules)", tmp_path).split()
    assert "ssmreduce.responses" in out  # the list is the one of a real import
    assert LAZY & {name.split(".")[0] for name in out} == set()
    assert list(tmp_path.iterdir()) == []


def test_scoring_and_the_reference_engine_need_no_compiler(tmp_path):
    code = """
import sys, numpy as np, ssmreduce as sr
ssm = sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])
sr.hinf(ssm), sr.h2_norm(ssm), sr.frequency_response(ssm, [0.1]), sr.impulse_response(ssm, 3)
sr.simulate(ssm, np.ones((4, 1)), engine="reference")
print(*sys.modules)
"""
    assert LAZY & {name.split(".")[0] for name in in_fresh_python(code, tmp_path).split()} == set()
