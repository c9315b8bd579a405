"""Commands run in this process."""

import json

from ssmreduce.cli import main


def run_json(capsys, *argv):
    """What a command prints with ``--json``; it must succeed."""
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)
