import numpy as np
import pytest

import ssmreduce as sr
from ssmreduce.errors import SelectionError, UnknownNameError
from ssmreduce.evaluation._sweep import UNSTRUCTURED
from ssmreduce.networks import s5_digits

CHECKPOINT = "examples/s5_digits/model.safetensors"


@pytest.fixture(scope="module")
def model():
    return sr.load(CHECKPOINT)


def test_every_method_at_every_ratio(model):
    seen = []
    curve = sr.sweep(
        model,
        lambda m: float(sum(m.orders.values())),
        methods={"LAST": "last", "mine": lambda ssm: abs(ssm.Lambda), "entries": UNSTRUCTURED},
        ratios=[0.0, 0.25, 0.5],
        progress=lambda done, total: seen.append((done, total)),
    )
    assert curve.methods == ("LAST", "mine", "entries")
    assert [row.states for row in curve.rows] == [256, 192, 128, 256, 192, 128, 256, 256, 256]
    assert seen == [(i, 9) for i in range(1, 10)]
    ratios, values = curve.curve("mine")
    np.testing.assert_array_equal(ratios, [0.0, 0.25, 0.5])
    np.testing.assert_array_equal(values, [256, 192, 128])
    assert curve.to_dict()["rows"][1]["orders"] == curve.rows[1].orders


def test_equal_states_are_evaluated_once(model):
    calls = []
    sr.sweep(model, lambda m: calls.append(m) or 0.0, methods=["last", "aire", "random"], ratios=[0.0])
    assert len(calls) == 1


def test_models_handed_over_are_the_pruned_ones(model):
    expected = sr.prune(model, sr.select(sr.score(model, "aire"), ratio=0.4)).orders
    row = sr.sweep(model, lambda m: m.orders["layers.3.seq"], methods=["aire"], ratios=[0.4]).rows[0]
    assert row.orders == expected
    assert row.value == expected["layers.3.seq"]


def test_unknown_names_and_ratios_are_refused(model):
    with pytest.raises(UnknownNameError, match="no method 'best'"):
        sr.sweep(model, lambda m: 0.0, methods=["best"])
    with pytest.raises(SelectionError, match=r"\[0, 1\)"):
        sr.sweep(model, lambda m: 0.0, ratios=[1.0])
    with pytest.raises(UnknownNameError, match="in the sweep"):
        sr.sweep(model, lambda m: 0.0, methods=["last"], ratios=[0.0]).curve("aire")


def test_shipped_model_has_the_recorded_accuracy(model):
    test = np.load("examples/s5_digits/test.npz")
    predicted = s5_digits(model, test["x_test"]).argmax(axis=-1)
    assert (predicted == test["y_test"]).mean() == pytest.approx(0.986111, abs=1e-6)


def test_trade_off_plot_draws_every_method(model, tmp_path):
    curve = sr.sweep(model, lambda m: 1.0, methods=["last", "aire"], ratios=[0.0, 0.5])
    ax = sr.plot.trade_off(curve, label="accuracy")
    assert [line.get_label() for line in ax.get_lines()] == ["last", "aire"]
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [0.0, 50.0])
    assert ax.get_ylabel() == "accuracy"
    assert sr.plot.trade_off(curve, ax=ax) is ax
    ax.figure.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
