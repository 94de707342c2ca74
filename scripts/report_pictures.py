"""Pictures of a report's figures, as a browser draws them, for the documentation: scripts/report_pictures.py REPORT.html DIR [NAME...].

The first figure becomes DIR/NAME.png with the first NAME, and so on; a NAME of - leaves a figure out. Needs Chromium (Debian's) and Playwright.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH = 1100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="+")
    chosen = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        print("No Chromium found: apt-get install chromium", file=sys.stderr)
        return 1
    chosen.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_context(offline=True, viewport={"width": WIDTH, "height": 800}).new_page()
        page.goto(chosen.report.resolve().as_uri())
        figures = page.locator("section.figure-block .plotly-graph-div")
        if figures.count() < len(chosen.names):
            print(f"{chosen.report} has {figures.count()} figures, not {len(chosen.names)}.", file=sys.stderr)
            return 1
        for number, name in enumerate(chosen.names):
            if name != "-":
                figures.nth(number).locator(".main-svg").first.wait_for()
                figures.nth(number).screenshot(path=chosen.folder / f"{name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
