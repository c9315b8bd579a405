"""The largest ratio within a limit, against trying every count."""

import numpy as np
import pytest
from support.recorded import LRU, S4D, calibration_of, recorded, sequences

import ssmreduce as sr


def states(model):
    return sum(model.orders.values())


def agreement(name):
    r = recorded(name)
    x = sequences(name)[:100]
    reference = r.network(r.model, x).argmax(axis=1)
    return lambda model: float((r.network(model, x).argmax(axis=1) == reference).mean())


@pytest.mark.parametrize("limit", [3, 20, 77, 144])
def test_the_bracket_closes_on_the_limit(limit):
    model = recorded(LRU).model
    result = sr.search(model, calibration_of(LRU), lambda m: -float(states(m) < limit), max_loss=0.5, tolerance=1 / 144)
    assert states(result.model) == limit
    assert result.points[0].ratio == 0
    assert all(point.accepted == (point.states >= limit) for point in result.points)
    assert len(result.points) <= 9
    assert result.ratio == pytest.approx(1 - limit / 144)


def test_output_agreement_without_labels():
    r = recorded(LRU)
    seen = []
    result = sr.search(
        r.model, calibration_of(LRU), agreement(LRU), max_loss=0.01, progress=lambda *counts: seen.append(counts)
    )
    assert result.reference == 1.0
    assert result.value >= 0.99
    assert result.ratio >= 0.7
    assert [done for done, _ in seen] == list(range(1, len(result.points) + 1))
    expected = sr.eliminate(r.model, calibration_of(LRU), count=states(result.model))
    for name in r.model:
        np.testing.assert_array_equal(result.model[name].C, expected[name].C)
    assert {"ratio", "value", "reference", "points"} == set(result.to_dict())


def test_finish_is_applied_and_whole_slices_stay():
    r = recorded(S4D)
    finished = []

    def finish(model):
        finished.append(states(model))
        return model

    result = sr.search(
        r.model, calibration_of(S4D), lambda m: 0.0, max_loss=0, tolerance=0.1, scope="system", finish=finish
    )
    assert finished == [point.states for point in result.points]
    assert all(count % 48 == 0 for count in finished)
    assert all(count % 48 == 0 for count in result.model.orders.values())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_loss": -0.1}, sr.errors.OptionError),
        ({"max_loss": np.nan}, sr.errors.OptionError),
        ({"max_loss": 0.1, "tolerance": 0}, sr.errors.OptionError),
        ({"max_loss": 0.1, "evaluate": lambda m: np.nan}, sr.errors.NonFiniteError),
        ({"max_loss": 0.1, "finish": lambda m: sr.prune(m, {"dlru.blocks.0.lru": [0]})}, sr.errors.UnattainableError),
    ],
)
def test_bad_calls_are_named(options, error):
    options = {"evaluate": lambda m: states(m), **options}
    with pytest.raises(error):
        sr.search(recorded(LRU).model, calibration_of(LRU), **options)
