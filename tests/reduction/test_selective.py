"""Compressing networks with selective layers: what is kept, what is chosen, and files."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.selective_networks import network, tokens

import ssmreduce as sr
from ssmreduce.errors import ArgumentError, OptionError, SelectionError, UnattainableError, UnknownNameError
from ssmreduce.networks import load_selective, save_selective, selective_mixers
from ssmreduce.reduction.calibrated import compress_selective
from ssmreduce.reduction.calibrated._selective import compared, relative, split_batches
from ssmreduce.selective import random_layer, simulate

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("default")  # transformers warns of its own future

FOLDER = Path(__file__).parents[1] / "data/mamba2_mqar16_N64"


@pytest.fixture(scope="module")
def recall():
    """A trained Mamba-2 model of two layers and 64 states for associative recall, and its data."""
    transformers.utils.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER).eval()
    data = np.load(FOLDER / "data.npz")
    return model, {name: torch.as_tensor(data[name].astype(np.int64)) for name in data.files}


def accuracy(model, data):
    with torch.no_grad():
        outputs = model(data["test_ids"], use_cache=False).logits
    asked = data["test_targets"] >= 0
    return 100 * float((outputs.argmax(-1) == data["test_targets"])[asked].double().mean())


def test_the_model_reads_as_its_oracle_says(recall):
    model, data = recall
    with torch.no_grad():
        ours = compress_selective(model, [data["calibration_ids"][:8]], ratio=0.0, methods="magnitude").network
        outputs = ours(data["test_ids"][:16], use_cache=False).logits.numpy()
    oracle = np.load(FOLDER / "oracle.npz")["logits"]
    np.testing.assert_allclose(outputs, oracle, rtol=0, atol=2e-5 * np.abs(oracle).max())


def test_rotation_keeps_what_selection_loses(recall):
    model, data = recall
    ids = [data["calibration_ids"][:64]]
    rotated = compress_selective(model, ids, ratio=0.75, methods="rotate")
    ghost = compress_selective(model, ids, ratio=0.75, methods="ghost")
    assert {mixer.order for mixer in selective_mixers(rotated.network).values()} == {16}
    assert accuracy(rotated.network, data) >= 99.5
    assert accuracy(ghost.network, data) < 98
    assert rotated.candidates[0].divergence < 0.1 * ghost.candidates[0].divergence


def test_the_least_divergent_method_is_chosen(recall):
    model, data = recall
    result = compress_selective(model, [data["calibration_ids"][:48]], ratio=0.9, methods=("random", "rotate"))
    assert result.method == "rotate"
    assert [candidate.method for candidate in result.candidates] == ["random", "rotate"]
    assert result.candidates[1].agreement > result.candidates[0].agreement
    assert " *" in str(result).splitlines()[2]
    for error, apart in result.candidates[1].errors.values():
        assert 0 < error < 1
        assert 0 < apart < 1


def test_refinement_lowers_the_error_of_each_layer_it_starts_on(recall):
    model, data = recall
    ids, first = [data["calibration_ids"][:32]], "backbone.layers.0.mixer"
    options = {"steps": 25}
    plain = compress_selective(model, ids, ratio=0.9, methods="contribution").candidates[0].errors[first]
    refined = compress_selective(
        model, ids, ratio=0.9, methods="contribution+refine", stock=True, refine_options=options
    )
    assert refined.candidates[0].errors[first][0] < 0.8 * plain[0]
    assert refined.candidates[0].errors[first][1] < 0.8 * plain[1]


def test_a_stock_checkpoint_of_fewer_states(recall, tmp_path):
    model, data = recall
    small = compress_selective(model, [data["calibration_ids"][:16]], ratio=0.5, methods="surgeon", stock=True)
    assert save_selective(small.network, tmp_path / "small", stock=True)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "small").eval()
    assert loaded.config.state_size == 32
    with torch.no_grad():
        ours, theirs = (m(data["test_ids"][:8], use_cache=False).logits for m in (small.network, loaded))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-4 * float(ours.abs().max()))


def test_search_takes_the_smallest_that_agrees(recall):
    model, data = recall
    ids = [data["calibration_ids"][:32]]
    found = sr.search(model, ids, agreement=0.9, ratios=(0.98, 0.5, 0.25), methods="rotate")
    assert found.value >= 0.9
    assert found.ratio == 0.5
    assert [point.accepted for point in found.points] == [False, True]
    assert {mixer.order for mixer in selective_mixers(found.live).values()} == {32}
    with pytest.raises(UnattainableError, match="the best is"):
        sr.search(model, ids, agreement=0.99999, ratios=(0.98,), methods="random")


def test_compress_takes_a_loader_ignores_labels_and_says_what_it_chose(recall, tmp_path):
    model, data = recall
    ids = data["calibration_ids"][:32]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, torch.zeros(32)), batch_size=8)
    small = sr.compress(model, loader, ratio=0.75, methods=("random", "rotate"), progress=False)
    assert {mixer.order for mixer in selective_mixers(small).values()} == {16}
    record = json.loads(small.ssmreduce_record)
    assert record["method"] == "rotate"
    assert set(record["candidates"]) == {"random", "rotate"}
    assert record["agreement"] == record["candidates"]["rotate"]["agreement"] > 0.9
    save_selective(small, tmp_path / "small")
    assert json.loads(load_selective(tmp_path / "small").ssmreduce_record) == record


def test_what_does_not_apply_to_selective_networks_is_named(recall):
    model, data = recall
    ids = data["calibration_ids"][:8]
    with pytest.raises(OptionError, match="finish, steps does not apply"):
        sr.compress(model, [ids], ratio=0.5, finish=None, steps=3)
    with pytest.raises(OptionError, match="adapter does not apply"):
        sr.compress(model, [ids], ratio=0.5, adapter=None)
    with pytest.raises(SelectionError, match="padding"):
        sr.compress(model, [{"input_ids": ids, "attention_mask": torch.zeros_like(ids)}], ratio=0.5)
    with pytest.raises(OptionError, match="agreement must be in"):
        sr.search(model, [ids], agreement=2)


@pytest.mark.parametrize(
    ("kind", "method"), [("mamba", "surgeon"), ("falcon_mamba", "surgeon"), ("bamba", "rotate+als")]
)
def test_other_families_lose_less_than_by_chance(kind, method):
    model = network(kind)
    batches = [tokens(batch=16, seed=seed) for seed in range(4)]
    result = compress_selective(model, batches, ratio=0.5, methods=(method, "random"))
    assert result.method == method
    for mixer, errors in result.candidates[0].errors.items():
        assert errors[0] < result.candidates[1].errors[mixer][0]


def test_divergence_and_agreement_on_a_case_worked_by_hand():
    full = [torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75]]))]
    small = [torch.log(torch.tensor([[0.25, 0.75], [0.25, 0.75]]))]
    agreement, divergence = compared(full, small)
    assert agreement == 0.5
    assert divergence == pytest.approx((0.5 * np.log2(2) + 0.5 * np.log2(0.5 / 0.75)) / 2, rel=1e-6)


def test_the_error_of_a_layer_is_relative():
    layer = random_layer("mamba2", width=8, order=4)
    u = np.random.default_rng(0).standard_normal((2, 9, 8))
    assert relative(layer, [u], [simulate(layer, u)]) < 1e-12
    assert relative(layer, [u, u], [2 * simulate(layer, u)] * 2) == pytest.approx(0.5, rel=1e-9)


def test_data_are_held_apart():
    used, apart = split_batches([torch.arange(8)], 0.25)
    assert used[0].tolist() == list(range(6))
    assert apart[0].tolist() == [6, 7]
    used, apart = split_batches([1, 2, 3], 0.4)
    assert (used, apart) == ([1, 2], [3])
    used, apart = split_batches([{"input_ids": torch.arange(4)}], 0.5)
    assert apart[0]["input_ids"].tolist() == [2, 3]
    with pytest.raises(SelectionError, match="too few"):
        split_batches([torch.arange(1)], 0.5)
    with pytest.raises(ArgumentError, match="batches is empty"):
        split_batches([], 0.5)
    with pytest.raises(OptionError, match="held"):
        split_batches([1, 2], 0.0)


def test_bad_calls_are_named():
    model = network("mamba2")
    with pytest.raises(SelectionError, match=r"ratio must be in \[0, 1\), got 1"):
        compress_selective(model, [tokens()], ratio=1)
    with pytest.raises(UnknownNameError, match="no method 'prune'"):
        compress_selective(model, [tokens()], ratio=0.5, methods="prune")
    with pytest.raises(SelectionError, match="cannot hold rotated states"):
        compress_selective(model, [tokens()], ratio=0.5, methods="rotate", stock=True)
    with pytest.raises(SelectionError, match="cannot be rotated"):
        compress_selective(network("mamba"), [tokens()], ratio=0.5, methods="rotate")
    with pytest.raises(ArgumentError, match="give a list of batches"):
        compress_selective(model, tokens(), ratio=0.5)
