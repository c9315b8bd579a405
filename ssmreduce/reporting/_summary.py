"""The first pages: what each candidate saves and costs, the layers at a glance, trade-off curves, what made it."""

import json
from collections.abc import Callable, Iterable

import numpy as np

from .._support.html import Html, html_row, html_table, tag
from ..evaluation import Sweep
from ..evaluation._compare import ComparisonRow, LayerComparison
from ._chart import Line, chart
from ._contents import Contents, breakable, counted, number, percent, scrolled
from ._record import environment, told

_PRINTED = 12  # layers on paper


def summary(contents: Contents) -> Html:
    """A card for each candidate, or one for the model alone."""
    if contents.comparison is None:
        rows = [[name, base] for name, base, *_ in _quantities(contents, None, None)]
        cards = [tag("article", html_table(["", "model"], rows), class_="card")]
    else:
        base, *others = contents.comparison.rows
        cards = [_card(contents, base, row, i) for i, row in enumerate(others, start=1)]
    timed = (
        f"The time is that of all layers on one sequence of {counted(contents.length, 'step')} in single precision, on "
        "one thread, the best of several rounds on this machine, without the network around them. Sizes are those of "
        "the compact arrays."
    )
    return tag(
        "section",
        tag("h2", "Summary", id="summary"),
        tag("div", *cards, class_="cards"),
        tag("p", timed, class_="soft"),
        aria_labelledby="summary",
    )


def _card(contents: Contents, base: ComparisonRow, row: ComparisonRow, place: int) -> Html:
    heading = tag("h3", row.label, id=f"card-{place}")
    table = html_table(["", "base", "reduced", "change"], _quantities(contents, base, row))
    saved = scrolled(table, f"what {row.label} saves")
    return tag("article", heading, saved, *_certificate(row), class_="card", aria_labelledby=f"card-{place}")


def _quantities(contents: Contents, base: ComparisonRow | None, row: ComparisonRow | None) -> Iterable[list[str]]:
    """Rows of name, base, reduced, change."""
    inspection, label = contents.inspection, "" if row is None else row.label
    states = sum(layer.states for layer in inspection.layers)
    pairs: list[tuple[str, float | None, float | None, Callable]] = [
        ("states", states, None if row is None else row.states, "{:,}".format),
        ("stored values", inspection.stored_values, None if row is None else row.stored_values, "{:,}".format),
        ("size", inspection.stored_bytes, None if row is None else row.stored_bytes, _bytes),
    ]
    for name, before, after, form in pairs:
        change = "–" if not before or after is None else f"{100 * (after / before - 1):+.1f} %"
        yield [name, *("–" if value is None else form(value) for value in (before, after)), change]
    before, after = contents.seconds["original"], contents.seconds.get(label)
    speed_up = "" if after is None else f"{before / after:.2f}x speed-up"
    yield ["time of the layers", _time(before), "" if after is None else _time(after), speed_up]
    if base is None or row is None:
        return
    for name, key, show in (
        ("agreement", "agreement", percent),
        ("output error", "network_error", number),
        ("value", "value", lambda value: number(value, ".4g")),
    ):
        first, second = getattr(base, key), getattr(row, key)
        if second is not None:
            change = f"{second - first:+.4g}" if key == "value" else ""
            yield [name, show(first), show(second), change]


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"


def _time(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"


def _certificate(row: ComparisonRow) -> list[Html]:
    """The worst layer by each error, and what the errors are."""
    certified = [layer for layer in row.layers if layer.certificate is not None]
    rows = [_worst("output error", row.layers, lambda layer: layer.output_error)]
    if certified:
        rows.append(_worst("proven peak error", certified, lambda layer: layer.peak_error, "≤ "))
        rows.append(_worst("H2 error", certified, lambda layer: layer.h2_error))
        rows.append(_worst("peak error over the least possible", certified, lambda layer: layer.multiple, "≤ "))
    title = "Certificate: the worst layer" if certified else "The worst layer, without a certificate"
    return [tag("h4", title), scrolled(html_table(["relative", "largest", "layer"], rows), f"errors of {row.label}")]


def _worst(
    name: str, layers: Iterable[LayerComparison], value: Callable[[LayerComparison], float], sign: str = ""
) -> list[object]:
    layers = [layer for layer in layers if not np.isnan(value(layer))]
    if not layers:
        return [name, "–", "–"]
    worst = max(layers, key=value)
    return [name, sign + number(value(worst)), breakable(worst.name)]


def at_a_glance(contents: Contents) -> Html:
    """One row a layer: states, those that stay at the slider, and every candidate."""
    candidates = [] if contents.comparison is None else contents.comparison.rows[1:]
    headings: list[object] = ["layer", "states", tag("span", "least 1 − |λ|", class_="whole"), "unstable"]
    if contents.leaving:
        headings.append(tag("span", "stay at the slider", class_="screen"))
    groups = [("original", len(headings)), *((row.label, 3) for row in candidates)]
    headings += ["states", "output error", "proven peak error"] * len(candidates)
    rows = [
        html_row(_glance(contents, i, candidates), class_="more" if i >= _PRINTED else None)
        for i in range(len(contents.inspection.layers))
    ]
    note = f"On paper only the first {_PRINTED} of {len(rows)} layers are listed." if len(rows) > _PRINTED else ""
    return tag(
        "section",
        tag("h2", "Layers at a glance", id="glance"),
        scrolled(html_table(headings, rows, groups=groups), "layers at a glance"),
        tag("p", *_explained(contents), class_="soft"),
        tag("p", note, class_="soft") if note else "",
        aria_labelledby="glance",
    )


def _glance(contents: Contents, i: int, candidates: Iterable[ComparisonRow]) -> list[object]:
    layer = contents.inspection.layers[i]
    name: object = layer.name
    if layer.name in contents.layers:
        name = tag("a", layer.name, href=f"#layer-{i}", data_opens=f"layer-{i}")
    cells: list[object] = [name, str(layer.states), number(layer.slowest_gap), str(len(layer.unstable))]
    if contents.leaving:
        counts = {method.lower(): leaving.counts[layer.name] for method, leaving in contents.leaving.items()}
        bar = Html('<b></b><span class="bar"><i></i></span>')
        cells.append(
            tag(
                "span",
                bar,
                data_counts=json.dumps(counts, separators=(",", ":")),
                data_heads=f"layer-{i}-left",
                class_="screen",
            )
        )
    for row in candidates:
        one = row.layers[i]
        cells += [str(one.states), number(one.output_error), number(one.peak_error)]
    return cells


def _explained(contents: Contents) -> list[object]:
    if contents.comparison is None:
        return ["The slowest pole rings longest; an unstable state has no norm."]
    comparison = contents.comparison
    return [
        f"Errors are relative to the layer's own output or norm. The output error is measured on {comparison.length} "
        f"steps of {comparison.inputs}; the proven peak error holds for every input, also for those that the data "
        "never hold."
    ]


def trade_off(sweep: Sweep) -> Html:
    """The curves of a sweep, and their numbers."""
    methods = sweep.methods
    curves = [sweep.curve(method) for method in methods]
    lines = [Line(method, 100 * x, y, i + 1) for i, (method, (x, y)) in enumerate(zip(methods, curves, strict=True))]
    ratios = sorted({row.ratio for row in sweep.rows})
    values = {(row.method, row.ratio): row.value for row in sweep.rows}
    rows = [[f"{100 * r:.3g} %", *(number(values.get((m, r)), ".4g") for m in methods)] for r in ratios]
    about = "Value against the share of states dropped, a line a method; the table holds the numbers."
    return tag(
        "section",
        tag("h2", "Trade-off", id="trade-off"),
        tag(
            "div",
            tag("figure", chart(lines, about=about, xlabel="states dropped (%)", ylabel="value")),
            scrolled(html_table(["dropped", *methods], rows), "trade-off"),
            class_="figures",
        ),
        aria_labelledby="trade-off",
    )


def record(contents: Contents) -> Html:
    """Versions, seeds, the command, and what the models say of themselves."""
    made = {"command": contents.command, **environment(), "seed": str(contents.seed)}
    parts = [tag("h2", "What made this report", id="record"), _facts(made, "this report")]
    original = told(contents.model)
    parts.append(_facts(original, "original"))
    for label, model in contents.candidates.items():
        facts = {key: value for key, value in told(model).items() if original.get(key) != value}
        parts.append(_facts(facts or {"record": "as the original"}, label))
    return tag("section", *parts, aria_labelledby="record")


def _facts(facts: dict[str, str], caption: str) -> Html:
    return tag("div", html_table([], facts.items(), caption), class_="facts")
