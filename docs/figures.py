"""Figures of the front page, light and dark, from the tables of the evidence: ``python docs/figures.py``."""

import csv
from pathlib import Path

import matplotlib as mpl
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
PANELS = {"digits_s5": "S5, digits", "digits_s4d": "S4D, digits"}
METHODS = {
    "LAST": ("prune: LAST", "#8c8c8c", "o"),
    "balanced truncation": ("reduce: balanced truncation", "#d1701f", "s"),
    "elimination": ("eliminate: unlabelled data", "#2f7fc1", "^"),
}
"""Methods of the table -> label, colour, marker: colours that show on white and on black."""


def curves(name: str) -> dict[str, tuple[list[float], list[float], list[float]]]:
    """States left (%), mean accuracy (%) and its standard deviation over the seeds, by method."""
    found = {}
    with (HERE / "tables" / f"evidence_accuracy_{name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            cells = {key: cell.split(" ± ") for key, cell in row.items() if key.endswith("%") and cell}
            left = [100 - float(key.removesuffix("%")) for key in cells]
            found[row["method"]] = (left, [float(c[0]) for c in cells.values()], [float(c[1]) for c in cells.values()])
    return found


def panel(ax: Axes, name: str, title: str) -> None:
    """One network: accuracy against states left, with its spread."""
    for method, (label, colour, marker) in METHODS.items():
        left, mean, deviation = curves(name)[method]
        ax.plot(left, mean, color=colour, marker=marker, ms=4, lw=1.6, label=label)
        low, high = ([m + sign * d for m, d in zip(mean, deviation, strict=True)] for sign in (-1, 1))
        ax.fill_between(left, low, [min(h, 100) for h in high], color=colour, alpha=0.15, lw=0)
    ax.set(title=title, xlabel="states left (%)", xlim=(91, 3), ylim=(0, 102))
    ax.grid(alpha=0.25)


def accuracy() -> Figure:
    """Accuracy against states left: what unlabelled data are worth."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for ax, (name, title) in zip(axes, PANELS.items(), strict=True):
        panel(ax, name, title)
    axes[0].set_ylabel("test accuracy (%), no retraining")
    axes[0].legend(loc="lower left", frameon=False, fontsize="small")
    return figure


def main() -> None:
    """Write the figures."""
    for mode, style in (("light", "default"), ("dark", "dark_background")):
        with mpl.style.context(style), mpl.rc_context({"svg.hashsalt": "ssmreduce"}):
            path = HERE / "_static" / f"accuracy-{mode}.svg"
            accuracy().savefig(path, transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
