"""The examples of the guide, the quick start and the README run as they stand, page by page."""

import doctest
import re
import runpy
import shlex
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce import networks
from ssmreduce.cli import main
from ssmreduce.models._checkpoints import write_file
from ssmreduce.reduction.calibrated import _compress as calibrated_compress

ROOT = Path(sr.__file__).parents[1]
DIGITS = ROOT / "examples" / "s5_digits" / "model.safetensors"
FLAX = ROOT / "tests" / "data" / "s5_last_uni_digits64" / "checkpoint.msgpack"
S4D = ROOT / "tests" / "data" / "s4d_minimal_mnist1d"
NEEDS = {
    "docs/guide/command_line.rst": ("sklearn", "torch", "s5"),
    "docs/guide/checkpoints.rst": ("torch",),
    "docs/guide/own_family.rst": ("torch",),
    "docs/guide/networks.rst": ("torch", "sklearn"),
    "docs/guide/deployment.rst": ("torch", "sklearn", "onnx"),
    "docs/quickstart.rst": ("sklearn",),
    "docs/index.rst": ("torch",),
    "README.md": ("torch",),
}
PAGES = [
    "README.md",
    "docs/index.rst",
    "docs/guide/checkpoints.rst",
    "docs/guide/own_family.rst",
    "docs/guide/pruning.rst",
    "docs/guide/choosing.rst",
    "docs/guide/command_line.rst",
    "docs/guide/networks.rst",
    "docs/guide/report.rst",
    "docs/guide/deployment.rst",
    "docs/theory/calibrated.rst",
]
BLOCK = {
    ".rst": re.compile(r"^\.\. code-block:: (python|text)\n((?:   :.*\n)*)\n((?:    .*\n|\n)+)", re.MULTILINE),
    ".md": re.compile(r"^```(python|)\n()(.*?)^```", re.MULTILINE | re.DOTALL),
}


def blocks(page):
    """Language, caption and text of the code blocks of a page."""
    for language, options, text in BLOCK[Path(page).suffix].findall((ROOT / page).read_text() + "\n"):
        caption = re.search(r":caption: (\S+)", options)
        yield language, caption and caption[1], textwrap.dedent(text)


def run(block, namespace):
    language, caption, text = block
    if caption:
        Path(caption).write_text(text)
    elif language == "python":
        exec(compile(text, "block", "exec"), namespace)


def commands(block):
    """Arguments of the lines of a block that call the command line."""
    language, _, text = block
    lines = [] if language == "python" else text.splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ssmreduce ")]


def stable_flax_file(path):
    """The Flax checkpoint with its poles clipped, so that it needs no flag but those of the README."""
    model = sr.load(FLAX, adapter=sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=True))
    params = {key: np.minimum(v, -1e-3) if key.endswith("Lambda_re") else v for key, v in model.params.items()}
    write_file(path, params, {})


def at_hand(model, network, x):
    """What the pages say that the reader has."""

    def accuracy(candidate):
        return float((network(candidate, x).argmax(axis=1) == network(model, x).argmax(axis=1)).mean())

    inputs = networks.NumpyNetwork(network, model=model).layer_inputs(model, x)
    u = next(iter(inputs.values()))
    return {
        "sr": sr,
        "np": np,
        "model": model,
        "x": x,
        "x_apart": x,
        "u": u,
        "inputs": inputs,
        "evaluate": accuracy,
        "accuracy": accuracy,
    }


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Working directory with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    shutil.copy(DIGITS, tmp_path / "model.safetensors")
    stable_flax_file(tmp_path / "model.msgpack")
    return tmp_path


def digits(count):
    """Training sequences of the S5 example with labels, and its test set, as tensors."""
    torch = pytest.importorskip("torch")
    data = pytest.importorskip("sklearn.datasets").load_digits()
    with np.load(DIGITS.parent / "test.npz") as split:
        test, labels = split["x_test"], split["y_test"]
    x, y = (data.data / 16).astype(np.float32)[..., None], data.target
    seen = {row.tobytes() for row in np.float32(test)}
    fresh = [i for i, row in enumerate(x) if row.tobytes() not in seen][:count]
    return [torch.tensor(array) for array in (x[fresh], y[fresh], test, labels)]


def fine_tuned(module, x, y):
    """Run the recipe of the guide on networks as it stands."""
    text = (ROOT / "docs/guide/networks.rst").read_text()
    recipe = next(block for block in blocks("docs/guide/networks.rst") if "AdamW" in block[2])
    assert text.index("Fine-tuning\n---") < text.index("AdamW")
    run(recipe, {"sr": sr, "small": module, "x": x, "y": y})
    return module


def test_one_epoch_of_fine_tuning_makes_up_for_half_the_states():
    """LAST at 50 %, by the recipe of the guide."""
    x, y, test, labels = digits(None)
    torch_networks = pytest.importorskip("torch_networks")
    import torch

    torch.manual_seed(0)
    module = torch_networks.s5_digits()
    model = sr.network(module).model
    small = sr.replace_layers(module, sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5)))

    def accuracy(network):
        with torch.no_grad():
            return float((network(test).argmax(1) == labels).double().mean())

    assert accuracy(module) > 0.98
    assert accuracy(small) < 0.7
    tuned = fine_tuned(small, x, y)
    assert accuracy(tuned) > 0.9
    assert all((np.abs(ssm.Lambda) < 1).all() for ssm in sr.read(tuned).values())


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page, folder, rng, monkeypatch):
    for module in NEEDS.get(page, ()):
        pytest.importorskip(module)
    x = rng.random((12, 64, 1))
    model, network = sr.load(DIGITS), networks.s5_digits
    namespace = at_hand(model, network, x)
    if page in ("README.md", "docs/index.rst"):
        x = digits(40)[0]
        module = pytest.importorskip("torch_networks").s5_digits()
        namespace |= {"x": x, "network": module, "module": module, "batches": [x]}
    if page == "docs/guide/checkpoints.rst":
        torch = pytest.importorskip("torch")
        namespace |= {"torch": torch, "small": sr.prune(model, sr.select(sr.score(model), ratio=0.5))}
        namespace["y"] = sr.simulate(model["layers.0.seq"], namespace["u"])
    if page in ("docs/guide/networks.rst", "docs/guide/deployment.rst"):
        x, y, *_ = digits(40)
        module = pytest.importorskip("torch_networks").s5_digits()
        namespace |= {"x": x, "y": y, "module": module}
    adam = calibrated_compress.adam
    monkeypatch.setattr(calibrated_compress, "adam", lambda *args, **o: adam(*args, **{**o, "steps": 2}))
    found = list(blocks(page))
    assert any(language == "python" for language, *_ in found)
    for block in found:
        run(block, namespace)
    for argv in (argv for block in found for argv in commands(block)):
        assert main(argv) == 0, argv


def test_the_quick_start_prints_what_it_shows(folder):
    pytest.importorskip("sklearn")
    text = (ROOT / "docs/quickstart.rst").read_text()
    test = doctest.DocTestParser().get_doctest(text, {}, "quickstart.rst", None, 0)
    assert len(test.examples) > 20
    said = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=said.append)
    assert not said, "".join(said)


def test_the_guide_to_choosing_holds_for_s4d(folder, rng):
    model = sr.load(S4D / "model.safetensors")
    model = sr.prune(model, sr.select(sr.score(model, "h2"), orders=dict.fromkeys(model, 48 * 8), scope="system"))
    with np.load(S4D / "calibration.npz") as file:
        x = file["x"][:5].astype(float)
    namespace = at_hand(model, networks.s4d_minimal, x)
    [(language, caption, text)] = blocks("docs/guide/choosing.rst")
    made, _, compared = text.partition("print(")
    assert compared.startswith("sr.compare")  # takes long, and is tested elsewhere
    run((language, caption, made), namespace)
    assert {tuple(candidate.orders.values()) for candidate in namespace["candidates"].values()} == {(192,) * 4}


@pytest.mark.slow
def test_the_table_of_forms_is_what_the_networks_take():
    pytest.importorskip("onnx")
    pytest.importorskip("s5")
    table = runpy.run_path(str(ROOT / "docs/deployment_table.py"))["table"]
    assert table() in (ROOT / "docs/guide/deployment.rst").read_text()
