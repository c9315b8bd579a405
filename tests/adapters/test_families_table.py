"""The table of families in the guide is that of the registry, and the tests cover what it says."""

import importlib.util

import numpy as np
from support.families import CASES
from support.more_families import MORE_CASES
from support.paths import ROOT

PAGE = ROOT / "docs" / "guide" / "families.rst"


def generated():
    spec = importlib.util.spec_from_file_location("families_table", ROOT / "docs" / "families_table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_the_table_of_the_registry():
    assert generated().table() in PAGE.read_text(), "run python docs/families_table.py and paste what it prints"


def test_every_family_of_the_table_is_tested_in_both_directions_that_it_has():
    table = generated()
    cases = [*CASES.values(), *MORE_CASES.values()]
    for name, cls in table.FAMILIES.items():
        ours = [case for case in cases if case.adapter.name == name]
        assert ours
        if table.row(cls)[table.HEAD.index("bidirectional")]:
            systems = []
            for case in ours:
                params = case.params(np.random.default_rng(0), prefix="layer.")
                systems.append(case.adapter.get(params, "layer"))
            assert any(ssm.bidirectional for ssm in systems), name


# The tests that run live networks of a family, by framework.
LIVE = {
    "PyTorch": {
        "S5PyTorch": "networks/test_torch_network.py",
        "S4D": "networks/test_torch_network.py",
        "LRU": "networks/test_torch_network.py",
        "S4Block": "networks/test_torch_families.py",
        "DSS": "networks/test_torch_families.py",
        "ATENNuate": "networks/test_torch_families.py",
        "S4DPLR": "networks/test_torch_more_families.py",
        "LrnnxS5": "networks/test_torch_more_families.py",
        "Centaurus": "networks/test_torch_more_families.py",
        "CentaurusFull": "networks/test_torch_more_families.py",
    },
    "Flax": {
        "S5": "networks/test_flax_network.py",
        "LRU": "networks/test_equinox_network.py",
        "AnnotatedS4D": "networks/test_jax_families.py",
        "AnnotatedS4": "networks/test_jax_families.py",
        "EventSSM": "networks/test_jax_families.py",
    },
    "Equinox": {
        "LRU": "networks/test_equinox_network.py",
        "S4D": "networks/test_jax_families.py",
        "LinOSS": "networks/test_jax_families.py",
    },
}


def test_every_live_network_of_the_table_has_its_test():
    table = generated()
    for framework, tests in LIVE.items():
        said = {cls.__name__ for cls in table.FAMILIES.values() if table.row(cls)[table.HEAD.index(framework)]}
        assert said == set(tests), framework
        for name, path in tests.items():
            text = (ROOT / "tests" / path).read_text()
            assert name in text or name.lower() in text.lower(), (framework, name)


def test_every_family_says_how_its_live_layers_are_called():
    for cls in generated().FAMILIES.values():
        assert cls.calls, cls.name
        for call in cls.calls:
            assert call.framework in generated().FRAMEWORKS
            for axes in (call.input, call.output):
                assert set(axes) <= set("blh")
                assert {"l", "h"} <= set(axes)
            assert call.returns[0] == "y"
