"""The web page and the real vLLM: reasoning and answer in their panes, prompt tokens as served, the plain text beside the pages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from glyph_pipeline import GlyphServer
from tests.support.browser import opened
from tests.support.command import SAMPLE
from tests.web.test_web_page import site

pytestmark = pytest.mark.vllm

WAIT = 300_000  # ms


def test_it_asks_the_served_model_from_pages_and_from_the_text(tiny_server: GlyphServer, tiny_model: Path, tmp_path: Path) -> None:
    script = json.loads((tiny_model / "tiny_glyph.json").read_text("utf-8"))
    url = tiny_server.base_url
    with site(tmp_path, "--base-url", url, "--text-url", url) as (address, _), opened(address) as shown:
        page = shown.page
        page.set_input_files("#glyph-file input[type=file]", SAMPLE)
        expect(page.locator(".glyph-pages img")).to_have_count(3, timeout=WAIT)
        assert "3,922" not in page.locator("#glyph-counts").inner_text()  # the served model's own tokenizer counts
        page.locator("#glyph-question textarea, #glyph-question input").fill("What is it?")
        page.click("#glyph-ask")
        prompt: dict[str, int] = {}
        for pane in ("glyph-answer", "glyph-plain"):
            expect(page.locator(f"#{pane} textarea")).to_have_value(script["answer"], timeout=WAIT)
            expect(page.locator(f"#{pane}-reasoning textarea")).to_have_value(script["reasoning"], timeout=WAIT)
            status = page.locator(f"#{pane}-status")
            expect(status).to_contain_text("prompt tokens", timeout=WAIT)
            prompt[pane] = int(status.inner_text().split(" prompt tokens")[0].replace(",", ""))
        assert 1344 < prompt["glyph-answer"] < prompt["glyph-plain"]
