"""What the wheel ships beside the modules."""

import configparser
from pathlib import Path

import ssmreduce

PACKAGE = Path(ssmreduce.__file__).parent


def test_every_file_of_the_package_is_shipped():
    config = configparser.ConfigParser()
    config.read(PACKAGE.parent / "setup.cfg")
    patterns = {package: text.split(", ") for package, text in config["options.package_data"].items()}
    shipped = {
        file
        for package, globs in patterns.items()
        for pattern in globs
        for file in PACKAGE.parent.joinpath(*package.split(".")).glob(pattern)
    }
    beside = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in beside if path.suffix != ".py"} == shipped
    assert {".cu", ".cuh", ".typed"} <= {path.suffix for path in shipped}


def test_docstring_examples_need_no_checkout():
    lines = [line for path in PACKAGE.rglob("*.py") for line in path.read_text().splitlines() if ">>>" in line]
    assert len(lines) > 300
    assert [line for line in lines if "examples/" in line or "torch_networks" in line] == []
