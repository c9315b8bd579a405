"""Screenshots of the built site in headless Chromium: ``python docs/shots.py docs/_build/html build/shots``.

Fails where a page scrolls sideways, shows raw LaTeX, reports an error of a script, or asks another site for anything.
Chromium is that of the system (``apt-get install chromium``), or the one that ``CHROMIUM`` names.
"""

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

PAGES = {
    "index": "index.html",
    "quickstart": "quickstart.html",
    "choosing": "guide/choosing.html",
    "theory_peak_gain": "theory/peak_gain.html",
    "theory_calibrated": "theory/calibrated.html",
    "gallery": "auto_examples/index.html",
    "gallery_torch": "auto_examples/plot_01_torch_network.html",
    "gallery_states": "auto_examples/plot_02_last_states.html",
    "gallery_norms": "auto_examples/plot_05_certified_norms.html",
    "api": "api/generated/ssmreduce.compress.html",
    "api_room": "api/networks.html",
    "benchmarks": "benchmarks.html",
    "evidence": "evidence.html",
}
WIDTHS = (1400, 400)
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
RAW = "[...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container')).length"


def wrong_with(page: Page) -> list[str]:
    """What a reader would stumble on."""
    found = []
    if (wider := page.evaluate(WIDER)) > 0:
        found.append(f"scrolls sideways by {wider} px")
    if raw := page.evaluate(RAW):
        found.append(f"{raw} equations are raw LaTeX")
    return found


def shoot(browser: Browser, url: str, target: Path, width: int, theme: str) -> list[str]:
    """One picture; returns what is wrong."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
    page, found = context.new_page(), []
    page.on("pageerror", lambda error: found.append(f"script error: {error}"))
    page.on("request", lambda r: found.append(f"asks {r.url}") if not r.url.startswith(("file:", "data:")) else None)
    page.goto(url)
    page.wait_for_function("!window.MathJax || (MathJax.startup && MathJax.startup.promise)")
    page.evaluate("window.MathJax && MathJax.startup ? MathJax.startup.promise.then(() => 0) : 0")
    found += wrong_with(page)
    page.screenshot(path=target, full_page=True)
    context.close()
    return found


def main() -> int:
    """Take all pictures and say what is wrong."""
    site, folder = (Path(argument).resolve() for argument in sys.argv[1:3])
    folder.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    wrong = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, file in PAGES.items():
            for width in WIDTHS:
                for theme in ("light", "dark"):
                    target = folder / f"{name}-{width}-{theme}.png"
                    for complaint in shoot(browser, (site / file).as_uri(), target, width, theme):
                        print(f"{target.name}: {complaint}")
                        wrong += 1
        browser.close()
    print(f"{len(PAGES) * len(WIDTHS) * 2} pictures in {folder}, {wrong} complaints")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
