import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import run_json

import ssmreduce as sr
from ssmreduce.cli import main

CHECKPOINT = "examples/s5_digits/model.safetensors"
FLAX = "tests/data/s5_last_uni_digits64/checkpoint.msgpack"
FLAGS = ["--adapter", "s5", "--set", "conj_sym=true", "--set", "discretization=zoh", "--set", "clip_eigs=false"]


def test_inspect(capsys):
    assert run_json(capsys, "inspect", CHECKPOINT) == sr.inspect(sr.load(CHECKPOINT)).to_dict()
    assert main(["inspect", CHECKPOINT]) == 0
    assert "layers.3.seq" in capsys.readouterr().out


def test_inspect_with_flags_shows_unstable_states(capsys):
    found = run_json(capsys, "inspect", FLAX, *FLAGS)
    assert [layer["unstable"] for layer in found["layers"]] == [[], [24], [9], [26, 32]]


def test_score(capsys):
    found = run_json(capsys, "score", CHECKPOINT, "--method", "aire")
    for name, value in sr.score(sr.load(CHECKPOINT), "aire").items():
        np.testing.assert_array_equal(found["scores"][name], value)
    assert main(["score", FLAX, *FLAGS]) == 0
    assert "infinite" in capsys.readouterr().out


def test_infinite_scores_are_null_in_json(capsys):
    found = run_json(capsys, "score", FLAX, *FLAGS)
    assert found["scores"]["params/encoder/layers_1/seq"][24] is None


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--ratio", "0.33"], 171),
        (["--count", "100"], 100),
        (["--orders", "10", "20", "30", "40"], 100),
        (["--ratio", "0.5", "--method", "hinf", "--allocation", "uniform", "--form", "mask"], 128),
        (["--ratio", "0.5", "--form", "padded", "--min-states", "20"], 128),
        (["--threshold", "0.5"], None),
    ],
)
def test_prune_writes_what_the_api_writes(capsys, tmp_path, options, kept):
    out = tmp_path / "small.safetensors"
    found = run_json(capsys, "prune", CHECKPOINT, str(out), *options)
    small = sr.load(out)
    assert kept is None or sum(found["orders"].values()) == kept
    assert found["bytes_after"] == out.stat().st_size
    form = found["form"]
    expected = sr.export(sr.prune(sr.load(CHECKPOINT), found["keep"]), form=form)
    for name, value in expected.items():
        np.testing.assert_array_equal(small.params[name], value)


def test_prune_prints_a_table_and_compare_reads_it_back(capsys, tmp_path):
    out = str(tmp_path / "small.safetensors")
    assert main(["prune", CHECKPOINT, out, "--ratio", "0.5"]) == 0
    assert "50.0% dropped" in capsys.readouterr().out
    assert main(["compare", CHECKPOINT, out]) == 0
    assert "original" in capsys.readouterr().out
    found = run_json(capsys, "compare", CHECKPOINT, out, "--length", "64", "--seed", "1")
    assert [row["states"] for row in found["rows"]] == [256, 128]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["inspect", "nowhere.npz"], "no such file"),
        (["inspect", FLAX], "conj_sym"),
        (["inspect", FLAX, "--set", "conj_sym=true"], "--adapter"),
        (["inspect", FLAX, "--adapter", "s5", "--set", "colour=red"], "no flag colour"),
        (["inspect", FLAX, "--adapter", "lru"], "recognises no layer"),
        (["prune", CHECKPOINT, "OUT", "--ratio", "1.0"], "[0, 1)"),
        (["prune", CHECKPOINT, "OUT", "--count", "257"], "257"),
        (["prune", CHECKPOINT, "OUT", "--orders", "1", "2"], "4 numbers"),
        (["prune", CHECKPOINT, "OUT.txt", "--ratio", "0.5"], "cannot tell a format"),
        (["prune", CHECKPOINT, "nowhere/OUT", "--ratio", "0.5"], "directory does not exist"),
        (["prune", CHECKPOINT, "OUT", "--ratio", "0.5", "--allocation", "global"], "brings its own allocation"),
    ],
)
def test_errors_are_said_and_nothing_is_written(capsys, tmp_path, argv, message):
    argv = [str(tmp_path / a.replace("OUT", "out.safetensors")) if "OUT" in a else a for a in argv]
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [[], ["prune", CHECKPOINT, "x.npz"], ["score", CHECKPOINT, "--method", "best"]])
def test_wrong_usage_exits_with_2(capsys, argv):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_the_module_runs():
    result = subprocess.run(
        [sys.executable, "-m", "ssmreduce", "inspect", "nowhere.npz"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "no such file" in result.stderr


@pytest.mark.parametrize("word", ["False", "false"])
def test_flags_are_read_as_truth_values(capsys, word):
    found = run_json(capsys, "inspect", FLAX, *FLAGS[:2], "--set", f"conj_sym={word}", *FLAGS[4:])
    assert found["layers"][0]["conj_sym"] is False


def test_names_with_markup_are_shown_as_they_are(capsys, tmp_path):
    out = tmp_path / "[red]" / "x[" / "b].safetensors"
    out.parent.mkdir(parents=True)
    assert main(["prune", CHECKPOINT, str(out), "--ratio", "0.5"]) == 0
    assert main(["compare", CHECKPOINT, str(out), "--length", "10"]) == 0
    assert "[red]" in capsys.readouterr().out.replace("\n", "")


def test_pruning_in_place_reports_both_sizes(capsys, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(Path(CHECKPOINT).read_bytes())
    assert main(["prune", str(path), str(path), "--ratio", "0.5"]) == 1
    assert "--force" in capsys.readouterr().err
    assert path.read_bytes() == Path(CHECKPOINT).read_bytes()
    found = run_json(capsys, "prune", str(path), str(path), "--ratio", "0.5", "--force")
    assert found["bytes_before"] == Path(CHECKPOINT).stat().st_size
    assert found["bytes_after"] == path.stat().st_size < found["bytes_before"]


def test_a_reader_that_stops_early_sees_no_traceback():
    command = f"{sys.executable} -m ssmreduce score tests/data/s4d_minimal_mnist1d/model.safetensors --json | head -1"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr == ""


def test_a_terminal_without_unicode_is_enough():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"}
    command = [sys.executable, "-m", "ssmreduce", "inspect", CHECKPOINT]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert "2.859e+04" in result.stdout  # numbers stay whole in a narrow terminal
