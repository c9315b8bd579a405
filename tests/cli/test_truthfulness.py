"""What the command line says of what it wrote: with no standard output, a full one, one that cannot show a name."""

import os
import subprocess
import sys

import pytest

from ssmreduce import cli

CHECKPOINT = "examples/s5_digits/model.safetensors"
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")


def prune(output, shell="", **environment):
    command = f"{sys.executable} -m ssmreduce prune {CHECKPOINT} '{output}' --ratio 0.5 --method hinf {shell}"
    run = subprocess.run(command, shell=True, capture_output=True, env={**os.environ, **environment}, timeout=120)
    return run.returncode, run.stdout.decode(errors="replace"), run.stderr.decode(errors="replace")


@posix
@pytest.mark.parametrize("shell", [">&-", "> /dev/full"])
def test_what_was_written_is_said_where_the_result_cannot_be(shell, tmp_path):
    code, _, said = prune(tmp_path / "x.npz", shell)
    assert code == 3
    assert f"{str(tmp_path / 'x.npz')!r} was written" in said
    assert (tmp_path / "x.npz").exists()


@posix
def test_a_name_that_the_terminal_cannot_show_is_escaped(tmp_path):
    code, shown, said = prune(tmp_path / "ü.npz", PYTHONIOENCODING="ascii", PYTHONUTF8="0", COLUMNS="300")
    assert (code, said) == (0, "")
    assert "\\xfc.npz" in shown


def test_an_interrupt_says_what_was_written(tmp_path, monkeypatch, capsys):
    output = tmp_path / "x.npz"

    def late(args):
        output.write_bytes(b"written")
        raise KeyboardInterrupt

    monkeypatch.setattr("ssmreduce.cli._prune._prune", late)
    assert cli.main(["prune", CHECKPOINT, str(output), "--ratio", "0.5"]) == 130
    assert f"interrupted, {str(output)!r} was written" in capsys.readouterr().err


def test_an_interrupt_before_that_says_so(tmp_path, monkeypatch, capsys):
    def early(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("ssmreduce.cli._prune._prune", early)
    assert cli.main(["prune", CHECKPOINT, str(tmp_path / "x.npz"), "--ratio", "0.5"]) == 130
    assert "nothing was written" in capsys.readouterr().err


def test_usage_errors_hold_no_control_characters(capsys):
    with pytest.raises(SystemExit):
        cli.main(["inspect", CHECKPOINT, "\x1b[2J"])
    assert "\x1b" not in capsys.readouterr().err
