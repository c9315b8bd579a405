import json
from html.parser import HTMLParser

import numpy as np
import pytest
from support.oracles import lru_tree, model_of, s4d_tree

import ssmreduce as sr
from ssmreduce.errors import ArgumentError, SelectionError, ShapeError, UnknownLayerError

CHECKPOINT = "examples/s5_digits/model.safetensors"


@pytest.fixture(scope="module")
def model():
    return sr.load(CHECKPOINT)


@pytest.fixture(scope="module")
def unstable():
    adapter = sr.adapters.S5(conj_sym=True, discretization="zoh", clip_eigs=False)
    return sr.load("tests/data/s5_last_uni_digits64/checkpoint.msgpack", adapter=adapter)


def test_inspection_names_the_unstable_states(unstable):
    inspection = sr.inspect(unstable)
    assert [layer.unstable for layer in inspection.layers] == [(), (24,), (9,), (26, 32)]
    assert inspection.layers[1].slowest_gap == pytest.approx(1 - abs(unstable[unstable.layers[1]].Lambda[24]), rel=1e-9)
    assert "1: 24" in str(inspection)
    assert "2: 26, 32" in str(inspection)


def test_inspection_measures_every_layer(model):
    inspection = sr.inspect(model)
    for layer in inspection.layers:
        ssm = model[layer.name]
        assert (layer.states, layer.inputs, layer.outputs, layer.systems) == (64, 32, 32, 1)
        assert layer.largest_norm == sr.norms.modal_hinf_norms(ssm).max()
        assert layer.slowest_gap == pytest.approx(1 - abs(ssm.Lambda).max(), rel=1e-8)
    assert inspection.stored_values == sum(leaf.size for leaf in model.params.values())
    assert json.loads(json.dumps(inspection.to_dict()))["layers"][0]["states"] == 64


def test_inspection_shows_whole_layer_names(unstable):
    assert all(name in str(sr.inspect(unstable)) for name in unstable)


def test_inspection_counts_systems_of_a_batch(rng):
    layer = sr.inspect(model_of(s4d_tree(rng, n=5, width=3))).layers[0]
    assert (layer.systems, layer.states, layer.inputs) == (3, 15, 1)


def test_comparison_measures_the_output_error(model):
    pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.3))
    comparison = sr.compare(model, {"LAST": pruned, "same": model}, length=200, seed=3)
    noise = np.random.default_rng(3).standard_normal((200, 32))
    name = model.layers[0]
    exact, reduced = sr.simulate(model[name], noise), sr.simulate(pruned[name], noise)
    expected = np.linalg.norm(exact - reduced) / np.linalg.norm(exact)
    assert [row.label for row in comparison.rows] == ["original", "LAST", "same"]
    assert comparison.rows[1].layers[0].output_error == pytest.approx(expected, rel=1e-12)
    assert comparison.rows[1].states == 179
    assert comparison.rows[1].stored_values == sum(leaf.size for leaf in sr.export(pruned).values())
    assert all(layer.output_error == 0 for layer in comparison.rows[2].layers)
    assert "LAST" in str(comparison)
    assert json.loads(json.dumps(comparison.to_dict()))["rows"][1]["states"] == 179


def test_comparison_tends_to_the_relative_h2_error(rng):
    model = model_of(lru_tree(rng, n=6, width=3))
    name = model.layers[0]
    reduced = sr.prune(model, {name: [0, 1, 2, 3]})
    dropped = sr.models.replace_system(model, name, sr.prune(model, {name: [4, 5]})[name])
    zero_d = dropped[name]
    error = sr.h2_norm(sr.DiagonalSSM(zero_d.Lambda, zero_d.B, zero_d.C, np.zeros_like(zero_d.D)))
    measured = sr.compare(model, {"x": reduced}, length=20000).rows[1].layers[0].output_error
    assert measured == pytest.approx(error / sr.h2_norm(model[name]), rel=0.05)


def test_comparison_without_compact_arrays_has_no_size(rng):
    model = model_of(s4d_tree(rng, n=4, width=2))
    ragged = sr.prune(model, {model.layers[0]: [0, 1, 2, 4]})
    row = sr.compare(model, {"ragged": ragged}, length=50).rows[1]
    assert row.stored_values is None
    assert row.states == 4


def test_comparisons_that_cannot_be_made_are_refused(rng, model):
    with pytest.raises(SelectionError, match="nothing to compare"):
        sr.compare(model, {})
    with pytest.raises(ShapeError, match="length"):
        sr.compare(model, {"same": model}, length=0)
    with pytest.raises(UnknownLayerError, match="no layer"):
        sr.compare(model, {"other": model_of(lru_tree(rng))})
    narrow, wide = model_of(lru_tree(rng, width=2)), model_of(lru_tree(rng, width=3))
    with pytest.raises(ShapeError, match="does not fit"):
        sr.compare(narrow, {"wide": wide})


def test_comparison_shows_certificates_and_values(model):
    orders = {name: 32 for name in model}
    candidates = {"modal": sr.reduce(model, orders, method="modal"), "balanced": sr.reduce(model, orders)}
    comparison = sr.compare(model, candidates, evaluate=lambda m: float(sum(m.orders.values())), length=50)
    original, *rows = comparison.rows
    assert [row.value for row in comparison.rows] == [256.0, 128.0, 128.0]
    assert np.isnan(original.layers[0].multiple)
    for row, candidate in zip(rows, candidates.values(), strict=True):
        for layer in row.layers:
            certificate = sr.certify(model[layer.name], candidate[layer.name])
            assert layer.peak_error == certificate.relative
            assert layer.h2_error == certificate.relative_h2
            assert layer.multiple == certificate.multiple >= 1
    assert f"{rows[1].layers[0].multiple:.2f}" in str(comparison)
    assert json.loads(json.dumps(comparison.to_dict()))["rows"][0]["layers"][0]["multiple"] is None
    quick = sr.compare(model, candidates, certificates=False, length=50)
    assert np.isnan(quick.rows[1].layers[0].peak_error)


def test_comparison_on_given_inputs(model, rng):
    reduced = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.3))
    inputs = {name: rng.standard_normal((2, 30, 32)) for name in model}
    comparison = sr.compare(model, {"x": reduced}, inputs=inputs, certificates=False)
    name = model.layers[1]
    exact = sr.simulate(model[name], inputs[name])
    expected = np.linalg.norm(exact - sr.simulate(reduced[name], inputs[name])) / np.linalg.norm(exact)
    assert comparison.rows[1].layers[1].output_error == pytest.approx(expected)
    assert (comparison.length, comparison.inputs) == (30, "the inputs given")
    with pytest.raises(UnknownLayerError, match="inputs hold nothing"):
        sr.compare(model, {"x": reduced}, inputs={name: inputs[name]})


def test_comparison_of_unstable_layers_is_certified_on_the_stable_part(unstable):
    reduced = sr.reduce(unstable, {name: 32 for name in unstable})
    layers = sr.compare(unstable, {"x": reduced}, length=20).rows[1].layers
    assert all(1 <= layer.multiple < 3 and layer.peak_error < 1 for layer in layers)


def test_slots_without_a_state_are_not_inspected(rng):
    model = model_of(s4d_tree(rng, n=4, width=2))
    name = model.layers[0]
    order = np.argsort(-abs(model[name].Lambda[1]))  # the slowest states of the second feature leave
    ragged = sr.prune(model, {name: [0, 1, 2, 4 + order[-1]]})
    left = np.concatenate([model[name].Lambda[0, :3], model[name].Lambda[1, order[-1:]]])
    assert sr.inspect(ragged).layers[0].slowest_gap == pytest.approx(1 - abs(left).max(), rel=1e-9)


def test_inspection_of_a_pruned_model_counts_its_own_values(model):
    pruned = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.5))
    assert sr.inspect(pruned).stored_values == sum(leaf.size for leaf in sr.export(pruned).values())


def test_the_label_of_the_original_is_taken(model):
    with pytest.raises(SelectionError, match="'original' is taken"):
        sr.compare(model, {"original": model})


def test_a_network_on_its_batches_comes_first(model, monkeypatch):
    digits = np.random.default_rng(0).random((30, 64, 1))
    candidates = {
        f"LAST {share}": sr.prune(model, sr.select(sr.score(model, "last"), ratio=share)) for share in (0.3, 0.6)
    }
    norms = []
    peak_gain = sr.evaluation._certificates.peak_gain
    monkeypatch.setattr(
        sr.evaluation._certificates, "peak_gain", lambda ssm, **options: norms.append(1) or peak_gain(ssm, **options)
    )
    function = sr.networks.s5_digits
    comparison = sr.compare(
        model, candidates, network=function, batches=[digits[:20], digits[20:]], evaluate=lambda m: 0.5
    )
    assert len(norms) == 4 * (1 + 2)  # the original once a layer, each candidate's error once
    z, name = function(model, digits), model.layers[1]
    u = sr.network(function, model=model).layer_inputs(model, digits)[name]
    y = sr.simulate(model[name], u)
    for row, small in zip(comparison.rows[1:], candidates.values(), strict=True):
        other = function(small, digits)
        difference = other - z
        difference -= difference.mean(axis=1, keepdims=True)
        centred = z - z.mean(axis=1, keepdims=True)
        error = np.linalg.norm(difference) / np.linalg.norm(centred - centred.mean(axis=0))
        assert row.agreement == np.mean(other.argmax(1) == z.argmax(1))
        assert row.network_error == pytest.approx(error)
        expected = np.linalg.norm(y - sr.simulate(small[name], u)) / np.linalg.norm(y)
        assert row.layers[1].output_error == pytest.approx(expected)
    text = str(comparison)
    assert max(map(len, text.splitlines())) <= 80
    heading = next(line for line in text.splitlines() if "agreement" in line)
    assert heading.index("agreement") < heading.index("output error") < heading.index("value")
    assert "proven for every input" in " ".join(text.split())


def test_a_network_needs_batches_and_the_layers_of_the_model(model, rng):
    x = rng.random((4, 64, 1))
    with pytest.raises(ArgumentError, match="go together"):
        sr.compare(model, {"same": model}, network=sr.networks.s5_digits)
    with pytest.raises(ArgumentError, match="inputs are recorded"):
        sr.compare(model, {"same": model}, network=sr.networks.s5_digits, batches=[x], inputs={})
    other = model_of(lru_tree(rng))
    net = sr.network(sr.networks.s5_digits, model=model)
    with pytest.raises(UnknownLayerError, match="has no layer"):
        sr.compare(other, {"same": other}, network=net, batches=[x])


class Cells(HTMLParser):
    """Text of the cells of all tables, and the names of all elements."""

    def __init__(self, html):
        super().__init__()
        self.cells, self.tags = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += data


def test_results_are_tables_in_notebooks(model):
    pruned = sr.prune(model, sr.select(sr.score(model), ratio=0.5))
    label = "<script>alert(1)</script>[bold]\x1b\n"
    row = sr.evaluation.SweepRow(label, 0.5, 128, {}, 0.25)
    search = sr.reduction.Search(pruned, 0.5, 0.25, 1.0, (sr.reduction.SearchPoint(128, 0.5, 0.25, True),))
    results = {
        "64": sr.inspect(model),
        "128": sr.compare(model, {label: pruned}, certificates=False, length=8),
        "0.25": sr.evaluation.Sweep((row,)),
        "ok": search,
    }
    for cell, result in results.items():
        found = Cells(result._repr_html_())
        assert cell in found.cells
        assert set(found.tags) <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
        assert "\x1b" not in result._repr_html_()
    for result in (results["128"], results["0.25"]):
        assert r"<script>alert(1)</script>[bold]\x1b\n" in Cells(result._repr_html_()).cells
