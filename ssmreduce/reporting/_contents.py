"""What a page is made of, and how its numbers are written."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from .._support.html import Html, escaped, tag
from ..evaluation import Comparison, Inspection, Sweep
from ..models import SSMModel
from ._layers import LayerNumbers
from ._ratios import Leaving


@dataclass(frozen=True)
class Contents:
    """Everything that a page shows.

    Attributes
    ----------
    title, command : str
    model : SSMModel
        The original.
    candidates : mapping
        Label -> reduced model.
    inspection : Inspection
        Of the original.
    comparison : Comparison or None
    sweep : Sweep or None
    seconds : mapping
        Label, ``original`` among them -> time of all layers on one sequence of `length` steps.
    length, seed : int
        Of the noise that was timed.
    layers : mapping
        Layer name -> its numbers, for the layers that are drawn.
    leaving : mapping
        Method -> which states leave when.
    """

    title: str
    command: str
    model: SSMModel
    candidates: Mapping[str, SSMModel]
    inspection: Inspection
    comparison: Comparison | None
    sweep: Sweep | None
    seconds: Mapping[str, float]
    length: int
    seed: int
    layers: Mapping[str, LayerNumbers]
    leaving: Mapping[str, Leaving]


def number(value: float | None, form: str = ".3g") -> str:
    """A number as text; a dash where there is none."""
    return "–" if value is None or math.isnan(value) else format(value, form)


def percent(value: float | None) -> str:
    """A share as text."""
    return "–" if value is None else f"{100 * value:.2f} %"


def breakable(name: str) -> Html:
    """The name of a layer, which may go on in a new line after a dot or a slash."""
    return Html(re.sub(r"([./])", r"\1<wbr>", escaped(name)))


def scrolled(table: Html, about: str) -> Html:
    """A table that may be wider than a phone; the keyboard reaches it."""
    return tag("div", table, class_="wide", tabindex="0", role="region", aria_label=about)


def counted(number: int, noun: str) -> str:
    """A number with its noun in the plural where it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
