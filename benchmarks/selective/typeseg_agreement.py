"""The Mamba model of the package typeseg with a fraction of its states: how often it says the same as the full one.

    pip install typeseg==0.2.7
    python benchmarks/selective/typeseg_agreement.py [--ratios 0.5 0.75 0.9] [--draws 3] [--methods ghost surgeon ...]

Six bidirectional Mamba-1 layers, 16 states each, trained by the package's authors to tell the type of text, byte by
byte. The sequences are 512 bytes from files of the Python installation (sources, pages, data of several kinds): 48 to
calibrate with, of which a quarter is held apart to choose the method, and 48 of other files for the table. There are no
labels. The full network here is first compared with the package's own forward pass.
"""

import argparse
import json
import sysconfig
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from ssmreduce.adapters import TypesegAdapter
from ssmreduce.networks import SelectiveMixer
from ssmreduce.reduction.calibrated import compress_selective

LENGTH, SEQUENCES = 512, 48
KINDS = ("py", "h", "html", "css", "js", "json", "txt", "md", "rst", "csv", "xml", "yaml", "toml", "sh", "svg", "c")
METHODS = ("random", "ghost", "surgeon", "surgeon+refine")
OURS = ("surgeon", "surgeon+refine")


class Block(torch.nn.Module):
    """Layer norm, mixer, residual sum."""

    def __init__(self, norm, layer):
        super().__init__()
        self.norm, self.mixer = norm, SelectiveMixer(layer)

    def forward(self, hidden_states):
        return hidden_states + self.mixer(self.norm(hidden_states))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.5, 0.75, 0.9])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = files("typeseg") / "data"
    params = dict(np.load(str(data / "mamba_al.npz")))
    module = network(params)
    test = sequences("test", np.random.default_rng(100))
    compare_with_package(params, json.loads((data / "manifest.json").read_text())["mamba"], module, test)
    print(f"{'method':16s} {'removed':>8s} {'agreement %':>16s} {'seconds':>8s}")
    for ratio in options.ratios:
        rows = {method: [] for method in options.methods}
        for draw in range(options.draws):
            ids = sequences("calibration", np.random.default_rng(draw))
            for method in options.methods:
                rows[method].append(one(module, ids, test, ratio, method, draw))
        for method in options.methods:
            show(method, ratio, rows[method])
        if ours := [method for method in options.methods if method in OURS]:
            show(
                "chosen", ratio, [min((rows[m][d] for m in ours), key=lambda row: row[2]) for d in range(options.draws)]
            )


def network(params):
    """The model as a PyTorch module: bytes to logits."""
    adapter = TypesegAdapter()
    blocks = [Block(norm(params, f"{name}__"), adapter.get(params, name)) for name in adapter.find(params)]
    table = torch.as_tensor(params["Embed_0__embedding"])
    kernel, bias = params["Dense_0__kernel"], params["Dense_0__bias"]
    head = torch.nn.Linear(*kernel.shape)
    head.weight.data, head.bias.data = torch.as_tensor(kernel.T.copy()), torch.as_tensor(bias)
    embed = torch.nn.Embedding.from_pretrained(table)
    return torch.nn.Sequential(embed, *blocks, norm(params, ""), head).eval()


def norm(params, prefix):
    scale, bias = (params[f"{prefix}LayerNorm_0__{part}"] for part in ("scale", "bias"))
    result = torch.nn.LayerNorm(len(scale), eps=1e-6)
    result.weight.data, result.bias.data = torch.as_tensor(scale), torch.as_tensor(bias)
    return result


def sequences(part, rng):
    """Byte ids as the model takes them, shape (SEQUENCES, LENGTH); every fifth file is for testing."""
    root = Path(sysconfig.get_path("stdlib"))
    chosen = []
    for kind in KINDS:
        found = sorted(file for file in root.rglob(f"*.{kind}") if file.stat().st_size >= LENGTH)
        chosen.append([file for k, file in enumerate(found) if (k % 5 == 0) == (part == "test")])
    chosen = [found for found in chosen if found]
    rows = [piece(found[rng.integers(len(found))], rng) for found in chosen * (SEQUENCES // len(chosen) + 1)]
    return torch.as_tensor(np.stack(rows[:SEQUENCES]))


def piece(file, rng):
    raw = np.frombuffer(file.read_bytes(), dtype=np.uint8).astype(np.int64)
    start = int(rng.integers(len(raw) - LENGTH + 1))
    raw = raw[start : start + LENGTH]
    allowed = ((raw >= 0x20) & (raw < 0x7F)) | np.isin(raw, (0x09, 0x0A, 0x0D))
    return np.where(allowed, raw, 128)  # the package's table sends its placeholder to 128


def compare_with_package(params, sizes, module, test):
    """Print the largest difference from the package's own forward pass."""
    from typeseg._mamba_kernel import mamba_forward

    weights = {key.replace("__", "/"): value for key, value in params.items()}
    ids = test[0].numpy()
    sizes = {key: sizes[key] for key in ("n_layers", "d_state", "dt_rank", "d_conv")}
    theirs = mamba_forward(np, weights, np.where(ids == 128, 0xA4, ids), **sizes)
    with torch.no_grad():
        ours = module(test[:1])[0].numpy()
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"logits against typeseg's own forward pass: relative difference {error:.1e}")


def one(module, ids, test, ratio, method, draw):
    """Agreement on the test sequences in per cent, seconds, held-apart divergence."""
    start = time.perf_counter()
    result = compress_selective(module, [ids], ratio=ratio, methods=method, seed=draw)
    seconds = time.perf_counter() - start
    with torch.no_grad():
        same = module(test).argmax(-1) == result.network(test).argmax(-1)
    return 100 * float(same.double().mean()), seconds, result.chosen.divergence


def show(method, ratio, rows):
    """One line: mean and half the range over the draws."""
    values = np.array(rows)
    mean, spread = values.mean(axis=0), (values.max(axis=0) - values.min(axis=0)) / 2
    print(f"{method:16s} {100 * ratio:7.0f}% {mean[0]:8.1f} +- {spread[0]:4.1f} {mean[1]:8.1f}", flush=True)


if __name__ == "__main__":
    main()
