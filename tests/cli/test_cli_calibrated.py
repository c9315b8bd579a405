"""calibrate, prune --method calibrated, and search on the command line."""

import sys

import numpy as np
import pytest
from support.command_line import run_json
from support.paths import DATA
from support.recorded import LRU, S4D, inputs_of, recorded

import ssmreduce as sr
from ssmreduce.cli import _prune, main

CHECKPOINT = str(DATA / LRU / "model.safetensors")


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


def test_calibrate_and_prune(calibrated, tmp_path, capsys, monkeypatch):
    loads, load = [], _prune.load_calibration
    monkeypatch.setattr(_prune, "load_calibration", lambda path: loads.append(path) or load(path))
    small = tmp_path / "small.safetensors"
    options = ["--method", "calibrated", "--calibration", calibrated, "--feedthrough", "--ratio", "0.8"]
    found = run_json(capsys, "prune", CHECKPOINT, small, *options)
    model = recorded(LRU).model
    expected = sr.eliminate(model, sr.calibrate(model, inputs_of(LRU)), ratio=0.8, feedthrough=True)
    assert found["orders"] == expected.orders
    assert len(loads) == 1
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
    for wrong in ("my_metric:many", "no_such_module:f"):
        assert main(["search", CHECKPOINT, *options, wrong]) == 1
        assert "MODULE:FUNCTION" in capsys.readouterr().err


WRONG = {
    "--calibration": ["prune", "--method", "calibrated"],
    "--calibration and last": ["prune", "--method", "last", "--calibration", "c.npz"],
    "--feedthrough": ["prune", "--method", "last", "--feedthrough"],
    "--feedthrough of scores": ["score", "--feedthrough"],
    "--allocation": ["prune", "--method", "calibrated", "--calibration", "c.npz", "--allocation", "global"],
    "--seed": ["prune", "--seed", "3"],
    "--seed negative": ["score", "--method", "random", "--seed", "-1"],
    "--seed of noise": ["compare", "--seed", "-1"],
    "--min-states": ["prune", "--min-states", "3", "--orders", "9", "9", "9"],
    "--ties": ["prune", "--ties", "keep", "--threshold", "0.5"],
    "--set without =": ["inspect", "--adapter", "lru", "--set", "conj_sym"],
    "--set twice": ["inspect", "--adapter", "lru", "--set", "a=1", "--set", "a=2"],
    "--evaluate": ["search", "--calibration", "c.npz", "--max-loss", "1", "--evaluate", "metrics"],
    "--calibration, --evaluate": ["search", "--evaluate", "metrics:f"],
    "--max-loss": ["search", "--agreement", "0.9", "--max-loss", "1"],
    "--finish,": ["search", "--calibration", "c.npz", "--max-loss", "1", "--evaluate", "m:f", "--finish", "none"],
    "--evaluate without a module": ["search", "--calibration", "c.npz", "--max-loss", "1", "--evaluate", ":f"],
}


@pytest.mark.parametrize("case", WRONG)
def test_an_option_that_would_do_nothing_is_wrong_usage(case, tmp_path, capsys):
    command, *options = WRONG[case]
    files = {"prune": [str(tmp_path / "s.npz")], "search": [str(tmp_path / "s.npz")], "compare": [CHECKPOINT]}
    rule = ["--ratio", "0.5"] if command == "prune" and not {"--orders", "--threshold"} & set(options) else []
    with pytest.raises(SystemExit) as exit_:
        main([command, CHECKPOINT, *files.get(command, []), *rule, *options])
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert f"usage: ssmreduce {command}" in message
    assert case.split()[0] in message.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def search_options(tmp_path, calibrated):
    return [CHECKPOINT, str(tmp_path / "s.npz"), "--calibration", str(calibrated), "--max-loss", "1", "--evaluate"]


METRIC = """
import sys
print("loading")

def zero(model):
    return helper()

def helper():
    return 1 / 0

def text(model):
    return "good"

def late(model):
    import my_helper
    print("evaluating")
    return my_helper.VALUE

constant = 3
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "my_metrics:zero",
            "my_metrics:zero raised ZeroDivisionError: division by zero (my_metrics.py, line 9), on the",
        ),
        ("my_metrics:text", "must be a number, got 'good'"),
        ("my_metrics:constant", "it cannot be called"),
        ("my_metrics:missing", "has no attribute 'missing'"),
        ("my_broken:f", "MODULE:FUNCTION, and 'my_broken:f' is not one: SyntaxError"),
    ],
)
def test_what_the_users_function_does_wrong_is_said(name, message, calibrated, tmp_path, capsys, monkeypatch):
    (tmp_path / "my_metrics.py").write_text(METRIC)
    (tmp_path / "my_broken.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    assert main(["search", *search_options(tmp_path, calibrated), name]) == 1
    captured = capsys.readouterr()
    assert message in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "s.npz").exists()


def test_what_the_users_function_imports_and_prints(calibrated, tmp_path, capsys, monkeypatch):
    (tmp_path / "my_metrics.py").write_text(METRIC)
    (tmp_path / "my_helper.py").write_text("VALUE = 1.0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    path = list(sys.path)
    found = run_json(
        capsys,
        "search",
        *search_options(tmp_path, calibrated),
        "my_metrics:late",
        "--min-states",
        5,
        "--tolerance",
        0.5,
    )
    assert min(found["orders"].values()) >= 5
    assert sys.path == path


def test_search_fails_before_its_work_is_done(tmp_path, capsys):
    def options(output, checkpoint=CHECKPOINT):
        return [checkpoint, str(output), "--calibration", "none.npz", "--max-loss", "1", "--evaluate", "my_metrics:f"]

    for output, message in ((tmp_path / "s.txt", "cannot tell a format"), (tmp_path / "no" / "s.npz", "directory")):
        assert main(["search", *options(output)]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["search", *options(tmp_path / "s.npz", str(DATA / S4D / "model.safetensors"))])
    assert "--scope system" in capsys.readouterr().err


def test_recorded_inputs_are_not_written_over(calibrated, tmp_path, capsys):
    files = [tmp_path / "0.npz", tmp_path / "1.npz"]
    before = files[1].read_bytes()
    assert main(["calibrate", CHECKPOINT, *map(str, files)]) == 1
    assert "the last argument, is where the calibration goes" in capsys.readouterr().err
    assert files[1].read_bytes() == before
    assert main(["calibrate", CHECKPOINT, str(files[0]), str(calibrated)]) == 0  # an older calibration may go


def test_calibrate_shows_a_bar(calibrated, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["calibrate", CHECKPOINT, str(tmp_path / "0.npz"), str(tmp_path / "1.npz"), str(calibrated)]) == 0
    assert "calibrating" in capsys.readouterr().err


def test_inputs_that_do_not_fit_are_named(tmp_path, capsys):
    np.savez(tmp_path / "wrong.npz", other=np.ones((2, 8, 24)))
    np.savez(tmp_path / "empty.npz", mask=np.ones((2, 8), dtype=bool))
    for name, message in (("wrong", "there is no layer 'other'"), ("empty", "holds no layer")):
        assert main(["calibrate", CHECKPOINT, str(tmp_path / f"{name}.npz"), str(tmp_path / "c.npz")]) == 1
        assert message in capsys.readouterr().err
