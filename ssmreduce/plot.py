"""Plots with matplotlib; each takes and returns an Axes.

Legends with many entries stand on the right of the axes; a figure of your own makes room with ``layout="constrained"``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ._support.arrays import to_numpy
from ._support.optional import optional_import
from .errors import printable
from .evaluation import Sweep
from .models import SSMModel
from .norms import hankel_singular_values as _hankel_singular_values
from .responses._gains import frequencies
from .responses._gains import singular_values as _gains
from .selection import Scores
from .systems import DiagonalSSM, error_system

_MARKERS = "osD^v<>P*X"
_MANY = 8  # names beyond which they are shortened, and lines beyond which a legend would hide them
_ROWS = 20  # of a legend that is no higher than the figure
_ENTRIES = 40  # of a legend or an axis, at most


def _axes(ax: Any) -> Any:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    figure = optional_import("matplotlib.figure", "plot").Figure(figsize=(7, 4.5), layout="constrained")
    return figure.add_subplot()


def _finished(ax: Any, xlabel: str, ylabel: str, *, beside: bool = False, title: str = "") -> Any:
    """Labels, grid, and a legend, beside the axes where it would hide something or is long."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
    handles, labels = ax.get_legend_handles_labels()
    shown = _spread(len(handles))
    handles, labels = [handles[i] for i in shown], [labels[i] for i in shown]
    if beside or len(handles) > _MANY:
        columns = -(-len(handles) // _ROWS)
        place = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "ncols": columns, "fontsize": "small"}
        ax.legend(handles, labels, frameon=False, title=title or None, **place)
    elif handles:
        ax.legend(handles, labels, framealpha=0.8, edgecolor="none")
    return ax


def _spread(count: int) -> list[int]:
    """Indices of at most `_ENTRIES` of so many, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, _ENTRIES))})


def _colours(count: int) -> list:
    """Colours that can be told apart, none of them grey; of many the order shows."""
    colormaps = optional_import("matplotlib", "plot").colormaps
    if count <= 9:
        return [colour for i, colour in enumerate(colormaps["tab10"].colors) if i != 7][:count]
    return list(colormaps["viridis"](np.linspace(0.0, 0.92, count)))


def _text(name: object) -> str:
    """A name as matplotlib shows it: no formula, no control characters, and in the legend whatever it begins with."""
    text = printable(name).replace("\n", "\\n").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _short_names(names: Iterable[str]) -> tuple[list[str], str]:
    """Names of layers, without what all of them begin and end with where they are many; and what that is."""
    names = list(map(_text, names))
    if len(names) <= _MANY:
        return names, ""
    parts = [re.findall("[^/.]+[/.]?", name) for name in names]
    most = min(len(one) for one in parts) - 1
    head = next((i for i in range(most) if len({one[i] for one in parts}) > 1), most)
    tail = next((i for i in range(most - head) if len({one[-1 - i] for one in parts}) > 1), most - head)
    middle = ["".join(one[head : len(one) - tail]) for one in parts]
    end = middle[0][-1:] if tail else ""
    return [text.rstrip("/.") for text in middle], "".join(
        [*parts[0][:head], "*", end, *parts[0][len(parts[0]) - tail :]]
    )


def trade_off(sweep: Sweep, *, ax: Any = None, label: str = "value") -> Any:
    """Value against the share of states dropped, a line a method.

    Parameters
    ----------
    sweep : Sweep
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default the axes of a new figure.
    label : str
        What the value is, for the vertical axis.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> from ssmreduce.evaluation import SweepRow
    >>> ax = trade_off(Sweep((SweepRow("last", 0.0, 4, {"a": 4}, 1.0), SweepRow("last", 0.5, 2, {"a": 2}, 0.9))))
    >>> ax.get_xlabel()
    'states dropped (%)'
    """
    ax = _axes(ax)
    colours = _colours(len(sweep.methods))
    for i, method in enumerate(sweep.methods):
        ratios, values = sweep.curve(method)
        style = {"marker": _MARKERS[i % len(_MARKERS)], "markersize": 4.5, "linewidth": 1.5, "color": colours[i]}
        ax.plot(100 * ratios, values, label=_text(method), **style)
    return _finished(ax, "states dropped (%)", _text(label))


def hankel_singular_values(systems: Mapping[str, DiagonalSSM], *, ax: Any = None) -> Any:
    """Hankel singular values of stable causal layers, a line a layer, over their share of the order.

    Parameters
    ----------
    systems : mapping
        Label -> system, such as a whole `SSMModel`; of a batch the largest value of each position is shown.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    UnstableSystemError, NotCausalError
        As in `hankel_singular_values`.
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> ax = hankel_singular_values({"a": DiagonalSSM([0.9, 0.5], [[1.0], [1.0]], [[1.0, 1.0]], [[0.0]])})
    >>> ax.get_yscale()
    'log'
    """
    ax = _axes(ax)
    labels, all_of_them = _short_names(systems)
    for label, colour, ssm in zip(labels, _colours(len(labels)), systems.values(), strict=True):
        values = to_numpy(_hankel_singular_values(ssm)).reshape(-1, 2 * ssm.order).max(axis=0)
        values = values[values > 1e-16 * values.max(initial=0.0)]
        at = np.arange(1, values.size + 1) / (2 * ssm.order)
        ax.semilogy(at, values, marker=".", linewidth=1, label=label, color=colour)
    return _finished(ax, "index / real order", "Hankel singular value", title=all_of_them)


def poles(ssm: DiagonalSSM, reduced: Mapping[str, DiagonalSSM], *, ax: Any = None) -> Any:
    """Poles in the unit circle, before and after, folded into the upper half plane.

    Parameters
    ----------
    ssm : DiagonalSSM
        The original.
    reduced : mapping
        Label -> reduced system, such as one method at several ratios.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.5j], [[1.0], [1.0]], [[1.0, 1.0]], [[0.0]])
    >>> len(poles(ssm, {"half": ssm}).lines)
    3
    """
    ax = _axes(ax)
    arc = np.linspace(0.0, np.pi, 200)
    ax.plot(np.cos(arc), np.sin(arc), color="0.6", linewidth=0.8)
    styles: list[dict] = [{"color": "0.8", "markersize": 6.5}]
    for colour, size in zip(_colours(len(reduced)), np.linspace(7.0, 2.5, len(reduced)), strict=True):
        # hollow and ever smaller: poles that stay are at one place in every system
        styles.append({"color": colour, "markersize": size, "markerfacecolor": "none", "markeredgewidth": 1.0})
    for i, (label, one) in enumerate([("original", ssm), *reduced.items()]):
        Lambda = to_numpy(one.Lambda).ravel()
        ax.plot(
            Lambda.real, abs(Lambda.imag), _MARKERS[i % len(_MARKERS)], linestyle="", label=_text(label), **styles[i]
        )
    ax.set_aspect("equal")
    return _finished(ax, "Re", "|Im|", beside=True)


def layer_scores(scores: Scores, *, ax: Any = None) -> Any:
    """Scores of every layer in descending order; infinite ones (unstable states) are left out.

    Parameters
    ----------
    scores : Scores
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> layer_scores(Scores({"a": np.array([1.0, 0.1])}, "mine", "global")).get_ylabel()
    'score (mine)'
    """
    ax = _axes(ax)
    labels, all_of_them = _short_names(scores)
    for label, colour, values in zip(labels, _colours(len(labels)), scores.values(), strict=True):
        values = -np.sort(-values[np.isfinite(values)], axis=None)
        ax.semilogy(np.arange(1, values.size + 1), values, linewidth=1.2, label=label, color=colour)
    return _finished(ax, "state, largest first", f"score ({_text(scores.method)})", title=all_of_them)


def states_left(model: SSMModel, candidates: Mapping[str, SSMModel], *, ax: Any = None) -> Any:
    """Stored states that are left in every layer, a group of bars a layer in front of the original's.

    Parameters
    ----------
    model : SSMModel
        The original.
    candidates : mapping
        Label -> reduced model with the same layers.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> [text.get_text() for text in states_left(model, {"same": model}).get_legend().get_texts()]
    ['original', 'same']
    """
    ax = _axes(ax)
    layers = np.arange(len(model))
    ax.bar(layers, list(model.orders.values()), 0.9, color="0.88", label="original")
    width = 0.8 / max(1, len(candidates))
    for i, (colour, (label, one)) in enumerate(zip(_colours(len(candidates)), candidates.items(), strict=True)):
        orders = one.orders
        at = layers + (i - (len(candidates) - 1) / 2) * width
        ax.bar(at, [orders[name] for name in model], width, color=colour, label=_text(label))
    names, all_of_them = _short_names(model)
    shown = _spread(len(names))
    turned = {"rotation": 90} if all_of_them else {"rotation": 20, "ha": "right"}
    ax.set_xticks(layers[shown], [names[i] for i in shown], fontsize="small", **turned)
    return _finished(ax, all_of_them, "stored states", beside=True)


def singular_values(
    ssm: DiagonalSSM, reduced: Mapping[str, DiagonalSSM] | None = None, *, count: int = 1000, ax: Any = None
) -> Any:
    """Largest and smallest singular value over frequency, and the largest one of the error systems.

    Parameters
    ----------
    ssm : DiagonalSSM
        A single system; it may be unstable.
    reduced : mapping, optional
        Label -> reduced system.
    count : int
        Frequencies in (0, pi], spaced logarithmically down to the slowest pole.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    MissingDependencyError
        matplotlib is not installed.

    Notes
    -----
    A grid shows; it does not certify: peaks narrower than its spacing are missed. See `certify`.

    Examples
    --------
    >>> ssm = DiagonalSSM([0.9, 0.5], [[1.0], [0.1]], [[1.0, 0.1]], [[0.0]])
    >>> len(singular_values(ssm, {"first": DiagonalSSM([0.9], [[1.0]], [[1.0]], [[0.0]])}).lines)
    2
    """
    ax = _axes(ax)
    omega = frequencies(ssm, count)
    values = _gains(ssm, omega)
    ax.loglog(omega, values.max(axis=1), color="0.3", label="original")
    if values.shape[1] > 1:
        ax.fill_between(omega, values.min(axis=1), values.max(axis=1), color="0.9")
    reduced = reduced or {}
    for colour, (label, one) in zip(_colours(len(reduced)), reduced.items(), strict=True):
        error = _gains(error_system(ssm, one), omega).max(axis=1)
        ax.loglog(omega, error, linewidth=1.2, label=f"error of {_text(label)}", color=colour)
    return _finished(ax, "frequency (rad/sample)", "gain")
