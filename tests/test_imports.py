"""The import law: one order of the rooms, relative imports to the left only, and a light `import ssmreduce`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssmreduce

# This list is the law: a room imports only from rooms before it. Rooms that are not built yet have their place. A
# folder inside a room stands immediately before its parent, but for what the whole room builds on.
ORDER = [
    "errors",
    "_support",
    "systems",
    "engines._layer",
    "engines.numba",
    "engines.cuda",
    "engines",
    "responses",
    "norms.peak",
    "norms",
    "realization",
    "selective",
    "adapters",
    "models",
    "networks",
    "calibration",
    "selection",
    "reduction.methods",
    "reduction.calibrated",
    "reduction",
    "evaluation",
    "plot",
    "reporting",
    "cli",
    "__main__",
    "__init__",
]
# From the files of another room only what its __init__ lists may be taken, or these helpers. `_support` is all helpers.
SHARED = {
    "calibration._accumulate": {"layer_moments"},
    "calibration._inputs": {"sequences"},
    "calibration._moments": {"CALIBRATION_ADVICE"},
    "engines._layer": {"BlockedProducts", "Layer", "Products", "Response", "require_finite_where"},
    "adapters._alternatives": {"other_flags", "square_arrays", "transposed", "with_flag"},
    "adapters._flat": {
        "Parts",
        "Structure",
        "feedthrough",
        "flatten_states",
        "is_diagonal",
        "padded_system",
        "real_parameters",
        "system_of",
    },
    "adapters._detect": {"recognised"},
    "engines": {"_torch"},
    "engines.cuda": {"_cupy", "_cupy_look_back"},
    "engines.numba": {"_engine"},
    "evaluation._certificates": {"Original"},
    "evaluation._compare": {"ComparisonRow", "LayerComparison", "certified"},
    "evaluation._on_data": {"OnData"},
    "models._checkpoints": {"format_of", "read_contents", "read_file", "write_arrays", "write_file"},
    "models._folders": {"read_folder"},
    "models._model": {"FORMS", "MODEL_ADVICE", "changed", "overwrite_states", "write_states"},
    "networks._batches": {"Inputs", "arguments"},
    "networks._selective": {"has_mixers"},
    "networks._torch": {"RECORD_ATTRIBUTE"},
    "norms._gramians": {"one_minus_products", "real_factor", "real_gramian", "safe_cholesky", "unit_diagonal"},
    "norms._norms": {"squared_norms"},
    "responses._gains": {"frequencies", "singular_values"},
    "selective._forward": {"Signals", "conv_input", "readout", "recur", "signals_of"},
    "selective._functions": {"linear"},
    "reduction.calibrated._balanced": {"balance_calibrated"},
    "reduction.calibrated._finish": {"OutputError"},
    "reduction.calibrated._network_data": {"Part", "batch_list", "recorded"},
    "reduction.methods._compensated": {"refitted_layer"},
    "selection._outputs": {"RIDGE", "OutputFit", "check_moments", "is_diagonal", "output_weights", "with_weights"},
    "selection._path": {"elimination_order"},
    "selection._scores": {"ALLOCATIONS", "CRITERIA", "PRESETS", "Criterion"},
    "systems._batches": {"batched", "difference", "joined", "single_systems", "stable_part"},
    "systems._diagonalise": {"WORST_CONDITION", "Eigensystem"},
    "systems._discretize": {"METHODS"},
    "systems._error": {"without_silent"},
    "systems._guards": {"require_causal", "require_stable", "require_stable_dense"},
    "systems._real": {"advance", "output_rows", "real_inputs", "real_outputs", "widening", "with_outputs"},
    "systems._states": {"require_system", "silence_states", "take_states"},
    "systems._systems": {"on_host", "require_diagonal"},
}
LAZY = {"torch", "jax", "jaxlib", "flax", "equinox", "matplotlib", "control", "cupy", "numba"}
# Files that are compiled throughout, or are the engine of a framework, import it where they begin.
OWN = {
    "_support/compiled.py": "numba",
    "_support/exact.py": "numba",
    "norms/_cauchy.py": "numba",
    "norms/_cauchy_twofold.py": "numba",
    **{f"norms/peak/_{name}.py": "numba" for name in ("bounds", "circle", "cover", "sample", "search")},
    **{
        f"engines/numba/_{name}.py": "numba"
        for name in (
            "channels_ir",
            "channels_loops",
            "scan_ir",
            "scan_loops",
            "team_ir",
            "vector_ir",
            "wide_ir",
            "wide_loops",
        )
    },
    "engines/cuda/_cupy.py": "cupy",
    "engines/_jax.py": "jax",
    "engines/_torch.py": "torch",
    **{
        f"networks/_torch_{name}.py": "torch"
        for name in (
            "calls",
            "checks",
            "files",
            "forms",
            "kernels",
            "layers",
            "measured",
            "places",
            "run",
            "s4d",
            "scan",
            "stepper",
            "trace",
        )
    },
    **{f"networks/_jax_{name}.py": "jax" for name in ("files", "host", "layers", "models", "network")},
    **{f"networks/_{name}.py": {"jax", "flax"} for name in ("flax_layers", "flax_network", "nnx_network")},
    **{f"networks/_equinox_{name}.py": {"jax", "equinox"} for name in ("layers", "network")},
    "selective/_loops.py": "numba",
    "selective/_torch_scan.py": "torch",
    "networks/_mixers.py": "torch",
}

PACKAGE = Path(ssmreduce.__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def dotted(path):
    """Module below the package: 'engines.numba._wide', 'engines', 'errors'; '__init__' for the package itself."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in MODULES}


def room_of(module):
    """The innermost room, folder or file of the list that holds a module."""
    return max((room for room in ORDER if f"{module}.".startswith(f"{room}.")), key=len, default=None)


def listed(room):
    """Names in ``__all__`` of a room; of a room that is one file, everything."""
    path = PACKAGE.joinpath(*room.split("."), "__init__.py")
    if not path.exists():
        return None
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return {element.value for element in node.value.elts}
    return set()


def imported(source, path):
    """Pairs (module of the package, name taken from it or None) of a file, and complaints about the way it imports."""
    taken, complaints = set(), []
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
            target = ".".join([*base, node.module] if node.module else base)
            taken |= {(target, alias.name) for alias in node.names}
    return taken, complaints


def modules_of(taken):
    """The modules that are imported, submodules taken by name among them."""
    joined = ((target, f"{target}.{name}".lstrip(".")) for target, name in taken)
    return {submodule if submodule in NAMES else target for target, submodule in joined}


def may_take(room, target, name):
    """Whether other rooms may take a name from a file or a folder of a room."""
    public = listed(room)
    return name in SHARED.get(target, set()) or (target == room and (public is None or name in public))


def unlawful(source, path):
    """What a file imports against the law."""
    taken, complaints = imported(source, path)
    own, folder = room_of(dotted(path)), ".".join(path.parent.parts)
    for target, name in sorted(taken):
        module = f"{target}.{name}".lstrip(".")
        module = module if module in NAMES else target
        room = room_of(module)
        if module == "":
            complaints.append("imports the package root")
        elif module == folder and path.name != "__init__.py":
            complaints.append(f"imports the __init__ of its own folder, {folder}")
        elif room == own:
            continue
        elif ORDER.index(room) > ORDER.index(own):
            complaints.append(f"{module} stands to the right of {own}")
        elif room != "_support" and not module == room != target and not may_take(room, target, name):
            complaints.append(f"{name} of {target} is neither listed by its room nor a shared helper")
    return complaints


def test_every_module_has_its_place():
    assert {name for name in NAMES if room_of(name) is None} <= {"", "__init__"}
    assert len(set(ORDER)) == len(ORDER)


def test_every_shared_helper_is_shared():
    taken = {pair for path in MODULES for pair in imported((PACKAGE / path).read_text(), path)[0]}
    assert {(target, name) for target, names in SHARED.items() for name in names} <= taken


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_the_law(path):
    assert unlawful((PACKAGE / path).read_text(), path) == []


def test_no_cycle_inside_a_folder():
    graph = {dotted(path): modules_of(imported((PACKAGE / path).read_text(), path)[0]) for path in MODULES}
    done = set()
    while ready := {name for name in graph if name not in done and graph[name] <= done}:
        done |= ready
    assert set(graph) == done


@pytest.mark.parametrize(
    ("source", "path", "words"),
    [
        ("from ..selection import score", "norms/_norms.py", "right of norms"),
        ("def f():\n    from ..cli import main", "norms/_norms.py", "right of norms"),
        ("from .. import PeakGain", "norms/peak/_cover.py", "right of norms.peak"),
        ("import ssmreduce.errors", "norms/_norms.py", "line 1: absolute"),
        ("from ssmreduce import errors", "norms/_norms.py", "line 1: absolute"),
        ("from .. import h2_norm", "adapters/_s5.py", "package root"),
        ("from ... import h2_norm", "adapters/_s5.py", "beyond the package"),
        ("from ..responses import simulate", "engines/_torch.py", "right of engines"),
        ("from . import detect", "adapters/_s5.py", "own folder"),
        ("from ..norms._hankel import _COUNT", "selection/_scores.py", "neither listed"),
        ("from ..norms import _hankel", "selection/_scores.py", "neither listed"),
    ],
)
def test_the_law_is_enforced(source, path, words):
    assert any(words in complaint for complaint in unlawful(source, Path(path)))


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("from ..errors import ShapeError\nfrom ..responses import simulate", "norms/_norms.py"),
        ("from ._base import Adapter\nfrom ..systems import DiagonalSSM\nfrom . import _base", "adapters/_s5.py"),
        ("from ..norms import h2_norm\nfrom ..norms._norms import squared_norms", "selection/_scores.py"),
        ("import numpy as np\nfrom scipy import linalg", "norms/_norms.py"),
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
    own = OWN.get(path.as_posix(), set())
    assert found & LAZY <= ({own} if isinstance(own, str) else own)


def in_fresh_python(code, tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


def test_import_loads_no_framework_and_compiles_nothing(tmp_path):
    out = in_fresh_python("import sys, ssmreduce; print(*sys.modules)", tmp_path).split()
    assert "ssmreduce.responses._responses" in out  # the list is the one of a real import
    assert LAZY & {name.split(".")[0] for name in out} == set()
    assert list(tmp_path.iterdir()) == []


def test_scoring_and_the_reference_engine_need_no_compiler(tmp_path):
    code = """
import sys, numpy as np, ssmreduce as sr
ssm = sr.DiagonalSSM([0.5], [[1.0]], [[1.0]], [[0.0]])
sr.selection.hinf(ssm), sr.h2_norm(ssm), sr.frequency_response(ssm, [0.1]), sr.impulse_response(ssm, 3)
sr.simulate(ssm, np.ones((4, 1)), engine="reference")
print(*sys.modules)
"""
    assert LAZY & {name.split(".")[0] for name in in_fresh_python(code, tmp_path).split()} == set()
