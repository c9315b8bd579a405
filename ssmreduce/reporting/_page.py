"""The page: one HTML file with its style and script inside, which loads nothing."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

from .._support.html import Html, tag
from ._contents import Contents, counted
from ._ratios import RATIOS, Leaving
from ._sections import layer_section
from ._summary import at_a_glance, record, summary, trade_off

LIMIT = 1_500_000
"""Bytes of the file, at most."""


def page(contents: Contents) -> str:
    """The whole file."""
    here = Path(__file__).parent
    style, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; base-uri 'none'"
    before = "".join(
        [
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">',
            tag("title", contents.title),
            f"<style>{style}</style></head><body>",
            '<a class="skip" href="#layers">Skip to the layers</a>',
            _header(contents),
            "<main>",
            summary(contents),
            "" if contents.sweep is None else trade_off(contents.sweep),
            at_a_glance(contents),
        ]
    )
    after = f"{record(contents)}</main><footer></footer><script>{script}</script></body></html>\n"
    room = LIMIT - len((before + after).encode()) - 5_000
    return before + _layers(contents, room) + after


def _hash(text: str) -> str:
    """What a content security policy calls a text: nothing else runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _header(contents: Contents) -> Html:
    layers, states = len(contents.model), sum(layer.states for layer in contents.inspection.layers)
    told = f"{counted(layers, 'layer')}, {counted(states, 'state')}, {contents.inspection.adapter}"
    return tag("header", tag("h1", contents.title), tag("p", told, class_="soft"))


def _layers(contents: Contents, room: int) -> Html:
    """The sections of as many layers as there is room for."""
    sections, left_out = [], 0
    for place, name in enumerate(contents.model):
        if name not in contents.layers:
            continue
        section = layer_section(contents, name, place)
        room -= len(section.encode())
        if room < 0:
            left_out += 1
        else:
            sections.append(section)
    note = f"{counted(left_out, 'further layer')} left out to keep the file small; name them with layers=[...]."
    return tag(
        "section",
        tag("h2", "Layers", id="layers"),
        _controls(contents.leaving, list(contents.candidates)),
        Html("<noscript><p>The drawings of the poles need JavaScript; the tables do not.</p></noscript>"),
        *(
            Html(section.replace("<details ", "<details open ", 1)) if not i else section
            for i, section in enumerate(sections)
        ),
        tag("p", note, class_="soft") if left_out else "",
        class_="screen",
        aria_labelledby="layers",
    )


def _controls(leaving: Mapping[str, Leaving], labels: list[str]) -> Html:
    parts = []
    if leaving:
        most = len(RATIOS) - 1
        slider = Html(f'<input id="ratio" type="range" min="0" max="{most}" step="1" value="8">')
        options = [tag("option", method, value=method.lower()) for method in leaving]
        parts.append(tag("label", "States dropped", slider))
        parts.append(tag("label", "by", tag("select", *options, id="method")))
    if labels:
        options = [tag("option", "none", value="")] + [
            tag("option", text, value=str(i)) for i, text in enumerate(labels)
        ]
        parts.append(tag("label", "Candidate's poles", tag("select", *options, id="other")))
    parts.append(Html('<button type="button" id="every" aria-pressed="false">Open all layers</button>'))
    if leaving:
        parts.append(Html('<output id="total" for="ratio method"></output>'))
    return tag("div", *parts, class_="controls", role="group", aria_label="what the layers show")
