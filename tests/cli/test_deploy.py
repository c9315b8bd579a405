"""The command that writes C and ONNX."""

import json

import pytest

from ssmreduce.cli import main

pytest.importorskip("torch")
NETWORK = "torch_networks:s5_digits"


@pytest.mark.parametrize(
    ("output", "options", "form"),
    [
        ("net.h", ["--name", "digits"], "step"),
        ("net.onnx", [], "step"),
        ("net.onnx", ["--form", "blocks", "--length", "16"], "blocks"),
    ],
)
def test_files_are_written(tmp_path, capsys, output, options, form):
    if output.endswith("onnx"):
        pytest.importorskip("onnx")
    path = tmp_path / output
    assert main(["deploy", NETWORK, str(path), "--json", *options]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(path), "form": form, "bytes": path.stat().st_size}
    if output == "net.h":
        assert "digits_step(" in path.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["model.npz", "a.h"], "MODULE:FUNCTION"),
        ([NETWORK, "a.txt"], "must end in"),
        ([NETWORK, "a.onnx", "--form", "blocks"], "--length"),
        ([NETWORK, "a.onnx", "--length", "3"], "--length"),
        ([NETWORK, "a.h", "--form", "scan"], "--form"),
        ([NETWORK, "a.onnx", "--name", "x"], "--name"),
    ],
)
def test_wrong_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["deploy", *arguments])
    assert stop.value.code == 2
    assert words in capsys.readouterr().err
