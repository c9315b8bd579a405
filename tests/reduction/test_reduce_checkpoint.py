"""The script that reduces a checkpoint block by block: its folders load, and give the perplexity that it prints."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from ssmreduce.networks import load_selective, selective_mixers

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")  # transformers warns of its own future

SCRIPT = Path(__file__).parents[2] / "benchmarks/selective/reduce_checkpoint.py"


def call(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


@pytest.mark.parametrize("method", ["rotate", "surgeon"])
def test_a_random_checkpoint(method, tmp_path, monkeypatch, capsys):
    full, small, text = tmp_path / "full", tmp_path / "small", tmp_path / "text"
    text.write_bytes(np.random.default_rng(0).integers(0, 256, 700, dtype=np.uint8).tobytes())
    call(monkeypatch, "--random", full, "--layers", 2, "--width", 32, "--order", 12)
    call(monkeypatch, full, small, "--text", text, "--sequences", 4, "--tokens", 64, "--method", method)
    printed = [float(v) for v in re.search(r"perplexity (\S+) -> (\S+),", capsys.readouterr().out).groups()]
    ids = torch.as_tensor(np.frombuffer(text.read_bytes(), dtype=np.uint8).astype(np.int64)[-256:].reshape(4, 64))
    for folder, order, perplexity in ((full, 12, printed[0]), (small, 3, printed[1])):
        model = load_selective(folder).eval()
        assert {mixer.ssm_state_size for mixer in selective_mixers(model).values()} == {order}
        with torch.no_grad():
            outputs = model(ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(outputs.reshape(-1, 256), ids[:, 1:].reshape(-1))
        assert float(loss.exp()) == pytest.approx(perplexity, rel=1e-4)
