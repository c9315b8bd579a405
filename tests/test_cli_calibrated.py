"""calibrate, prune --method calibrated, and search on the command line."""

import json

import numpy as np
import pytest
from test_elimination import inputs_of
from test_real_checkpoints import DATA, LRU, recorded

import ssmreduce as sr
from ssmreduce.cli import main

CHECKPOINT = str(DATA / LRU / "model.safetensors")


def run_json(capsys, *argv):
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def calibrated(tmp_path, capsys):
    parts = []
    for i, rows in enumerate((slice(0, 100), slice(100, 300))):
        arrays = {name: u[rows] for name, u in inputs_of(LRU).items()}
        mask = {"mask": np.ones((100, 64), dtype=bool)} if i == 0 else {}
        np.savez(tmp_path / f"{i}.npz", **arrays, **mask)
        parts.append(tmp_path / f"{i}.npz")
    found = run_json(capsys, "calibrate", CHECKPOINT, *parts, tmp_path / "c.npz")
    assert all(layer == {"steps": 300 * 64, "length": 64} for layer in found["layers"].values())
    return tmp_path / "c.npz"


def test_calibrate_and_prune(calibrated, tmp_path, capsys):
    small = tmp_path / "small.safetensors"
    options = ["--method", "calibrated", "--calibration", calibrated, "--feedthrough", "--ratio", "0.8"]
    found = run_json(capsys, "prune", CHECKPOINT, small, *options)
    model = recorded(LRU).model
    expected = sr.eliminate(model, sr.calibrate(model, inputs_of(LRU)), ratio=0.8, feedthrough=True)
    assert found["orders"] == expected.orders
    for name, ssm in sr.load(small).items():
        np.testing.assert_allclose(ssm.C, expected[name].C, atol=1e-4 * np.abs(ssm.C).max())
        np.testing.assert_allclose(ssm.D, expected[name].D, atol=1e-4 * np.abs(ssm.D).max())
    assert main(["calibrate", CHECKPOINT, str(tmp_path / "1.npz"), str(tmp_path / "d.npz")]) == 0
    assert "longest" in capsys.readouterr().out


def test_search(calibrated, tmp_path, capsys, monkeypatch):
    (tmp_path / "my_metric.py").write_text("def few(model):\n    return -float(sum(model.orders.values()) < 40)\n")
    monkeypatch.chdir(tmp_path)
    found = run_json(
        capsys, "search", CHECKPOINT, "small.npz", "--calibration", calibrated, "--evaluate", "my_metric:few",
        "--max-loss", "0.5",
    )  # fmt: skip
    assert sum(found["orders"].values()) in (40, 41)
    assert sr.load("small.npz").orders == found["orders"]
    options = ["small.npz", "--calibration", str(calibrated), "--max-loss", "0.5", "--evaluate"]
    assert main(["search", CHECKPOINT, *options, "my_metric:few"]) == 0
    assert "ok" in capsys.readouterr().out
    for wrong in ("my_metric:many", "no_such_module:f", "my_metric"):
        assert main(["search", CHECKPOINT, *options, wrong]) == 1
        assert "MODULE:FUNCTION" in capsys.readouterr().err


@pytest.mark.parametrize("options", [["--method", "calibrated"], ["--method", "last", "--calibration", "c.npz"]])
def test_method_and_file_go_together(options, tmp_path, capsys):
    assert main(["prune", CHECKPOINT, str(tmp_path / "s.npz"), "--ratio", "0.5", *options]) == 1
    assert "go together" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
