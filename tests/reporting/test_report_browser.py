"""The report in headless Chromium: the slider works, nothing is loaded, nothing is cut off, two pages on paper."""

import os
import re
import shutil

import numpy as np
import pytest
from support.oracles import lru_tree, model_of

import ssmreduce as sr

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium, or set CHROMIUM")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    rng = np.random.default_rng(7)
    model = model_of(*(lru_tree(rng, n=20) for _ in range(3)))
    scores = sr.score(model, "last")
    candidates = {f"LAST at {ratio:.0%}": sr.prune(model, sr.select(scores, ratio=ratio)) for ratio in (0.3, 0.6)}
    rows = tuple(sr.evaluation.SweepRow("last", r, 60, {}, 1 - r**2) for r in (0.0, 0.3, 0.6))
    calibration = sr.calibration.calibrate_stationary(model)
    made = sr.report(model, candidates, sweep=sr.evaluation.Sweep(rows), calibration=calibration, length=64)
    made.save(path := tmp_path_factory.mktemp("report") / "report.html")
    return path


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser, file):
    """The open page; what it says to the console and every other request fail the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    opened, said, asked = context.new_page(), [], []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(file.as_uri())
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    context.close()


def drawn(page, name):
    """Marks of one kind in the first circle."""
    return page.locator(f"#layer-0 svg path.{name}").get_attribute("d").count("M")


def test_the_slider_moves_poles_and_counts(page):
    slider, total = page.locator("#ratio"), page.locator("#total")
    before = total.inner_text(), drawn(page, "stays"), drawn(page, "left")
    assert before[0] == "40 % dropped: 36 of 60 states stay"
    slider.focus()
    page.keyboard.press("End")
    assert total.inner_text() == "95 % dropped: 3 of 60 states stay"
    assert (drawn(page, "stays"), drawn(page, "left")) == (1, 19)
    assert slider.get_attribute("aria-valuetext") == "95 % of the states dropped"
    assert page.locator("#layer-0-left").inner_text() == "1 of 20 states"
    assert page.locator("tr.now th").first.text_content() == "95%"
    page.keyboard.press("Home")
    assert (drawn(page, "stays"), drawn(page, "left")) == (20, 0)
    widths = page.locator("[data-counts] i").evaluate_all("bars => bars.map(bar => bar.style.width)")
    assert widths == ["100%"] * 3


def test_the_other_controls_work_from_the_keyboard(page):
    page.locator("#method").select_option("calibrated")
    page.locator("#other").select_option(label="LAST at 60%")
    assert drawn(page, "other") == int(
        page.locator("[aria-labelledby=glance] tbody tr").first.locator("td").nth(7).inner_text()
    )
    page.locator("#every").focus()
    page.keyboard.press("Enter")
    assert page.locator("details.layer[open]").count() == 3
    assert page.locator("#layer-2 svg path.stays").get_attribute("d")
    page.keyboard.press("Enter")
    assert page.locator("details.layer[open]").count() == 0
    page.locator("a[data-opens=layer-1]").press("Enter")
    assert page.locator("details.layer[open]").get_attribute("id") == "layer-1"


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off(page, width, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.locator("#every").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor"))
    luminance = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (luminance[0] < luminance[1]) == (scheme == "light")
    assert abs(luminance[0] - luminance[1]) > 500
    inside = (
        "texts => texts.every(t => { const b = t.getBBox(), v = t.closest('svg').viewBox.baseVal; return "
        "t.hasAttribute('transform') || (b.x >= 0 && b.x + b.width <= v.width && b.y + b.height <= v.height); })"
    )
    assert page.locator("svg text").evaluate_all(inside)


def test_the_summary_prints_on_two_pages(page):
    pages = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pages)) == 2


def test_a_notebook_shows_the_report_in_a_frame(browser, file):
    html = sr.reporting.HTMLReport(file.read_text(encoding="utf-8"))._repr_html_()
    opened = browser.new_page()
    opened.set_content(html)
    frame = opened.frame_locator("iframe")
    frame.locator("#ratio").press("Home")
    assert frame.locator("#total").inner_text() == "0 % dropped: 60 of 60 states stay"
    opened.close()
