"""What the plots show, and that each draws on the axes that it is given."""

import io

import numpy as np
import pytest
from support.norm_oracles import random_ssm
from support.oracles import lru_tree

import ssmreduce as sr
from ssmreduce.norms._hankel import hankel_singular_values

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


@pytest.mark.parametrize("name", ["$\\frac$", "_hidden", "\x1b[2J", "a\nb"])
def test_names_are_text_and_nothing_else(name, model):
    small = {name: model}
    named = {name: model["layers.0.seq"]}
    scores = sr.selection.Scores({name: np.array([3.0, 1.0])}, "hinf", "global")
    for draw in (
        lambda: sr.plot.states_left(model, small),
        lambda: sr.plot.poles(model["layers.0.seq"], named),
        lambda: sr.plot.singular_values(model["layers.0.seq"], named, count=20),
        lambda: sr.plot.hankel_singular_values(named),
        lambda: sr.plot.layer_scores(scores),
    ):
        axes = draw()
        axes.figure.savefig(io.BytesIO(), format="svg")
        (text,) = [text for text in labels(axes) if "original" not in text]
        assert text.isprintable()
        assert any(part in text for part in ("frac", "hidden", "[2J", "a\\nb"))


def test_poles(ax, rng):
    ssm = random_ssm(rng, 6, 2, 2, batch=(2,))
    reduced = {f"order {k}": sr.reduction.balanced_truncation(ssm, k).ssm for k in (2, 4)}
    assert sr.plot.poles(ssm, reduced, ax=ax) is ax
    assert labels(ax) == ["original", "order 2", "order 4"]
    assert [line.get_xdata().size for line in ax.lines[1:]] == [12, 4, 8]
    assert min(line.get_ydata().min() for line in ax.lines[1:]) >= 0


def test_layer_scores_are_sorted_and_finite(ax, model):
    scores = sr.selection.Scores({"a": np.array([0.2, np.inf, 1.0]), "b": np.array([3.0])}, "hinf", "global")
    assert sr.plot.layer_scores(scores, ax=ax) is ax
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [1.0, 0.2])


def test_states_left(ax, model):
    half = sr.reduce(model, {name: 32 for name in model}, method="modal")
    assert sr.plot.states_left(model, {"half": half}, ax=ax) is ax
    assert [bar.get_height() for bar in ax.patches] == [64] * 4 + [32] * 4


def test_singular_values_with_the_error_system(ax, rng):
    ssm = random_ssm(rng, 6, 3, 2)
    reduced = sr.reduction.balanced_truncation(ssm, 3).ssm
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


# ---------------------------------------------------------------- legibility


def drawn(ax):
    """The figure laid out, with what measures texts in it."""
    canvas = pytest.importorskip("matplotlib.backends.backend_agg").FigureCanvasAgg(ax.figure)
    canvas.draw()
    return canvas.get_renderer()


def assert_apart(boxes):
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[:i])


@pytest.fixture(scope="module")
def deep():
    """A model of 24 layers with the long names of Flax."""
    rng = np.random.default_rng(0)
    return sr.read({"params": {"encoder": {f"layers_{i}": {"seq": lru_tree(rng)} for i in range(24)}}})


def halved(model):
    return sr.prune(model, sr.select(sr.score(model), ratio=0.5))


def test_names_of_many_layers_do_not_overlap(deep):
    ax = sr.plot.states_left(deep, {"half": halved(deep)})
    renderer = drawn(ax)
    texts = [text for text in ax.get_xticklabels() if text.get_text()]
    assert [text.get_text() for text in texts] == [f"layers_{i}" for i in range(24)]
    assert ax.get_xlabel() == "params/encoder/*/seq"
    assert_apart([text.get_window_extent(renderer) for text in texts])


@pytest.mark.parametrize("plot", ["hankel_singular_values", "layer_scores", "states_left", "poles"])
def test_legends_hide_nothing_and_leave_the_axes_their_room(deep, plot):
    ssm = deep["params/encoder/layers_0/seq"]
    arguments = {
        "hankel_singular_values": (deep,),
        "layer_scores": (sr.score(deep),),
        "states_left": (deep, {f"candidate {i}": halved(deep) for i in range(14)}),
        "poles": (ssm, {f"reduced {i}": ssm for i in range(14)}),
    }
    ax = getattr(sr.plot, plot)(*arguments[plot])
    renderer = drawn(ax)
    legend, frame = ax.get_legend().get_window_extent(renderer), ax.get_window_extent(renderer)
    assert not legend.overlaps(frame.shrunk(0.99, 0.99))
    assert legend.x1 <= ax.figure.bbox.x1 + 1
    assert frame.width > 0.4 * ax.figure.bbox.width
    assert frame.height > 0.3 * ax.figure.bbox.height
    assert legend.height < ax.figure.bbox.height
    assert_apart([text.get_window_extent(renderer) for text in ax.get_legend().get_texts()])


def test_hundreds_of_layers_have_a_legend_that_fits(deep):
    scores = sr.selection.Scores({f"layers.{i}.seq": np.ones(3) for i in range(300)}, "mine", "global")
    ax = sr.plot.layer_scores(scores)
    drawn(ax)
    found = labels(ax)
    assert (len(found), found[0], found[-1]) == (40, "0", "299")
    assert ax.get_legend().get_title().get_text() == "layers.*.seq"


@pytest.mark.parametrize("count", [3, 9, 14])
def test_candidates_have_colours_of_their_own_and_none_is_grey(model, count):
    ax = sr.plot.states_left(model, {str(i): model for i in range(count)})
    colours = [container.patches[0].get_facecolor()[:3] for container in ax.containers]
    assert len(set(colours)) == count + 1
    assert all(max(colour) - min(colour) > 0.1 for colour in colours[1:])


def test_poles_that_stay_are_seen_in_every_system(model):
    ssm = model["layers.0.seq"]
    *_, first, second = sr.plot.poles(ssm, {"a": ssm, "b": ssm}).lines
    assert first.get_markersize() > second.get_markersize()
    assert first.get_markerfacecolor() == "none"


@pytest.mark.parametrize(
    ("names", "short", "title"),
    [
        ([f"a/l_{i}/seq" for i in range(9)], [f"l_{i}" for i in range(9)], "a/*/seq"),
        ([f"layers.{i}" for i in range(12)], [str(i) for i in range(12)], "layers.*"),
        ([f"{i}/seq" for i in range(9)], [str(i) for i in range(9)], "*/seq"),
        ([*(f"a/{i}/b" for i in range(8)), "a/x"], [*(f"{i}/b" for i in range(8)), "x"], "a/*"),
        ([*(f"x{i}" for i in range(8)), "a/x"], [*(f"x{i}" for i in range(8)), "a/x"], "*"),
        (["a/b", "a/c"], ["a/b", "a/c"], ""),
    ],
)
def test_names_lose_what_all_of_them_share(names, short, title):
    assert sr.plot._short_names(names) == (short, title)
