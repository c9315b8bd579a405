"""reduce, compress, sweep and compare on the command line, with files and with live networks."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import run_json
from support.paths import ROOT

import ssmreduce as sr
from ssmreduce.cli import main

CHECKPOINT = str(ROOT / "examples" / "s5_digits" / "model.safetensors")
FACTORY = f"""
import numpy as np
import ssmreduce as sr

X = np.random.default_rng(0).random((20, 64, 1))

def make():
    model = sr.load({CHECKPOINT!r})
    return sr.network(sr.networks.s5_digits, model=model), [X]

def alone():
    return make()[0]

def in_torch():
    import torch
    from torch_networks import lru_digits

    return lru_digits(), [torch.from_numpy(X).float()]

def broken():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    (tmp_path / "my_network.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_network", raising=False)
    return tmp_path


def test_version(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.strip() == f"ssmreduce {sr.__version__}"


def test_reduce_by_names(home, capsys):
    found = run_json(capsys, "reduce", CHECKPOINT, "s.npz", "--method", "modal", "--orders", "layers.0.seq=10")
    model = sr.load(CHECKPOINT)
    assert found["orders"] == {**model.orders, "layers.0.seq": 10}
    expected = sr.reduce(model, {"layers.0.seq": 10}, method="modal")
    small = sr.load("s.npz", adapter=model.adapter)
    np.testing.assert_allclose(small["layers.0.seq"].Lambda, expected["layers.0.seq"].Lambda, rtol=1e-5)
    with pytest.raises(SystemExit):
        main(["reduce", CHECKPOINT, "t.npz", "--orders", "layers.0.seq=10", "20"])
    assert main(["prune", CHECKPOINT, "t.npz", "--orders", "layers.9.seq=10"]) == 1
    assert not Path("t.npz").exists()


def test_prune_by_names(home, capsys):
    found = run_json(capsys, "prune", "my_network:alone", "s.npz", "--orders", "layers.1.seq=7")
    assert found["orders"] == {**sr.load(CHECKPOINT).orders, "layers.1.seq": 7}
    assert found["bytes_before"] is None


def test_compress_and_compare_a_live_network(home, capsys):
    found = run_json(
        capsys, "compress", "my_network:make", "s.safetensors", "--finish", "none", "--ratio", "0.7",
        "--method", "eliminate",
    )  # fmt: skip
    small = sr.load("s.safetensors")
    assert sum(found["orders"].values()) == sum(small.orders.values()) == 76
    compared = run_json(capsys, "compare", CHECKPOINT, "s.safetensors", "--network", "my_network:make", "--quick")
    assert compared["rows"][1]["agreement"] == found["agreement"]
    assert compared["rows"][1]["network_error"] == pytest.approx(found["network_error"], rel=1e-3)


def test_compress_writes_what_restores_a_torch_network(home, capsys, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    from torch_networks import lru_digits

    options = ["--steps", "3", "--ratio", "0.5"]
    found = run_json(capsys, "compress", "my_network:in_torch", "s.safetensors", *options)
    restored = sr.networks.restore(lru_digits(), "s.safetensors")
    assert sr.network(restored).model.orders == found["orders"]
    x = torch.from_numpy(np.random.default_rng(0).random((20, 64, 1))).float()
    same = restored(x).argmax(1) == lru_digits()(x).argmax(1)
    assert float(same.double().mean()) == pytest.approx(found["agreement"])
    quick = ["--method", "eliminate", "--finish", "none"]
    assert main(["compress", "my_network:in_torch", "folder", *quick]) == 0
    assert sorted(path.name for path in Path("folder").iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_search_by_agreement(home, capsys):
    options = ["--finish", "none", "--method", "eliminate", "--tolerance", "0.3"]
    found = run_json(capsys, "search", "my_network:make", "s.safetensors", "--agreement", "0.6", *options)
    net, batches = sys.modules["my_network"].make()
    recipe = {"finish": None, "method": "eliminate", "tolerance": 0.3}
    expected = sr.search(net, batches, agreement=0.6, **recipe)
    assert found["points"] == expected.to_dict()["points"]
    assert found["value"] >= 0.6
    assert sr.load("s.safetensors").orders == found["orders"] == expected.model.orders
    assert main(["search", "my_network:make", "s.safetensors", "--agreement", "2", *options]) == 1
    assert "agreement must be in (0, 1]" in capsys.readouterr().err


def test_progress_is_shown_on_a_terminal_only(home, capsys, monkeypatch):
    command = ["reduce", CHECKPOINT, "s.npz", "--method", "modal", "--ratio", "0.5"]
    assert main(command) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    assert main(command) == 0
    assert "reducing" in capsys.readouterr().err


def test_sweep_by_agreement(home, capsys):
    found = run_json(capsys, "sweep", "my_network:make", "--methods", "last", "--ratios", "0", "0.9")
    assert found["rows"][0]["value"] == 1.0
    assert [row["states"] for row in found["rows"]] == [256, 25]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compress", "my_network:alone", "s.npz", "--finish", "none"], "gives no batches"),
        (["compress", "my_network:broken", "s.npz"], "RuntimeError: no weights"),
        (["compress", "my_network:none", "s.npz"], "has no attribute"),
        (["compress", "my_network:make", "s.npz"], "finish=None"),
    ],
)
def test_what_is_wrong_with_a_factory_is_said(argv, message, home, capsys):
    assert main(argv) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("s.npz").exists()


@pytest.mark.parametrize(
    "argv",
    [["compress", CHECKPOINT, "s.npz"], ["sweep", CHECKPOINT], ["search", CHECKPOINT, "s.npz", "--agreement", "0.9"]],
)
def test_wrong_usage_of_a_file(argv, home, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "MODULE:FUNCTION" in capsys.readouterr().err
