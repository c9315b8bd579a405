"""Pictures of the example report, light and dark: ``make report`` first, then ``python docs/report_pictures.py``.

Needs playwright, and Chromium on the path or in the environment variable CHROMIUM.
"""

import os
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).resolve().parent
REPORT = HERE.parent / "examples" / "output" / "report.html"


def main() -> None:
    """Write the pictures, and the report itself for readers to open."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for mode in ("light", "dark"):
            page = browser.new_page(color_scheme=mode, viewport={"width": 1200, "height": 900})
            page.goto(REPORT.as_uri())
            page.locator("#layer-0 > summary").click()  # closes it
            page.locator("#layer-2 > summary").click()
            page.locator("#other").select_option(label="elimination, 80 %")
            page.locator("#layers").evaluate("heading => heading.scrollIntoView()")
            page.screenshot(path=HERE / "_static" / f"report-{mode}.png")
        browser.close()
    shutil.copy(REPORT, HERE / "_static" / "report.html")


if __name__ == "__main__":
    main()
