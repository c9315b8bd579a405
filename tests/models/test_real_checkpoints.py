"""Checkpoints trained by the original code, against what that code computed (tests/data/README.md)."""

import numpy as np
import pytest
from support.paths import DATA
from support.recorded import LRU, NAMES, PRUNED, RATIOS, S4D, S5, S5_FLAGS, recorded

import ssmreduce as sr


def assert_same_systems(a, b):
    assert tuple(a) == tuple(b)
    for name in a:
        for field in ("Lambda", "B", "C", "D"):
            np.testing.assert_array_equal(getattr(a[name], field), getattr(b[name], field), strict=True)


def assert_same_params(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name, strict=True)


def unstable_by_layer(model):
    return {name: sr.systems.unstable_states(ssm) for name, ssm in model.items()}


@pytest.mark.parametrize("name", NAMES)
def test_layer_outputs(name):
    r = recorded(name)
    assert len(r.model) == len(r.oracle["ssm_output"])
    for ssm, expected in zip(r.model.values(), r.oracle["ssm_output"], strict=True):
        got = sr.simulate(ssm, r.oracle["ssm_input"])
        assert np.abs(got - expected).max() <= 2e-5 * np.abs(expected).max()


@pytest.mark.parametrize("ratio", PRUNED)
def test_last_reference_keeps_the_states_of_the_released_code(ratio):
    r = recorded(S5)
    keep = sr.select(sr.score(r.model, "last_reference"), ratio=ratio / 100).keep
    for name, mask in zip(r.model, r.oracle["keep_last"][PRUNED.index(ratio)], strict=True):
        np.testing.assert_array_equal(keep[name], np.flatnonzero(mask))


def test_last_reference_scores():
    r = recorded(S5)
    scores = np.stack(list(sr.score(r.model, "last_reference").values()))
    # Sorted: where two gains differ by less than float32 resolves, their scores change places.
    np.testing.assert_allclose(np.sort(scores), np.sort(r.oracle["scores"]), rtol=1e-3)


@pytest.mark.parametrize("ratio", PRUNED)
@pytest.mark.parametrize("name", [S4D, LRU])
def test_last_keeps_the_recorded_states(name, ratio):
    r = recorded(name)
    keep = sr.select(sr.score(r.model, "last"), ratio=ratio / 100).keep
    for layer, mask in zip(r.model, r.oracle["keep_last"][PRUNED.index(ratio)], strict=True):
        np.testing.assert_array_equal(keep[layer], np.flatnonzero(mask))


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", NAMES)
def test_network_outputs(name, ratio):
    r = recorded(name)
    expected = r.oracle["outputs"][RATIOS.index(ratio)]
    count = 100 if name == S4D else len(r.x)
    np.testing.assert_allclose(r.outputs(r.kept(ratio), count), expected[:count], rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", ["mask", "compact"])
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("name", [S5, LRU])
def test_accuracy_of_the_written_network(name, ratio, form):
    r = recorded(name)
    assert r.correct(r.reread(r.kept(ratio), form)) == r.oracle["correct"][RATIOS.index(ratio)]


@pytest.mark.parametrize("ratio", [r if r in (0, 50, 90) else pytest.param(r, marks=pytest.mark.slow) for r in RATIOS])
def test_accuracy_of_s4d(ratio):
    r = recorded(S4D)
    assert r.correct(r.reread(r.kept(ratio), "mask")) == r.oracle["correct"][RATIOS.index(ratio)]


@pytest.mark.parametrize("form", ["compact", "padded"])
@pytest.mark.parametrize("name", NAMES)
def test_mask_and_smaller_forms_agree_in_double_precision(name, form):
    r = recorded(name)
    u = r.oracle["ssm_input"].astype(np.float64)
    model = r.kept(50)
    if name == S4D and form == "compact":  # its features keep different counts; cut them alike
        keep = sr.select(sr.score(r.model, "last", scope="system"), ratio=0.5, scope="system")
        model = sr.prune(r.model, keep)
    mask, small = r.reread(model, "mask"), r.reread(model, form)
    for layer, ssm in mask.items():
        expected = sr.simulate(ssm, u)
        scale = np.abs(expected).max()
        assert small[layer].order < ssm.order
        np.testing.assert_allclose(sr.simulate(small[layer], u), expected, rtol=0, atol=1e-10 * scale)
        np.testing.assert_allclose(sr.simulate(model[layer], u), expected, rtol=0, atol=1e-10 * scale)


def test_ragged_s4d_features_are_not_compact():
    with pytest.raises(sr.errors.NotRepresentableError, match=r"scope='system'.*'padded'"):
        sr.export(recorded(S4D).kept(50))


@pytest.mark.parametrize(
    ("name", "file"),
    [(S5, "pruned_uniform30.msgpack"), (S4D, "pruned_uniform_state_dict.pt"), (LRU, "pruned_uniform_state_dict.pt")],
)
def test_uniform_files_bit_for_bit(name, file):
    if file.endswith(".pt"):
        pytest.importorskip("torch")
    r = recorded(name)
    keep = np.asarray(r.oracle["uniform_keep"])
    if keep.dtype == bool:
        keep = np.stack([np.flatnonzero(row) for row in keep])
    if name == S4D:
        keep = (keep + 32 * np.arange(48)[:, None]).reshape(4, -1)
    compact = sr.export(sr.prune(r.model, dict(zip(r.model, keep, strict=True))))
    theirs = sr.load(DATA / name / file, adapter=r.model.adapter)
    assert_same_params(compact, theirs.params)
    expected = r.oracle["uniform_outputs"]
    got = r.outputs(sr.read(compact, adapter=r.model.adapter), len(expected))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_padded_file_loads_and_computes_the_masked_outputs():
    r = recorded(S5)
    model = sr.load(DATA / S5 / "pruned_last30_padded.msgpack", adapter=S5_FLAGS)
    np.testing.assert_allclose(r.outputs(model, None), r.oracle["padded_outputs"], rtol=0, atol=1e-4)


def test_our_padded_file_has_the_stock_shapes(tmp_path):
    r = recorded(S5)
    theirs = sr.load(DATA / S5 / "pruned_last30_padded.msgpack", adapter=S5_FLAGS).params
    sr.save(r.kept(30), tmp_path / "padded.msgpack", form="padded")
    ours = sr.load(tmp_path / "padded.msgpack", adapter=S5_FLAGS)
    assert {k: (v.shape, v.dtype) for k, v in ours.params.items()} == {k: (v.shape, v.dtype) for k, v in theirs.items()}
    np.testing.assert_allclose(r.outputs(ours, None), r.oracle["padded_outputs"], rtol=0, atol=1e-4)
    assert r.correct(ours) == r.oracle["correct"][3]


def test_unstable_states_stay_and_have_no_norm():
    model = recorded(S5).model
    unstable = unstable_by_layer(model)
    assert sum(index.size for index in unstable.values()) == 4
    for method in ("last", "aire", "hinf"):
        scores = sr.score(model, method)
        for name, index in unstable.items():
            np.testing.assert_array_equal(np.flatnonzero(np.isinf(scores[name])), index)
        assert all(np.isin(unstable[n], kept).all() for n, kept in sr.select(scores, ratio=0.95).keep.items())
    assert all(np.isfinite(value).all() for value in sr.score(model, "last_reference").values())


def test_h2_norm_names_the_unstable_states():
    model = recorded(S5).model
    for name, index in unstable_by_layer(model).items():
        if index.size == 0:
            assert sr.h2_norm(model[name]) > 0
            continue
        with pytest.raises(sr.errors.UnstableSystemError) as error:
            sr.h2_norm(model[name])
        assert all(str(i) in str(error.value) for i in index)


@pytest.mark.parametrize("suffix", [".npz", ".pt", ".safetensors", ".msgpack"])
@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_same_systems(name, suffix, tmp_path):
    if suffix == ".pt":
        pytest.importorskip("torch")
    model = recorded(name).model
    sr.save(model, tmp_path / f"copy{suffix}")
    again = sr.load(tmp_path / f"copy{suffix}", adapter=model.adapter)
    assert_same_systems(model, again)
    assert_same_params(dict(again.params), dict(model.params))


@pytest.mark.parametrize("name", NAMES)
def test_a_nested_tree_gives_the_same_systems(name):
    model = recorded(name).model
    dotted = sr.read({key.replace(".", "/"): value for key, value in model.params.items()}, adapter=model.adapter)
    nested = sr.read(sr.models.unflatten(dotted.params), adapter=model.adapter)
    for a, b in zip(model.values(), nested.values(), strict=True):
        np.testing.assert_array_equal(a.Lambda, b.Lambda)
        np.testing.assert_array_equal(a.B, b.B)
        np.testing.assert_array_equal(a.C, b.C)
