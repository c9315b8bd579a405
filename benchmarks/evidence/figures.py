"""Figures from the stored cells, and one from a shipped checkpoint."""

import io
from pathlib import Path
from typing import Any

import numpy as np

import ssmreduce as sr

from .cells import FULL, RESULTS, Cell, stored
from .files import write_atomically
from .methods import METHODS
from .models import load_network
from .statistics import Cells, Group
from .tables import TABLES

CURVES = ("random", "uniform_magnitude", "lamp", "last", "aire", "balanced", "eliminate", "compress_linear", "compress")
SHOWN = Cell("digits", "s5", 0, "last", 0.5)  # network and method of the figure of importance


def curves(cells: Cells, groups: list[Group]) -> Any:
    """Accuracy against the share of states dropped: one panel per group, mean and range over seeds."""
    from matplotlib.figure import Figure

    columns = min(3, len(groups))
    rows = -(-len(groups) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows + 0.8), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for ax, group in zip(axes, groups, strict=False):
        _panel(ax, cells, group)
    for ax in axes[len(groups) :]:
        ax.set_axis_off()
    handles: dict[str, Any] = {}
    for ax in axes:
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    return figure


def _panel(ax: Any, cells: Cells, group: Group) -> None:
    full = cells.accuracies(group, FULL, 0.0).mean()
    ax.axhline(full, color="0.6", lw=0.8)
    for number, name in enumerate(CURVES):
        ratios = [r for r in METHODS[name].ratios if cells.has(group, name, r)]
        if not ratios:
            continue
        values = np.stack([cells.accuracies(group, name, r) for r in ratios])
        style = {"color": f"C{number}", "ls": "-" if METHODS[name].data else "--"}
        ax.plot(np.multiply(100, ratios), values.mean(axis=1), marker=".", label=METHODS[name].label, **style)
        ax.fill_between(
            np.multiply(100, ratios), values.min(axis=1), values.max(axis=1), color=style["color"], alpha=0.12
        )
    ax.set_title(f"{group.task}, {group.kind}", fontsize="medium")
    ax.set_xlabel("states dropped (%)")
    ax.set_ylabel("test accuracy (%)")
    ax.grid(alpha=0.3)


def importance(cell: Cell = SHOWN) -> Any:
    """Scores of LAST over the angle of the poles, per layer; filled: the states left at the cell's ratio."""
    from matplotlib.figure import Figure

    model = load_network(cell.job.path).model
    scores = sr.score(model, cell.method)
    kept = sr.select(scores, ratio=cell.ratio).keep
    figure = Figure(figsize=(3.0 * len(model), 3.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(model), sharey=True))
    for ax, (name, ssm) in zip(axes, model.items(), strict=True):
        stays = np.isin(np.arange(ssm.order), kept[name])
        omega, radius = np.abs(np.angle(ssm.Lambda)), np.abs(ssm.Lambda)
        for part, face in ((stays, "C0"), (~stays, "none")):
            ax.scatter(omega[part], scores[name][part], s=10 + 60 * radius[part] ** 8, facecolors=face, edgecolors="C0")
        ax.set_yscale("log")
        ax.set_title(f"{name}: {stays.sum()} of {ssm.order} left", fontsize="medium")
        ax.set_xlabel("omega (rad/sample)")
    axes[0].set_ylabel(f"score ({METHODS[cell.method].label})")
    figure.suptitle(
        f"{cell.task}, {cell.kind}, seed {cell.seed}: filled states stay at {cell.ratio:.0%}", fontsize="medium"
    )
    return figure


def write_all(folder: Path = TABLES, results: Path = RESULTS) -> list[Path]:
    """Write the pictures that the stored cells and checkpoints support."""
    cells = Cells(stored(results))
    made = {"curves": curves(cells, cells.groups)} if cells.groups else {}
    if SHOWN.job.path.exists():
        made["importance"] = importance()
    paths = []
    for name, figure in made.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=90, metadata={"Software": None})
        paths.append(folder / f"{name}.png")
        write_atomically(paths[-1], buffer.getvalue())
    return paths
