"""What the plots show, and that each draws on the axes that it is given."""

import numpy as np
import pytest
from norm_oracles import random_ssm

import ssmreduce as sr
from ssmreduce.hankel import hankel_singular_values

figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture
def ax():
    return figure.Figure().add_subplot()


@pytest.fixture(scope="module")
def model():
    return sr.load("examples/s5_digits/model.safetensors")


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_hankel_singular_values(ax, model):
    assert sr.plot.hankel_singular_values(model, ax=ax) is ax
    assert labels(ax) == list(model)
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_ydata(), hankel_singular_values(model["layers.0.seq"])[: len(line.get_ydata())])


def test_poles(ax, rng):
    ssm = random_ssm(rng, 6, 2, 2, batch=(2,))
    reduced = {f"order {k}": sr.balanced_truncation(ssm, k).ssm for k in (2, 4)}
    assert sr.plot.poles(ssm, reduced, ax=ax) is ax
    assert labels(ax) == ["original", "order 2", "order 4"]
    assert [line.get_xdata().size for line in ax.lines[1:]] == [12, 4, 8]
    assert min(line.get_ydata().min() for line in ax.lines[1:]) >= 0


def test_layer_scores_are_sorted_and_finite(ax, model):
    scores = sr.Scores({"a": np.array([0.2, np.inf, 1.0]), "b": np.array([3.0])}, "hinf", "global")
    assert sr.plot.layer_scores(scores, ax=ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.0, 0.2])


def test_states_left(ax, model):
    half = sr.reduce(model, {name: 32 for name in model}, method="modal")
    assert sr.plot.states_left(model, {"half": half}, ax=ax) is ax
    assert [bar.get_height() for bar in ax.patches] == [64] * 4 + [32] * 4


def test_singular_values_with_the_error_system(ax, rng):
    ssm = random_ssm(rng, 6, 3, 2)
    reduced = sr.balanced_truncation(ssm, 3).ssm
    assert sr.plot.singular_values(ssm, {"BT": reduced}, count=50, ax=ax) is ax
    omega, gain = ax.lines[1].get_data()
    expected = sr.frequency_response(ssm, omega) - sr.frequency_response(reduced, omega)
    np.testing.assert_allclose(gain, np.linalg.norm(expected, 2, axis=(-2, -1)))
    assert omega.max() == pytest.approx(np.pi)
    assert labels(ax) == ["original", "error of BT"]


def test_every_plot_makes_its_own_axes(rng, model):
    ssm = random_ssm(rng, 4)
    axes = [
        sr.plot.hankel_singular_values({"x": ssm}),
        sr.plot.poles(ssm, {}),
        sr.plot.layer_scores(sr.score(model)),
        sr.plot.states_left(model, {}),
        sr.plot.singular_values(ssm),
    ]
    assert all(ax.get_figure() is not None for ax in axes)


def test_singular_values_of_a_batch_are_those_of_the_layer(rng):
    batch = random_ssm(rng, 4, batch=(3,))
    line = sr.plot.singular_values(batch, count=50).lines[0]
    gains = np.linalg.norm(sr.frequency_response(batch, line.get_xdata()), 2, axis=(-2, -1))
    np.testing.assert_allclose(line.get_ydata(), gains.max(axis=0), rtol=1e-12)
