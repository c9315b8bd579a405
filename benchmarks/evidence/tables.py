"""Tables from the stored cells, as text, CSV and LaTeX: seconds, no network is run."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .cells import FULL, RESULTS, stored
from .files import write_atomically
from .methods import METHODS
from .statistics import Cells, Group, Incomplete, error_correlations, largest_ratio, paired_difference
from .train import HERE

TABLES = HERE / "tables"
STORED_SPEED = RESULTS / "speed.json"
HEADLINE = ("last", "aire", "balanced", "eliminate", "compress_linear", "compress")
RATIOS = (0.5, 0.8, 0.9)
ABSENT = ""
KINDS = {"s5": "S5", "s5-bi": "S5 bidirectional", "s4d": "S4D", "lru": "LRU"}
PAGES = ("summary", "accuracy")  # tables whose texts also stand in one file


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Attributes
    ----------
    name : str
        Of its files.
    title : str
    header : tuple of str
    rows : list of tuple of str
    notes : tuple of str
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        rule = "-" * (sum(widths) + 2 * len(widths) - 2)

        def aligned(line: tuple[str, ...]) -> str:
            padded = [v.rjust(w) for v, w in zip(line[1:], widths[1:], strict=True)]
            return "  ".join([line[0].ljust(widths[0]), *padded]).rstrip()

        body = [aligned(self.header), rule, *(aligned(row) for row in self.rows)]
        return "\n".join([self.title, "", *body, *([""] if self.notes else []), *self.notes]) + "\n"

    def csv(self) -> str:
        """Comma-separated values."""
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([self.header, *self.rows])
        return buffer.getvalue()

    def latex(self) -> str:
        """A booktabs tabular."""
        lines = [" & ".join(_escaped(v) for v in row) + r" \\" for row in (self.header, *self.rows)]
        columns = "l" + "r" * (len(self.header) - 1)
        head = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule"]
        return "\n".join([*head, *lines[1:], r"\bottomrule", r"\end{tabular}"]) + "\n"

    def write(self, folder: Path) -> None:
        """Write the three files."""
        for suffix, content in ((".txt", self.text()), (".csv", self.csv()), (".tex", self.latex())):
            write_atomically(folder / f"{self.name}{suffix}", content)


def _escaped(value: str) -> str:
    for plain, escaped in (("%", r"\%"), ("_", r"\_"), ("+-", r"$\pm$"), ("&", r"\&")):
        value = value.replace(plain, escaped)
    return value


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean and sample standard deviation; the mean alone for one value."""
    values = np.asarray(list(values), dtype=float)
    mean = f"{values.mean():.{digits}f}"
    return mean if len(values) < 2 else f"{mean} +- {values.std(ddof=1):.{digits}f}"


def _percent(ratio: float) -> str:
    return f"{100 * ratio:.0f} %"


def networks(cells: Cells) -> Table:
    """What was trained, and whether it uses its states."""
    rows = []
    for group in cells.groups:
        full = cells.accuracies(group, FULL, 0.0)
        record = cells.of(group, FULL, 0.0)[0]
        half = cells.has(group, "random", 0.5)
        lost = f"{cells.losses(group, 'random', 0.5).mean():.1f}" if half else ABSENT
        uses = "yes" if cells.uses_its_states(group) else ("no" if half else ABSENT)
        seeds = str(len(group.seeds))
        rows.append(
            (group.task, group.kind, seeds, str(record["states"]), str(record["count"]), spread(full), lost, uses)
        )
    header = ("task", "kind", "seeds", "states", "tested", "accuracy (%)", "lost at random half", "uses its states")
    notes = (
        "accuracy: mean and standard deviation over seeds, on the test sequences scored here; states are stored ones.",
        "lost at random half: points lost when a random half of the states leaves; below 5 a task tells methods apart",
        "by chance, and the tables of testable tasks leave it out. Averages over groups take those with three seeds.",
    )
    return Table("networks", "The trained networks", header, rows, notes)


def accuracy(cells: Cells, group: Group) -> Table:
    """Accuracy of every method at every ratio, for one kind of network on one task."""
    ratios = cells.planned(group.kind, "last")
    rows = []
    for name, method in METHODS.items():
        found = [spread(cells.accuracies(group, name, r)) if cells.has(group, name, r) else ABSENT for r in ratios]
        if any(found):
            rows.append((method.label, *found))
    full = cells.accuracies(group, FULL, 0.0)
    count = cells.of(group, FULL, 0.0)[0]["count"]
    error = 100 * np.sqrt(full.mean() / 100 * (1 - full.mean() / 100) / count)
    title = f"{group.task}, {group.kind}: test accuracy (%) by share of states dropped; full {spread(full)}"
    notes = (
        f"mean and standard deviation over {len(group.seeds)} seeds; binomial standard error of one network's full "
        f"accuracy {error:.1f} ({count} sequences)",
        *(
            ("Methods without a value at 95 % keep the same number of states in all features, at least one of 16.",)
            if group.kind == "s4d"
            else ()
        ),
    )
    return Table(f"accuracy_{group.task}_{group.kind}", title, ("method", *map(_percent, ratios)), rows, notes)


def summary(cells: Cells, groups: list[Group], name: str, title: str) -> Table:
    """Largest ratio within one point, and the loss there: averages over groups, of the methods complete in all."""
    rows = []
    for method in METHODS:
        complete = [group for group in groups if cells.complete(group, method)]
        served = [group for group in groups if METHODS[method].serves(group.kind)]
        if not complete or len(complete) < len(served):
            continue
        found = [largest_ratio(cells, group, method) for group in complete]
        ratio = 100 * np.mean([ratios.mean() for ratios, _ in found])
        lost = np.mean([losses.mean() for _, losses in found])
        each = [
            f"{np.mean([cells.losses(g, method, r).mean() for g in complete]):.1f}"
            if all(cells.has(g, method, r) for g in complete)
            else ABSENT
            for r in RATIOS
        ]
        rows.append((METHODS[method].label, str(len(complete)), f"{ratio:.0f}", f"{round(lost, 2) + 0.0:.2f}", *each))
    header = ("method", "groups", "ratio (%)", "loss there", *(f"loss at {_percent(r)}" for r in RATIOS))
    notes = (
        "ratio: largest share of states dropped up to which each network loses at most one point, 0 if none; found per",
        "network on the test part, as in the papers; means over seeds, then groups (task and kind of network).",
        "Losses in points of accuracy. Methods that did not run on all groups they serve are left out;",
        "the expensive ones ran from 50 % on, so that a network that loses more there counts as 0.",
    )
    return Table(name, title, header, rows, notes)


def headline(cells: Cells) -> Table:
    """Accuracy lost at a few ratios, and what it takes: per kind of network, on the groups where all methods ran."""
    rows, where = [], []
    for kind, label in KINDS.items():
        methods = [name for name in HEADLINE if METHODS[name].serves(kind)]
        groups = [
            group
            for group in cells.averaged
            if group.kind == kind
            and cells.uses_its_states(group)
            and all(cells.has(group, name, ratio) for name in methods for ratio in RATIOS)
        ]
        if groups:
            rows += [_headline_row(cells, groups, name, label) for name in methods]
            where.append(f"{label}: {sum(len(g.seeds) for g in groups)} networks ({_named(groups)})")
    notes = (
        "Points lost: mean and standard deviation over networks that use their states. CPU seconds: median.",
        *where,
    )
    header = ("method", *(f"lost at {_percent(r)}" for r in RATIOS), "CPU seconds", "unlabelled data")
    return Table("headline", "Points of test accuracy lost, no retraining", header, rows, notes)


def _headline_row(cells: Cells, groups: list[Group], method: str, label: str) -> tuple[str, ...]:
    losses = [np.concatenate([cells.losses(group, method, ratio) for group in groups]) for ratio in RATIOS]
    seconds = [record["seconds"] for group in groups for ratio in RATIOS for record in cells.of(group, method, ratio)]
    data = "300 sequences" if METHODS[method].data else "none"
    return f"{METHODS[method].label} ({label})", *map(spread, losses), f"{np.median(seconds):.2f}", data


def comparisons(cells: Cells) -> Table:
    """Each method against LAST and against AIRE, by a paired bootstrap."""
    rows = []
    for method in METHODS:
        for ratio in RATIOS:
            row = [METHODS[method].label, _percent(ratio)]
            for rival in ("last", "aire"):
                groups = [g for g in cells.averaged if cells.uses_its_states(g)]
                groups = [g for g in groups if cells.has(g, method, ratio) and cells.has(g, rival, ratio)]
                if method == rival or not groups:
                    row.append(ABSENT)
                    continue
                mean, low, high = paired_difference(cells, groups, method, rival, ratio)
                mark = "*" if low > 0 or high < 0 else " "
                row.append(f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]{mark}")
            if any(row[2:]):
                rows.append(tuple(row))
    notes = (
        "difference of accuracies in points, mean over groups that use their states and that the method serves;",
        "95 % intervals over draws of seeds and test sequences; * excludes 0 (no correction for many comparisons)",
    )
    header = ("method", "dropped", "minus LAST", "minus AIRE")
    return Table("comparisons", "Which method is better, and where", header, rows, notes)


QUANTITIES = {
    "hinf_error": "H-infinity error of the layers",
    "h2_error": "H2 error of the layers",
    "layer_error": "output error of the layers on data",
    "logit_error": "error of the logits on data",
    "agreement": "disagreement of the classes on data",
}


def correlations(cells: Cells, *, data: bool) -> Table:
    """How errors that need no labels follow the accuracy lost: over all methods, or those that use no data."""
    methods = [name for name, method in METHODS.items() if data or not method.data]
    rows = []
    for quantity, label in QUANTITIES.items():
        row = [label]
        for ratio in (None, *RATIOS):
            values = error_correlations(cells, quantity, methods, ratio)
            values = values[np.isfinite(values)]
            row.append(spread(values, 2) if len(values) else ABSENT)
        rows.append(tuple(row))
    notes = (
        "Spearman's coefficient per network, over methods (and ratios); mean and standard deviation over networks.",
        "Norms relative to the layer's own, averaged over layers; data: unlabelled training sequences that no method",
        "saw. Cells with an unstable layer have no norm and are left out of the first two rows.",
    )
    header = ("error", "all ratios", *(f"at {_percent(r)}" for r in RATIOS))
    which = "all methods" if data else "methods that use no data"
    name = "correlations" if data else "correlations_without_data"
    return Table(name, f"Rank correlation with the accuracy lost: {which}", header, rows, notes)


def costs(cells: Cells) -> Table:
    """What each method needs."""
    rows = []
    for name, method in METHODS.items():
        row = [method.label, "300 unlabelled sequences" if method.data else "none"]
        for kind in KINDS:
            seconds = [
                r["seconds"] for k, r in cells.records.items() if (k[1], k[3]) == (kind, name) and "seconds" in r
            ]
            row.append(f"{np.median(seconds):.2f}" if seconds else ABSENT)
        rows.append(tuple(row))
    header = ("method", "data", *KINDS.values())
    notes = ("median CPU seconds per reduction of a whole network over all ratios and tasks, calibration included",)
    return Table("costs", "What each method needs", header, rows, notes)


def failures(cells: Cells) -> Table:
    """The cells that failed."""
    rows = [
        (r["task"], f"{r['kind']}-{r['seed']}", r["method"], _percent(r["ratio"]), r["error"][:90])
        for _, r in sorted(cells.records.items())
        if r["status"] != "ok"
    ]
    return Table("failures", "Cells that failed", ("task", "network", "method", "dropped", "error"), rows)


def speed(path: Path = STORED_SPEED) -> list[Table]:
    """Forward passes against the share of states dropped, where they were measured."""
    if not path.exists():
        return []
    data = json.loads(path.read_text())
    rows: dict[tuple[str, str], list[str]] = {}
    for row in data["rows"]:
        rows.setdefault((row["task"], row["kind"]), []).append(f"{row['milliseconds']:.3f}")
    ratios = sorted({row["ratio"] for row in data["rows"]})
    header = ("task", "kind", *(f"{_percent(ratio)} dropped" for ratio in ratios))
    notes = (
        f"one thread, batches of {data['batch']}, PyTorch {data['torch']}; the least of several passes; uniform",
        "H-infinity, systems made ready beforehand. S4D runs as a convolution, which the number of states hardly",
        "touches. On a shared machine: read ratios.",
    )
    title = "CPU milliseconds per sequence, whole network"
    return [Table("speed", title, header, [(*key, *values) for key, values in rows.items()], notes)]


def all_tables(cells: Cells) -> list[Table]:
    """Every table that the stored cells support."""
    testable = [group for group in cells.averaged if cells.uses_its_states(group)]
    tables = [networks(cells), headline(cells)]
    for kind, label in KINDS.items():
        own = [group for group in cells.averaged if group.kind == kind]
        some = [group for group in testable if group.kind == kind]
        if own:
            tables.append(summary(cells, own, f"summary_{kind}_all", f"{label}, all tasks: {_named(own)}"))
        if some and some != own:
            title = f"{label}, tasks that use their states: {_named(some)}"
            tables.append(summary(cells, some, f"summary_{kind}_testable", title))
    tables += [comparisons(cells), correlations(cells, data=True), correlations(cells, data=False)]
    tables += [costs(cells), failures(cells), *speed()]
    return tables + [accuracy(cells, group) for group in cells.groups]


def _named(groups: list[Group]) -> str:
    return ", ".join(group.task for group in groups)


def write_all(folder: Path = TABLES, results: Path = RESULTS, ratios: tuple[float, ...] | None = None) -> list[Table]:
    """Write all tables from the stored cells, planned at the given ratios (see `Cells`).

    Raises
    ------
    Incomplete
        There is no cell at all.
    """
    cells = Cells(stored(results), ratios)
    if not cells.records:
        raise Incomplete(f"no cells in {results}")
    tables = all_tables(cells)
    for table in tables:
        table.write(folder)
    for page in PAGES:
        write_atomically(folder / f"all_{page}.txt", page_of(tables, page))
    return tables


def page_of(tables: list[Table], page: str) -> str:
    """The texts of the tables whose names begin with the page's."""
    return "\n\n".join(table.text() for table in tables if table.name.startswith(page))
