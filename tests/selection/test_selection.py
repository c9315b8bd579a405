"""Selection: exact counts, stable ties, floors, shares, and every refusal."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmreduce import select
from ssmreduce.errors import SelectionError, UnknownLayerError, UnknownNameError
from ssmreduce.selection._scores import Scores

RATIOS = [i / 100 for i in range(100)]


def scores_of(*layers, allocation="global", ties="stable"):
    arrays = {f"l{i}": np.array(values, dtype=float) for i, values in enumerate(layers)}
    return Scores(arrays, "given", allocation, ties)


def kept(selection):
    return [indices.tolist() for indices in selection.keep.values()]


def assert_consistent(selection, scores):
    """Counts, ratio, threshold and indices of a selection fit together."""
    total = sum(values.size for values in scores.values())
    assert list(selection.keep) == list(selection.orders) == list(scores)
    for name, indices in selection.keep.items():
        assert indices.dtype == np.int64
        assert not indices.flags.writeable
        assert (np.diff(indices) > 0).all()
        assert indices.size == selection.orders[name]
        assert not indices.size or (indices[0] >= 0 and indices[-1] < scores[name].size)
    np.testing.assert_allclose(selection.ratio, 1 - sum(selection.orders.values()) / total, atol=1e-15)
    stay = np.concatenate([scores[name].ravel()[indices] for name, indices in selection.keep.items()])
    assert selection.threshold == (stay.min() if stay.size else math.inf)


models = st.lists(
    st.lists(st.one_of(st.integers(0, 3).map(float), st.floats(0, 10), st.just(math.inf)), min_size=1, max_size=8),
    min_size=1,
    max_size=4,
)
allocations = st.sampled_from(["global", "layer_adaptive", "uniform"])


# ---------------------------------------------------------------- counts


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_ratio_keeps_the_exact_floor(ratio):
    """Of every total up to 300, although (1 - 0.9) * 100 is 9.999999999999998."""
    exact = 1 - Fraction(round(ratio * 100), 100)
    for total in range(1, 301):
        scores = scores_of(np.arange(total))
        selection = select(scores, ratio=ratio, min_states=0)
        assert selection.orders["l0"] == math.floor(exact * total), total
    assert_consistent(selection, scores)


@given(layers=models, allocation=allocations, share=st.floats(0, 1))
def test_counts_are_exact(layers, allocation, share):
    scores = scores_of(*layers, allocation=allocation)
    total = sum(map(len, layers))
    count = len(layers) + math.floor(share * (total - len(layers)))
    selection = select(scores, count=count)
    assert_consistent(selection, scores)
    assert sum(selection.orders.values()) == count
    for values, indices in zip(layers, kept(selection), strict=True):
        assert len(indices) >= 1
        order = np.argsort(-np.array(values), kind="stable")
        assert indices == sorted(order[: len(indices)].tolist())  # the best of the layer, the first of equals


@given(layers=models, count=st.integers(0, 32))
def test_without_a_floor_the_best_of_the_model_stay(layers, count):
    count = min(count, sum(map(len, layers)))
    flat = np.concatenate([np.array(values) for values in layers])
    best = np.sort(np.argsort(-flat, kind="stable")[:count])
    ends = np.cumsum([0, *map(len, layers)])
    selection = select(scores_of(*layers), count=count, min_states=0)
    assert np.concatenate([i + e for i, e in zip(kept(selection), ends, strict=False)]).tolist() == best.tolist()


@given(layers=models, allocation=allocations)
def test_ratio_0_is_the_identity(layers, allocation):
    for ties in ("stable", "keep"):
        selection = select(scores_of(*layers, allocation=allocation), ratio=0.0, ties=ties)
        assert kept(selection) == [list(range(len(values))) for values in layers]
        assert selection.ratio == 0


@given(layers=models, floor=st.integers(0, 5), extra=st.integers(0, 10))
def test_the_floor(layers, floor, extra):
    floors = [min(floor, len(values)) for values in layers]
    count = min(sum(floors) + extra, sum(map(len, layers)))
    selection = select(scores_of(*layers), count=count, min_states=floor)
    assert sum(selection.orders.values()) == count
    assert all(len(indices) >= least for indices, least in zip(kept(selection), floors, strict=True))
    layers = [sorted(values, reverse=True) for values in layers]
    beyond = [v[len(i) - 1] for v, i, least in zip(layers, kept(selection), floors, strict=True) if len(i) > least]
    left = [v[len(i)] for v, i in zip(layers, kept(selection), strict=True) if len(i) < len(v)]
    assert not beyond or not left or min(beyond) >= max(left)


def test_the_first_of_equals_stay():
    scores = scores_of([1, 1, 1], [1, 1, 1], [2, 1, 1])
    assert kept(select(scores, count=6)) == [[0, 1, 2], [0, 1], [0]]
    assert kept(select(scores, count=4, min_states=0)) == [[0, 1, 2], [], [0]]


def test_unstable_states_stay():
    assert kept(select(scores_of([1, math.inf, 2, math.inf], [9, 8]), count=3)) == [[1, 3], [0]]


# ---------------------------------------------------------------- equal scores that all stay


def released_rule(layers, ratio):
    """The code of LAST: one threshold over all layers, whatever reaches it stays."""
    flat = np.sort(np.concatenate([np.array(values) for values in layers]))
    threshold = flat[-max(int(flat.size * (100 - ratio) / 100), 1)]
    return [np.flatnonzero(np.array(values) >= threshold).tolist() for values in layers]


@given(layers=models, ratio=st.sampled_from([0, 10, 25, 30, 50, 75, 90]))
def test_ties_keep_is_the_released_rule(layers, ratio):
    total = sum(map(len, layers))
    if total * (100 - ratio) // 100 == 0:  # the released code keeps a state even then
        with pytest.raises(SelectionError, match="0 states are too few"):
            select(scores_of(*layers), ratio=ratio / 100)
        return
    expected = released_rule(layers, ratio)
    scores = scores_of(*layers, ties="keep")
    assert kept(select(scores, ratio=ratio / 100, min_states=0)) == expected
    stable = select(scores, ratio=ratio / 100, min_states=0, ties="stable")
    assert sum(stable.orders.values()) == total * (100 - ratio) // 100


def test_ties_keep_can_keep_more():
    scores = scores_of([3, 1, 1], [1, 2, 0], ties="keep")
    assert kept(select(scores, count=3)) == [[0, 1, 2], [0, 1]]
    assert kept(select(scores, count=3, ties="stable")) == [[0, 1], [1]]
    shared = scores_of([3, 1, 1, 1], [5, 4, 3, 2], allocation="uniform", ties="keep")
    assert kept(select(shared, count=4)) == [[0, 1, 2, 3], [0, 1]]


def test_ties_keep_with_a_layer_at_its_floor():
    """A dead layer stays at its floor, and its zeros do not become the threshold of the model."""
    assert kept(select(scores_of([9, 8, 7, 6], [0, 0, 0], ties="keep"), count=3)) == [[0, 1], [0]]
    assert kept(select(scores_of([9, 8, 8, 6], [0, 0, 0], ties="keep"), count=3)) == [[0, 1, 2], [0]]
    assert kept(select(scores_of([9, 8], [1], ties="keep"), count=2)) == [[0], [0]]


# ---------------------------------------------------------------- uniform shares


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6), percent=st.integers(0, 99))
def test_uniform_shares(sizes, percent):
    count = sum(sizes) * (100 - percent) // 100
    scores = scores_of(*(np.arange(n) for n in sizes), allocation="uniform")
    selection = select(scores, ratio=percent / 100, min_states=0)
    assert sum(selection.orders.values()) == count
    exact = [Fraction(count * n, sum(sizes)) for n in sizes]
    pairs = list(zip(exact, selection.orders.values(), strict=True))
    assert all(order in (math.floor(share), math.ceil(share)) for share, order in pairs)
    raised = [share - math.floor(share) for share, order in pairs if order > share]
    lowered = [share - math.floor(share) for share, order in pairs if order < share]
    assert not raised or not lowered or min(raised) >= max(lowered)  # the largest remainders went up


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ((4, 4, 4), 7, [3, 2, 2]),  # equal remainders: the first
        ((10, 3), 4, [3, 1]),
        ((3, 10), 4, [1, 3]),
        ((100, 1, 1), 20, [18, 1, 1]),  # the floor takes from the largest
        ((7, 5, 3), 3, [1, 1, 1]),
    ],
)
def test_largest_remainders(sizes, count, expected):
    scores = scores_of(*(np.arange(n) for n in sizes), allocation="uniform")
    assert list(select(scores, count=count).orders.values()) == expected


# ---------------------------------------------------------------- other rules


def test_threshold():
    scores = scores_of([3, 1, 2], [0.5, 0.25])
    selection = select(scores, threshold=2.0)
    assert kept(selection) == [[0, 2], [0]]  # the second layer has its floor only
    assert_consistent(selection, scores)
    assert kept(select(scores, threshold=2.0, min_states=0)) == [[0, 2], []]
    assert select(scores, threshold=99.0, min_states=0).threshold == math.inf


def test_orders():
    scores = scores_of([3, 1, 2], [0.5, 0.25])
    selection = select(scores, orders={"l1": 1, "l0": 2})
    assert kept(selection) == [[0, 2], [0]]
    assert_consistent(selection, scores)
    assert kept(select(scores, orders={"l0": 0, "l1": 2})) == [[], [0, 1]]


# ---------------------------------------------------------------- batches of systems


@given(
    seed=st.integers(0, 2**32 - 1),
    shapes=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=3),
    percent=st.integers(0, 80),
    uniform=st.booleans(),
)
def test_systems_keep_equal_numbers(seed, shapes, percent, uniform):
    rng = np.random.default_rng(seed)
    arrays = {f"l{i}": rng.random(shape) for i, shape in enumerate(shapes)}
    scores = Scores(arrays, "given", "uniform" if uniform else "global")
    selection = select(scores, ratio=percent / 100, scope="system", min_states=0)
    assert sum(selection.orders.values()) <= sum(v.size for v in arrays.values()) * (100 - percent) // 100
    assert_consistent(selection, scores)
    for name, values in arrays.items():
        rows, columns = np.divmod(selection.keep[name], values.shape[1])
        each = selection.orders[name] // values.shape[0]
        np.testing.assert_array_equal(np.bincount(rows, minlength=values.shape[0]), each)
        for row, scores_of_row in enumerate(values):
            best = np.sort(np.argsort(-scores_of_row)[:each])
            np.testing.assert_array_equal(columns[rows == row], best)


def test_a_layer_of_systems_counts_all_its_states():
    scores = Scores({"l0": np.array([[4.0, 1, 3], [2, 6, 5]])}, "given", "global")
    assert kept(select(scores, count=4)) == [[0, 2, 4, 5]]
    assert kept(select(scores, count=3)) == [[0, 4, 5]]
    assert kept(select(scores, count=3, scope="system")) == [[0, 4]]  # rounded down to one state a system
    assert kept(select(scores, orders={"l0": 4}, scope="system")) == [[0, 2, 4, 5]]
    assert kept(select(scores, count=2, min_states=2, scope="system")) == [[0, 4]]
    with pytest.raises(SelectionError, match="2 systems, which cannot keep 3 states in equal parts"):
        select(scores, orders={"l0": 3}, scope="system")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "exactly one of ratio, count, threshold and orders"),
        ({"ratio": 0.5, "count": 2}, "exactly one"),
        ({"threshold": 0.0, "orders": {}}, "exactly one"),
        *(({"ratio": ratio}, r"must be in \[0, 1\), got") for ratio in (1, 1.5, -0.01, math.nan, math.inf)),
        *(({"count": count}, "between 0 and the model's 5, got") for count in (6, -1, 2.5, math.nan, math.inf)),
        ({"count": 1}, "1 states are too few: min_states=1 a layer needs 2"),
        ({"count": 4, "min_states": 3}, "4 states are too few: min_states=3 a layer needs 5"),
        ({"ratio": 0.9}, "0 states are too few"),
        ({"threshold": math.nan}, "threshold must be a number"),
        ({"count": 3, "min_states": -1}, "min_states must not be negative, got -1"),
        ({"orders": {"l0": 1}}, "orders must name every layer; l1 is missing"),
        ({"orders": {}}, "l0, l1 is missing"),
        ({"orders": {"l0": 4, "l1": 1}}, "layer 'l0' has 3 states; it cannot keep 4"),
        ({"orders": {"l0": -1, "l1": 1}}, "it cannot keep -1"),
        ({"orders": {"l0": 1.5, "l1": 1}}, r"it cannot keep 1\.5"),
        ({"orders": {"l0": math.nan, "l1": 1}}, "it cannot keep nan"),
    ],
)
def test_selections_that_cannot_be_made(options, words):
    with pytest.raises(SelectionError, match=words):
        select(scores_of([3, 1, 2], [0.5, 0.25]), **options)


def test_unknown_names():
    scores = scores_of([3, 1, 2], [0.5, 0.25])
    with pytest.raises(UnknownLayerError, match="^there is no layer 'l7'; the model has l0, l1$"):
        select(scores, orders={"l0": 1, "l1": 1, "l7": 1})
    with pytest.raises(UnknownNameError, match="no rule for ties 'first'; choose from stable, keep"):
        select(scores, count=3, ties="first")
    with pytest.raises(UnknownNameError, match="no scope 'feature'; choose from layer, system"):
        select(scores, count=3, scope="feature")


def test_many_equal_scores_stay_in_order():
    scores = Scores({"a": np.tile([1.0, 0.0], 300), "b": np.tile([1.0, 0.0], 300)}, "mine", "global")
    keep = select(scores, count=450).keep
    np.testing.assert_array_equal(keep["a"], np.arange(0, 600, 2))
    np.testing.assert_array_equal(keep["b"], np.arange(0, 300, 2))


def test_the_rule_that_keeps_ties_empties_no_layer():
    scores = Scores({name: np.array([1.0, 0.5, 0.1]) for name in "abcd"}, "mine", "layer_adaptive", "keep")
    assert dict(select(scores, ratio=0.9).orders) == dict.fromkeys("abcd", 1)
