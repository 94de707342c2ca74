"""A real, headless Chromium, Debian's, driven by Playwright; whatever a page asks for or complains of is kept."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Page as BrowserPage
from playwright.sync_api import expect, sync_playwright

_PATIENCE_MS = 120_000  # with a busy machine


@dataclass(slots=True)
class Opened:
    """A page that was opened: what it loaded besides itself, and what it wrote to the console."""

    page: BrowserPage
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def opened(where: Path | str, width: int = 1280) -> Iterator[Opened]:
    """A file in a browser that has no network, or a URL."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "the tests of HTML pages need Chromium (scripts/test installs it): apt-get install chromium"
    url = where.as_uri() if isinstance(where, Path) else where
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"], timeout=_PATIENCE_MS)
        try:
            page = browser.new_context(offline=isinstance(where, Path), viewport={"width": width, "height": 900}).new_page()
            page.set_default_timeout(_PATIENCE_MS)
            expect.set_options(timeout=_PATIENCE_MS)
            shown = Opened(page)
            page.on("request", lambda request: shown.requests.append(request.url))
            page.on("console", lambda message: shown.complaints.append(message.text))
            page.on("pageerror", lambda error: shown.complaints.append(str(error)))
            page.goto(url)
            shown.requests.remove(url)
            yield shown
        finally:
            browser.close()
