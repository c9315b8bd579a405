"""Plots with matplotlib; each takes and returns an Axes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ._arrays import to_numpy
from ._optional import optional_import
from .certificates import error_system
from .hankel import hankel_singular_values as _hankel_singular_values
from .model import SSMModel
from .responses import frequency_response
from .scores import Scores
from .sweep import Sweep
from .systems import DiagonalSSM

_MARKERS = "osD^v<>P*X"


def _axes(ax: Any) -> Any:
    """The axes given, or those of a new figure."""
    if ax is not None:
        return ax
    figure = optional_import("matplotlib.figure", "plot").Figure(figsize=(7, 4.5), layout="constrained")
    return figure.add_subplot()


def _finished(ax: Any, xlabel: str, ylabel: str) -> Any:
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False)
    return ax


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
    >>> from ssmreduce.sweep import SweepRow
    >>> ax = trade_off(Sweep((SweepRow("last", 0.0, 4, {"a": 4}, 1.0), SweepRow("last", 0.5, 2, {"a": 2}, 0.9))))
    >>> ax.get_xlabel()
    'states dropped (%)'
    """
    ax = _axes(ax)
    for i, method in enumerate(sweep.methods):
        ratios, values = sweep.curve(method)
        ax.plot(100 * ratios, values, marker=_MARKERS[i % len(_MARKERS)], markersize=4.5, linewidth=1.5, label=method)
    return _finished(ax, "states dropped (%)", label)


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
    for label, ssm in systems.items():
        values = to_numpy(_hankel_singular_values(ssm)).reshape(-1, 2 * ssm.order).max(axis=0)
        values = values[values > 1e-16 * values.max(initial=0.0)]
        ax.semilogy(np.arange(1, values.size + 1) / (2 * ssm.order), values, marker=".", linewidth=1, label=label)
    return _finished(ax, "index / real order", "Hankel singular value")


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
    for i, (label, one) in enumerate({"original": ssm, **reduced}.items()):
        Lambda = to_numpy(one.Lambda).ravel()
        style = {"color": "0.7", "markersize": 7} if i == 0 else {"markersize": 4}
        ax.plot(Lambda.real, abs(Lambda.imag), _MARKERS[i % len(_MARKERS)], linestyle="", label=label, **style)
    ax.set_aspect("equal")
    return _finished(ax, "Re", "|Im|")


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
    for name, values in scores.items():
        values = -np.sort(-values[np.isfinite(values)], axis=None)
        ax.semilogy(np.arange(1, values.size + 1), values, linewidth=1.2, label=name)
    return _finished(ax, "state, largest first", f"score ({scores.method})")


def states_left(model: SSMModel, candidates: Mapping[str, SSMModel], *, ax: Any = None) -> Any:
    """Stored states that are left in every layer, a group of bars a layer.

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
    >>> model = sr.load("examples/s5_digits/model.safetensors")
    >>> [text.get_text() for text in states_left(model, {"same": model}).get_legend().get_texts()]
    ['original', 'same']
    """
    ax = _axes(ax)
    everyone = {"original": model, **candidates}
    width = 0.8 / len(everyone)
    for i, (label, one) in enumerate(everyone.items()):
        at = np.arange(len(model)) + (i - (len(everyone) - 1) / 2) * width
        ax.bar(at, [one.orders[name] for name in model], width, color="0.8" if i == 0 else None, label=label)
    ax.set_xticks(np.arange(len(model)), list(model), rotation=20, ha="right")
    return _finished(ax, "", "stored states")


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
    slowest = np.clip(np.abs(1 - np.abs(to_numpy(ssm.Lambda))).min(initial=1.0), 1e-8, 1e-1)
    omega = np.pi * np.logspace(np.log10(slowest) - 1, 0, count)
    values = _gains(ssm, omega)
    ax.loglog(omega, values.max(axis=1), color="0.3", label="original")
    if values.shape[1] > 1:
        ax.fill_between(omega, values.min(axis=1), values.max(axis=1), color="0.9")
    for label, one in (reduced or {}).items():
        error = _gains(error_system(ssm, one), omega).max(axis=1)
        ax.loglog(omega, error, linewidth=1.2, label=f"error of {label}")
    return _finished(ax, "frequency (rad/sample)", "gain")


def _gains(ssm: DiagonalSSM, omega: np.ndarray) -> np.ndarray:
    """Singular values at each frequency, of all systems of a batch: those of the block-diagonal layer."""
    values = np.linalg.svd(to_numpy(frequency_response(ssm, omega)), compute_uv=False)
    return np.moveaxis(values, -2, 0).reshape(omega.size, -1)
