"""Each barrier, index, power and carry of the kernels matters: without it, or with another, some schedule fails."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutants import MUTANTS, SCENARIOS, complaint, mutated, schedules
from shim import compile_shim, needs_compiler
from support.paths import ROOT

from ssmreduce.engines.cuda import _device

pytestmark = needs_compiler
HERE = Path(__file__).parent
RECORD = HERE / "mutants.sha256"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return compile_shim(tmp_path_factory.mktemp("mutants"), "float", mutated(_device.source()))


@pytest.fixture(scope="module")
def complaints(library):
    """What is found wrong with each mutant; a crash counts."""
    found, last = {}, len(MUTANTS) + 1
    paths = [str(HERE), str(ROOT / "tests"), str(ROOT)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    while (first := len(found) + 1) < last:
        command = [sys.executable, str(HERE / "mutants.py"), library._name, str(first), str(last)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        found |= {int(number): text for number, _, text in (line.partition("\t") for line in done.stdout.splitlines())}
        if len(found) + 1 < last:
            assert done.returncode < 0, done.stderr
            found[len(found) + 1] = f"killed by signal {-done.returncode}"
    return found


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_without_a_mutant_all_is_well(library, scenario):
    for schedule in schedules(scenario):
        assert complaint(library, scenario, schedule) is None


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("policy", ["random", "lagging"])
def test_without_a_mutant_all_is_well_under_many_schedules(library, scenario, policy):
    for seed in range(40):
        schedule = {"policy": policy, "resident": seed % 8 + 1, "seed": seed}
        assert complaint(library, scenario, schedule) is None, schedule


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1), ids=lambda n: f"{MUTANTS[n - 1][0]}-{n}")
def test_a_mutant_fails_under_some_schedule(complaints, number):
    assert complaints[number], MUTANTS[number - 1]


def fingerprint():
    """Hash of what the mutants are made of and run on: CUDA sources, host side, shim, scenarios."""
    device = Path(_device.__file__)
    own = (HERE / name for name in ("shim.h", "shim.py", "mutants.py"))
    files = [*sorted(device.parent.glob("*.cu*")), device, *own]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def test_the_mutants_ran_for_these_sources():
    """They take minutes, so they run only where something changed: by `make mutants`, which records the hash."""
    assert RECORD.read_text().strip() == fingerprint(), "the CUDA code changed: run `make mutants`"


if __name__ == "__main__":
    if (code := pytest.main([__file__, "-q", "-m", "", "-k", "mutant_fails or without_a_mutant"])) == 0:
        RECORD.write_text(fingerprint() + "\n")
    raise SystemExit(code)
