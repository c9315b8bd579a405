"""Line charts and the unit circle in SVG, drawn by hand: small, without a library, in the page's own colours."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .._support.html import Html, escaped, tag

_WIDTH, _HEIGHT = 360, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 12, 8, 36
_DECADES = 12  # of a logarithmic axis, at most
_LONGEST = 120  # points of a line
_COLOURS = 6  # of the style sheet, beside that of the original


@dataclass(frozen=True)
class Line:
    """A line of a chart; `bound` is a level that is drawn across it, dashed."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: int
    bound: float | None = None

    @property
    def style(self) -> str:
        """Class of its colour: 0 is the original's, the others come again after the last one."""
        return f"c{(self.colour - 1) % _COLOURS + 1 if self.colour else 0}"


class _Axis:
    """From values to the drawing, linear or logarithmic."""

    def __init__(self, low: float, high: float, start: float, end: float, *, log: bool) -> None:
        if log:
            low = max(low, high / 10.0**_DECADES)
        if not low < high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        self.log, self.low, self.high, self._start, self._end = log, low, high, start, end

    def __call__(self, value: np.ndarray | float) -> np.ndarray:
        if self.log:
            value, low, high = np.log(np.maximum(value, self.low)), math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return self._start + (np.clip(value, low, high) - low) / (high - low) * (self._end - self._start)

    def ticks(self) -> list[tuple[float, str]]:
        """Values and texts of the labels: powers of ten, or round numbers."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            powers = range(first, last + 1, max(1, -(-(last - first) // 6)))
            if len(powers) >= 2:
                return [(10.0**power, _power(power)) for power in powers]
            return [(value, f"{value:.2g}") for value in np.geomspace(self.low, self.high, 3)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(k for k in (1, 2, 5, 10) if (self.high - self.low) / (k * step) <= 5)
        values = np.arange(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1) * step
        return [(float(value), f"{value:.6g}") for value in values]


def _power(exponent: int) -> str:
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def chart(
    lines: Sequence[Line], *, about: str, xlabel: str, ylabel: str, x_log: bool = False, y_log: bool = False
) -> Html:
    """A chart with a list of its lines; `about` describes it for screen readers."""
    drawn = [(line, *_clean(line, x_log, y_log)) for line in lines]
    xs = np.concatenate([x for _, x, _ in drawn])
    ys = np.concatenate(
        [y for *_, y in drawn] + [[level] for line in lines if (level := _level(line, y_log)) is not None]
    )
    if not xs.size:
        return tag("p", "There is nothing to draw.", class_="none")
    x_axis = _Axis(xs.min(), xs.max(), _LEFT, _WIDTH - _RIGHT, log=x_log)
    y_axis = _Axis(ys.min(), ys.max(), _HEIGHT - _BOTTOM, _TOP, log=y_log)
    parts = [_frame(x_axis, y_axis, xlabel, ylabel)]
    for line, x, y in drawn:
        points = " ".join(f"{a:.1f} {b:.1f}" for a, b in zip(x_axis(x), y_axis(y), strict=True))
        parts.append(f'<path class="line {line.style}" d="M{points}"/>' if x.size else "")
        if (level := _level(line, y_log)) is not None:
            across = f"M{_LEFT} {y_axis(level):.4g}H{_WIDTH - _RIGHT}"
            parts.append(f'<path class="line bound {line.style}" d="{across}"/>')
    svg = tag("svg", Html("".join(parts)), viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=about)
    return Html(_key(lines, y_log) + svg)


def _level(line: Line, log: bool) -> float | None:
    """The bound of a line, where it can be drawn."""
    good = line.bound is not None and math.isfinite(line.bound) and (line.bound > 0 or not log)
    return line.bound if good else None


def _clean(line: Line, x_log: bool, y_log: bool) -> tuple[np.ndarray, np.ndarray]:
    """Finite points, positive ones on logarithmic axes, thinned where they are many."""
    good = np.isfinite(line.x) & np.isfinite(line.y)
    good &= ((line.x > 0) | (not x_log)) & ((line.y > 0) | (not y_log))
    x, y = line.x[good], line.y[good]
    shown = spread(x.size, _LONGEST)
    return x[shown], y[shown]


def spread(count: int, most: int) -> np.ndarray:
    """Indices of at most `most` of so many, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _frame(x_axis: _Axis, y_axis: _Axis, xlabel: str, ylabel: str) -> str:
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value, text in x_axis.ticks():
        at = f"{x_axis(value):.4g}"
        parts.append(f'<path class="grid" d="M{at} {_TOP}V{bottom}"/><text x="{at}" y="{bottom + 13}">{text}</text>')
    for value, text in y_axis.ticks():
        height = float(y_axis(value))
        parts.append(f'<path class="grid" d="M{_LEFT} {height:.4g}H{right}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 4}" y="{height + 3.5:.4g}">{text}</text>')
    parts.append(f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}">{escaped(xlabel)}</text>')
    turned = f"translate(11 {(_TOP + bottom) / 2}) rotate(-90)"
    parts.append(f'<text transform="{turned}">{escaped(ylabel)}</text>')
    return "".join(parts)


def _key(lines: Sequence[Line], log: bool) -> Html:
    """What the colours stand for."""
    items = [tag("li", line.label, class_=line.style) for line in lines]
    if any(_level(line, log) is not None for line in lines):
        items.append(tag("li", "proven bounds", class_="bound"))
    return tag("ul", *items, class_="key")


def unit_circle(**data: str) -> Html:
    """The upper half of the unit circle, which the script fills with poles."""
    axis = '<path class="grid" d="M0 180H360M180 0V180"/><path class="circle" d="M30 180A150 150 0 0 1 330 180"/>'
    labels = "".join(f'<text x="{x}" y="194">{text}</text>' for x, text in ((30, "-1"), (180, "0"), (330, "1")))
    layers = "".join(f'<path class="{name}"/>' for name in ("left", "stays", "other"))
    about = "Poles in the upper half of the unit circle; the tables beside it hold the numbers."
    return tag("svg", Html(axis + labels + layers), viewBox="0 0 360 200", role="img", aria_label=about, **data)
