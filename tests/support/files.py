"""What the tests of files share."""

from importlib.util import find_spec

import pytest

LIBRARY = {".npz": "numpy", ".safetensors": "safetensors", ".msgpack": "msgpack", ".pt": "torch"}
every_suffix = pytest.mark.parametrize(
    "suffix",
    [
        pytest.param(suffix, marks=pytest.mark.skipif(find_spec(library) is None, reason=f"needs {library}"))
        for suffix, library in LIBRARY.items()
    ],
)


def assert_nothing_but(folder, *names):
    """A folder holds these files and no others."""
    assert sorted(entry.name for entry in folder.iterdir()) == sorted(names)
