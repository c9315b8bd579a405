"""The section of one layer: poles, importance, singular values, gains, calibrated error, each with its numbers."""

import base64
from collections.abc import Iterable

import numpy as np

from .._support.arrays import one_minus_abs
from .._support.html import Html, html_row, html_table, tag
from ._chart import Line, chart, spread, unit_circle
from ._contents import Contents, counted, number, scrolled
from ._layers import LayerNumbers, poles_of
from ._ratios import RATIOS

_POLES = 40_000  # drawn in all layers and candidates together
_FEWEST = 32  # poles drawn of a layer
_STRONGEST = 8  # states in the table of a layer
_RANGE = 1.25  # of the coordinates of a pole that is drawn


def layer_section(contents: Contents, name: str, place: int) -> Html:
    """A part of the page that opens and closes."""
    layer, numbers = contents.inspection.layers[place], contents.layers[name]
    kind = f"{counted(layer.systems, 'system')} of {layer.inputs} x {layer.outputs}"
    halves = ", bidirectional" if layer.bidirectional else ""
    states = tag("span", counted(layer.states, "state"), id=f"layer-{place}-left")
    figures = [
        _poles(contents, name, numbers),
        _importance(name, numbers),
        _hankel(name, numbers),
        _gain(contents, name, place, numbers),
        _calibrated(name, numbers),
    ]
    return tag(
        "details",
        tag("summary", name, " ", states, tag("span", f" ({kind}{halves})")),
        tag("div", *(figure for figure in figures if figure), class_="figures"),
        class_="layer",
        id=f"layer-{place}",
    )


def _figure(title: str, picture: Html, table: Html, note: str = "") -> Html:
    numbers = tag("details", tag("summary", "Numbers"), scrolled(table, f"numbers: {title}"))
    return tag("figure", tag("h3", title), picture, tag("figcaption", note) if note else "", numbers)


# ---------------------------------------------------------------- poles


def _poles(contents: Contents, name: str, numbers: LayerNumbers) -> Html:
    cap = max(_FEWEST, _POLES // (len(contents.layers) * (1 + len(contents.candidates))))
    drawn = _drawn(numbers, cap)
    data = {"data_poles": _packed(numbers.poles[drawn])}
    for method, leaving in contents.leaving.items():
        data[f"data_steps{method.lower()}"] = "".join(chr(97 + step) for step in leaving.steps[name][drawn])
    for i, candidate in enumerate(contents.candidates.values()):
        poles = poles_of(candidate, name)
        data[f"data_other{i}"] = _packed(poles[spread(poles.size, cap)])
    key = [tag("li", "stays", class_="dot"), tag("li", "leaves", class_="ring"), tag("li", "candidate", class_="cross")]
    picture = Html(tag("ul", *key, class_="key") + unit_circle(**data))
    few = f"{drawn.size:,} of {numbers.poles.size:,} poles are drawn, evenly from strong to weak. "
    note = (
        few if drawn.size < numbers.poles.size else ""
    ) + "Poles of the lower half plane are drawn in the upper half."
    tables = [_strongest(numbers)] + ([_stay(contents, name)] if contents.leaving else [])
    return _figure("Poles", picture, Html("".join(tables)), note)


def _ranking(numbers: LayerNumbers) -> np.ndarray:
    return np.argsort(-numbers.importance["H-infinity"], kind="stable")


def _drawn(numbers: LayerNumbers, cap: int) -> np.ndarray:
    """Indices of the states that are drawn."""
    return np.sort(_ranking(numbers)[spread(numbers.poles.size, cap)])


def _packed(poles: np.ndarray) -> str:
    """Poles of the upper half plane as little-endian int16 pairs in base64."""
    pairs = np.stack([poles.real, np.abs(poles.imag)], axis=-1) / _RANGE
    return base64.b64encode((np.clip(pairs, -1, 1) * 32767).round().astype("<i2").tobytes()).decode()


def _strongest(numbers: LayerNumbers) -> Html:
    rows = []
    for i in _ranking(numbers)[:_STRONGEST]:
        pole = numbers.poles[i]
        values = (number(values[i]) for values in numbers.importance.values())
        rows.append([str(i), number(float(one_minus_abs(pole))), number(abs(np.angle(pole))), *values])
    return html_table(
        ["state", tag("span", "1 − |λ|", class_="whole"), "angle (rad)", *numbers.importance],
        rows,
        "the strongest states",
    )


def _stay(contents: Contents, name: str) -> Html:
    counts = {method: leaving.counts[name] for method, leaving in contents.leaving.items()}
    steps = range(max(map(len, counts.values())))
    cells = ([f"{RATIOS[i]:.0%}", *(str(c[i]) if i < len(c) else "–" for c in counts.values())] for i in steps)
    rows = [html_row(row, data_step=str(i)) for i, row in enumerate(cells)]
    return html_table(["dropped", *counts], rows, "states that stay, of the whole model's share dropped")


# ---------------------------------------------------------------- curves


def _importance(name: str, numbers: LayerNumbers) -> Html:
    lines, rows = [], []
    for i, (criterion, values) in enumerate(numbers.importance.items()):
        finite = -np.sort(-values[np.isfinite(values)])
        largest = finite[0] if finite.size and finite[0] > 0 else 1.0
        lines.append(Line(criterion, np.arange(1, finite.size + 1), finite / largest, i + 1))
        some = np.quantile(finite, [1, 0.9, 0.5, 0.1, 0]) if finite.size else [np.nan] * 5
        rows.append([criterion, *map(number, some)])
    about = f"Importance of the states of {name}, largest first, a line a criterion."
    picture = chart(lines, about=about, xlabel="state, most important first", ylabel="share of largest", y_log=True)
    headings = ["criterion", "largest", "90 %", "median", "10 %", "smallest"]
    return _figure("Importance", picture, html_table(headings, rows, "quantiles over the states"))


def _hankel(name: str, numbers: LayerNumbers) -> Html:
    if not numbers.hankel:
        return _left_out("Hankel singular values", "the layer is large and was not certified")
    lines = [
        Line(half, np.arange(1, values.size + 1), values, i + 1)
        for i, (half, values) in enumerate(numbers.hankel.items())
    ]
    most = max(values.size for values in numbers.hankel.values())
    places = sorted({*(2**k for k in range(20) if 2**k <= most), most} - {0})
    rows = [
        [str(k), *(number(v[k - 1], ".4g") if k <= v.size else "–" for v in numbers.hankel.values())] for k in places
    ]
    about = f"Hankel singular values of {name}, of {most} real states, largest first."
    picture = chart(lines, about=about, xlabel="real state", ylabel="singular value", y_log=True)
    return _figure("Hankel singular values", picture, html_table(["index", *numbers.hankel], rows))


def _gain(contents: Contents, name: str, place: int, numbers: LayerNumbers) -> Html:
    if not numbers.omega.size:
        return _left_out("Gain over frequency", "a layer of this width takes too long to draw")
    lines = [Line("original", numbers.omega, numbers.gain, 0)]
    for i, (label, errors) in enumerate(numbers.errors.items(), start=1):
        lines.append(Line(f"error of {label}", numbers.omega, errors, i, _bound(contents, i, place)))
    shown = spread(numbers.omega.size, 9)
    headings = ["omega (rad/sample)", *(line.label for line in lines)]
    rows = [[number(numbers.omega[k], ".4g"), *(number(line.y[k]) for line in lines)] for k in shown]
    bounds = [["proven bound", "–", *("–" if b.bound is None else number(b.bound) for b in lines[1:])]]
    about = f"Largest gain of {name} over frequency, and that of the error of each candidate with its proven bound."
    picture = chart(lines, about=about, xlabel="frequency (rad/sample)", ylabel="gain", x_log=True, y_log=True)
    note = "" if len(lines) == 1 else "The curves are drawn on a grid; the dashed bounds hold between its points too."
    return _figure("Gain over frequency", picture, html_table(headings, rows + bounds if lines[1:] else rows), note)


def _bound(contents: Contents, candidate: int, place: int) -> float | None:
    assert contents.comparison is not None
    certificate = contents.comparison.rows[candidate].layers[place].certificate
    return None if certificate is None else certificate.upper


def _calibrated(name: str, numbers: LayerNumbers) -> Html | None:
    errors = numbers.calibrated
    if errors is None:
        return None
    dropped = np.arange(errors.size)
    line = Line("calibrated elimination", 100 * dropped / max(1, errors.size - 1), errors, 1)
    places: Iterable[int] = spread(errors.size, 11)
    rows = [[str(k), number(errors[k])] for k in places]
    about = f"Relative output error of {name} on the calibration's data against the share of its states eliminated."
    picture = chart([line], about=about, xlabel="states of the layer dropped (%)", ylabel="error", y_log=True)
    return _figure("Calibrated error", picture, html_table(["states dropped", "relative output error"], rows))


def _left_out(title: str, why: str) -> Html:
    return tag("figure", tag("h3", title), tag("p", f"Left out: {why}.", class_="none"))
