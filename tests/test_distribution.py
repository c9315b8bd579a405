"""The recipe, the classifiers and the manifest say what setup.cfg and the tree say."""

import configparser
import re

from support.paths import ROOT

import ssmreduce as sr

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def test_the_recipe_has_the_requirements_of_the_package():
    recipe = (ROOT / "packaging" / "conda" / "meta.yaml").read_text()
    run = recipe.split("  run:\n")[1].split("\n\n")[0]
    needed = re.findall(r"- (\S+) >=(\S+)", run)
    stated = re.findall(r"([\w-]+)>=(\S+)", SETUP["options"]["install_requires"])
    assert needed == [("python", SETUP["options"]["python_requires"].removeprefix(">=")), *stated]
    assert f'version = "{sr.__version__}"' in recipe
    assert SETUP["options.entry_points"]["console_scripts"].strip() in recipe


def test_the_matrix_pins_the_lowest_versions():
    matrix = (ROOT / ".ci" / "matrix").read_text()
    for name in ("numpy", "scipy", "numba"):
        lowest = re.search(rf"^{name}>=(\S+)$", SETUP["options"]["install_requires"], re.MULTILINE)[1]
        assert f"{name}=={lowest}.*" in matrix


def test_the_source_distribution_takes_every_folder():
    grafted = set(re.findall(r"^graft (\S+)$", (ROOT / "MANIFEST.in").read_text(), re.MULTILINE))
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))}
    built = {"build", "dist", "htmlcov"} | {path.name for path in ROOT.glob("*.egg-info")}
    assert folders - built <= grafted | {"ssmreduce"}
