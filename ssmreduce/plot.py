"""Plots with matplotlib; each takes and returns an Axes."""

from typing import Any

from ._optional import optional_import
from .sweep import Sweep


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
    if ax is None:
        figure = optional_import("matplotlib.figure", "plot").Figure(figsize=(7, 4.5), layout="constrained")
        ax = figure.add_subplot()
    markers = "osD^v<>P*X"
    for i, method in enumerate(sweep.methods):
        ratios, values = sweep.curve(method)
        ax.plot(100 * ratios, values, marker=markers[i % len(markers)], markersize=4.5, linewidth=1.5, label=method)
    ax.set_xlabel("states dropped (%)")
    ax.set_ylabel(label)
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)
    return ax
