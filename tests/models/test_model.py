"""SSMModel and the verbs that change it: prune, replace_system, prune_unstructured, export."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.oracles import assert_same_bits, lru_tree, model_of, s4d_tree, s5_tree, system_at

import ssmreduce as sr
from ssmreduce.errors import NotRepresentableError, SelectionError, UnknownLayerError, UnknownNameError
from ssmreduce.systems._states import take_states

MATRICES = ("Lambda", "B", "C", "D", "C_reverse")


def lru(rng):
    return model_of(lru_tree(rng, 6), lru_tree(rng, 4))


def s5(rng):
    trees = s5_tree(rng, 6, bidirectional=True), s5_tree(rng, 4, bidirectional=True)
    return model_of(*trees, adapter=sr.adapters.S5(conj_sym=True, discretization="bilinear"))


def s4d(rng):
    return model_of(s4d_tree(rng, 5, 3), s4d_tree(rng, 4, 2))


FAMILIES = pytest.mark.parametrize("family", [lru, s5, s4d])


def assert_same_system(actual, expected):
    """Equal systems, bit for bit."""
    assert (actual.conj_sym, actual.bidirectional) == (expected.conj_sym, expected.bidirectional)
    for name in MATRICES:
        if getattr(expected, name) is not None:
            assert_same_bits(getattr(actual, name), getattr(expected, name))


def assert_kept(pruned, original, index):
    """One system: the states at `index` with the bits they had."""
    assert_same_bits(pruned.Lambda, original.Lambda[index])
    assert_same_bits(pruned.B, original.B[index])
    assert_same_bits(pruned.D, original.D)
    for name in ("C", "C_reverse"):
        if getattr(original, name) is not None:
            assert_same_bits(getattr(pruned, name), np.ascontiguousarray(getattr(original, name)[:, index]))


# ---------------------------------------------------------------- the mapping


@FAMILIES
def test_a_model_is_a_mapping_of_systems(rng, family):
    model = family(rng)
    assert list(model) == list(model.layers) == ["layers.0", "layers.1"]
    assert len(model) == 2
    assert model.orders == {name: int(np.prod(ssm.Lambda.shape)) for name, ssm in model.items()}
    assert f"SSMModel(2 layers, {sum(model.orders.values())} states" in repr(model)
    with pytest.raises(UnknownLayerError, match=r"^there is no layer 'layers\.2'; the model has layers\.0, layers\.1$"):
        model["layers.2"]
    with pytest.raises(KeyError):
        model["layers.2"]
    with pytest.raises(FrozenInstanceError):
        model.keep = {}
    with pytest.raises(TypeError, match="does not support item assignment"):
        model.params["D"] = None


def test_a_layer_is_decoded_and_matched_once(rng, monkeypatch):
    model = lru(rng)
    calls = []
    for verb in ("get", "sizes"):
        method = getattr(sr.adapters.LRU, verb)
        monkeypatch.setattr(
            sr.adapters.LRU,
            verb,
            lambda self, params, name, verb=verb, method=method: (
                calls.append((verb, name)) or method(self, params, name)
            ),
        )
    for _ in range(2):
        assert all(model[name] is model[name] for name in model)
        assert model.orders == {"layers.0": 6, "layers.1": 4}
        pruned = sr.prune(model, {"layers.0": [0, 1]})
        assert (pruned["layers.0"].order, pruned["layers.1"].order) == (2, 4)
        sr.export(pruned)
    counts = {call: calls.count(call) for call in calls}
    assert set(counts.values()) == {1}
    assert len(counts) == 4


def test_the_parameters_are_read_only_but_not_for_their_owner(rng):
    mine = lru_tree(rng)
    model = sr.read(mine)
    with pytest.raises(ValueError, match="read-only"):
        model.params["D"][0] = 1
    mine["D"][0] = 1  # still the caller's own array


# ---------------------------------------------------------------- prune


@FAMILIES
def test_pruned_states_keep_their_bits(rng, family):
    model = family(rng)
    batch = model["layers.0"].batch
    index = [4, 0, 2]
    keep = [row * model["layers.0"].order + i for row in range(batch[0] if batch else 1) for i in index]
    pruned = sr.prune(model, {"layers.0": keep})
    for at in np.ndindex(*batch):
        assert_kept(system_at(pruned["layers.0"], at), system_at(model["layers.0"], at), [0, 2, 4])
    assert_same_system(pruned["layers.1"], model["layers.1"])
    assert pruned.orders == {"layers.0": len(keep), "layers.1": model.orders["layers.1"]}
    assert model.keep == {}  # the model itself is as it was
    assert (np.diff(pruned.keep["layers.0"]) > 0).all()
    assert not pruned.keep["layers.0"].flags.writeable
    assert pruned.params["head.weight"] is model.params["head.weight"]


@FAMILIES
@given(seed=st.integers(0, 2**32 - 1), first=st.integers(2, 5), second=st.integers(1, 2))
def test_prunes_compose(family, seed, first, second):
    """Pruning a pruned model is pruning by the indices of the indices."""
    rng = np.random.default_rng(seed)
    model = family(rng)
    systems, n = model.adapter.sizes(model.params, "layers.0")
    one = np.sort(rng.permuted(np.tile(np.arange(n), (systems, 1)), axis=1)[:, :first], axis=1)
    two = np.sort(rng.permuted(np.tile(np.arange(first), (systems, 1)), axis=1)[:, :second], axis=1)
    flat_one = (one + n * np.arange(systems)[:, None]).ravel()
    flat_two = (two + first * np.arange(systems)[:, None]).ravel()
    twice = sr.prune(sr.prune(model, {"layers.0": rng.permutation(flat_one)}), {"layers.0": rng.permutation(flat_two)})
    once = sr.prune(model, {"layers.0": flat_one[flat_two]})
    assert_same_system(twice["layers.0"], once["layers.0"])
    assert twice.orders == once.orders
    for form in ("compact", "mask", "padded"):
        a, b = sr.export(twice, form=form), sr.export(once, form=form)
        for name in a:
            assert_same_bits(a[name], b[name])


@FAMILIES
def test_ratio_0_is_the_identity(rng, family):
    model = family(rng)
    same = sr.prune(model, sr.select(sr.score(model, "last"), ratio=0.0))
    for name in model:
        assert_same_system(same[name], model[name])
    for form in ("compact", "mask"):
        exported = sr.export(same, form=form)
        assert list(exported) == list(model.params)
        for name, array in exported.items():
            assert_same_bits(array, np.asarray(model.params[name]))


def test_a_selection_prunes_what_it_says(rng):
    model = s5(rng)
    selection = sr.select(sr.score(model, "last"), count=5)
    pruned = sr.prune(model, selection)
    assert pruned.orders == selection.orders
    for name in model:
        assert_kept(pruned[name], model[name], selection.keep[name])


def test_a_layer_may_lose_all_states(rng):
    model = sr.prune(lru(rng), {"layers.0": []})
    ssm = model["layers.0"]
    assert ssm.order == 0
    u = rng.normal(size=(4, 3))
    np.testing.assert_allclose(sr.simulate(ssm, u), u @ ssm.D.T, rtol=1e-14)
    for form in ("compact", "padded"):
        with pytest.raises(NotRepresentableError, match="would keep no state"):
            sr.export(sr.prune(model, {"layers.1": []}), form=form)
    written = sr.read(sr.export(model, form="mask"))
    np.testing.assert_allclose(sr.simulate(written["layers.0"], u), u @ ssm.D.T, rtol=1e-14)


def test_ragged_batches(rng):
    """Different orders in the features of a layer: shorter ones are filled with states that nothing touches."""
    model = s4d(rng)
    ragged = sr.prune(model, {"layers.0": [0, 1, 4, 7, 11, 13]})  # features keep 3, 1 and 2 of 5
    ssm = ragged["layers.0"]
    assert ragged.orders["layers.0"] == 6
    assert ssm.Lambda.shape == (3, 3)
    for feature, index in enumerate(([0, 1, 4], [2], [1, 3])):
        one, original = system_at(ssm, feature), system_at(model["layers.0"], feature)
        assert_kept(take_states(one, np.arange(len(index))), original, index)
        assert not one.B[len(index) :].any()
        assert not one.C[:, len(index) :].any()
    u = rng.normal(size=(7, 3))
    for form in ("mask", "padded"):
        written = sr.read(sr.export(ragged, form=form))
        np.testing.assert_allclose(sr.simulate(written["layers.0"], u), sr.simulate(ssm, u), rtol=1e-12, atol=1e-14)
        assert written["layers.0"].order == {"mask": 5, "padded": 4}[form]
    with pytest.raises(NotRepresentableError, match=r"'layers\.0' keep between 1 and 3 states.*scope='system'"):
        sr.export(ragged)
    again = sr.prune(ragged, {"layers.0": [1, 3, 4, 8]})  # slots 4 and 8 of features 1 and 2 hold no state
    np.testing.assert_array_equal(again.keep["layers.0"], [1, 7])


@pytest.mark.parametrize(
    ("keep", "error", "words"),
    [
        ({"layers.9": [0]}, UnknownLayerError, r"no layer 'layers\.9'"),
        ({"layers.0": [0, 6]}, SelectionError, r"'layers\.0' has 6 states; indices must be in 0 \.\.\. 5"),
        ({"layers.0": [-1]}, SelectionError, r"indices must be in 0 \.\.\. 5"),
        ({"layers.0": [1, 2, 1]}, SelectionError, "an index is given twice"),
        ({"layers.0": [[0, 1]]}, SelectionError, r"one axis of whole indices is needed, got int64 \(1, 2\)"),
        ({"layers.0": 3}, SelectionError, "one axis of whole indices"),
        ({"layers.0": [0.0, 1.0]}, SelectionError, "got float64"),
        ({"layers.0": [True, False, True, False, False, True]}, SelectionError, "got bool"),
    ],
)
def test_indices_that_cannot_stay(rng, keep, error, words):
    with pytest.raises(error, match=words):
        sr.prune(lru(rng), keep)


def test_indices_count_what_is_left(rng):
    pruned = sr.prune(lru(rng), {"layers.0": [1, 3, 5]})
    with pytest.raises(SelectionError, match="has 3 states"):
        sr.prune(pruned, {"layers.0": [3]})


# ---------------------------------------------------------------- re-realised layers


def test_replace_system(rng):
    model = sr.prune(lru(rng), {"layers.0": [0, 1], "layers.1": [2]})
    ssm = sr.DiagonalSSM([0.5 + 0.1j], np.ones((1, 3)), np.ones((3, 1)), model["layers.0"].D)
    replaced = sr.models.replace_system(model, "layers.0", ssm)
    assert replaced["layers.0"] is ssm
    assert (set(replaced.keep), set(replaced.systems)) == ({"layers.1"}, {"layers.0"})
    assert replaced.orders == {"layers.0": 1, "layers.1": 1}
    assert_same_system(replaced["layers.1"], model["layers.1"])
    assert model.orders["layers.0"] == 2
    written = sr.read(sr.export(replaced))["layers.0"]
    u = rng.normal(size=(5, 3))
    np.testing.assert_allclose(sr.simulate(written, u), sr.simulate(ssm, u), rtol=1e-4, atol=1e-5)
    for form in ("mask", "padded"):
        with pytest.raises(NotRepresentableError, match=r"layers layers\.0 were re-realised; only form='compact'"):
            sr.export(replaced, form=form)
    with pytest.raises(SelectionError, match="was re-realised; prune before"):
        sr.prune(replaced, {"layers.0": [0]})
    with pytest.raises(UnknownLayerError):
        sr.models.replace_system(model, "layers.2", ssm)


def test_a_system_that_the_family_cannot_hold(rng):
    model = lru(rng)
    ssm = model["layers.0"]
    for wrong in (replace(ssm, Lambda=ssm.Lambda * 3), replace(ssm, conj_sym=True)):
        with pytest.raises(NotRepresentableError, match=r"layer 'layers\.0'"):
            sr.export(sr.models.replace_system(model, "layers.0", wrong))


# ---------------------------------------------------------------- export


@FAMILIES
@pytest.mark.parametrize("form", ["compact", "mask", "padded"])
def test_forms_simulate_alike(rng, family, form):
    model = family(rng)
    batch = model["layers.0"].batch
    keep = [row * model["layers.0"].order + i for row in range(batch[0] if batch else 1) for i in (0, 3)]
    pruned = sr.prune(model, {"layers.0": keep})
    exported = sr.export(pruned, form=form)
    written = sr.read(exported, adapter=model.adapter)
    assert written["layers.0"].order == {"compact": 2, "mask": model["layers.0"].order, "padded": 4}[form]
    assert written["layers.1"].order == 4
    for name, ssm in pruned.items():
        u = rng.normal(size=(6, ssm.systems * ssm.inputs))
        np.testing.assert_allclose(sr.simulate(written[name], u), sr.simulate(ssm, u), rtol=1e-12, atol=1e-13)
    for name, array in model.params.items():
        if not name.startswith("layers.0."):
            assert form == "padded" or exported[name] is array
            assert_same_bits(exported[name], array)
        assert exported[name].dtype == array.dtype


@FAMILIES
def test_states_that_are_not_there_cannot_pad(rng, family):
    model = family(rng)
    with pytest.raises(NotRepresentableError, match=r"'layers\.1' has 4 states.* cannot be padded to [56]"):
        sr.export(model, form="padded")


def test_unknown_form(rng):
    with pytest.raises(UnknownNameError, match="no form 'dense'; choose from compact, mask, padded"):
        sr.export(lru(rng), form="dense")


# ---------------------------------------------------------------- the unstructured control


@FAMILIES
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.99])
def test_prune_unstructured(rng, family, ratio):
    model = family(rng)
    thinned = sr.selection.prune_unstructured(model, ratio=ratio, seed=3)
    assert thinned.orders == model.orders
    for name, ssm in thinned.items():
        assert_same_bits(ssm.Lambda, model[name].Lambda)
        assert_same_bits(ssm.D, model[name].D)
        for key in ("B", "C", "C_reverse"):
            before, after = getattr(model[name], key), getattr(ssm, key)
            if before is not None:
                assert (after == 0).sum() == int(ratio * before.size + 1e-9)
                np.testing.assert_array_equal(after[after != 0], before[after != 0])


def test_prune_unstructured_forgives_the_rounding_of_the_ratio(rng):
    thinned = sr.selection.prune_unstructured(model_of(lru_tree(rng, 10, 10)), ratio=0.29)  # 0.29 * 100 < 29
    assert (thinned["layers.0"].B == 0).sum() == 29


def test_prune_unstructured_is_seeded(rng):
    model = lru(rng)
    first, again, other = (
        sr.selection.prune_unstructured(model, ratio=0.5, seed=s)["layers.0"].B == 0 for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("ratio", [1, -0.1, np.nan])
def test_prune_unstructured_ratios(rng, ratio):
    with pytest.raises(SelectionError, match=r"must be in \[0, 1\), got"):
        sr.selection.prune_unstructured(lru(rng), ratio=ratio)


def test_models_scores_and_selections_can_be_pickled_copied_and_compared(rng):
    model = model_of(lru_tree(rng))
    scores = sr.score(model, "last")
    selection = sr.select(scores, ratio=0.5)
    pruned = sr.prune(model, selection)
    for one in (copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        assert_same_bits(one[model.layers[0]].C, pruned[model.layers[0]].C)
    assert_same_bits(pickle.loads(pickle.dumps(scores))[model.layers[0]], scores[model.layers[0]])
    assert copy.deepcopy(selection).orders == selection.orders
    assert model == model
    assert model != pruned
    assert len({model, pruned, model}) == 2
