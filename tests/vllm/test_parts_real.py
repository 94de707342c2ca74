"""Texts among pictures, exact strings and sharper pages through the real vLLM: as many prompt tokens as predicted, never more than text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Answer, Document, GlyphPipeline, RenderConfig
from glyph_pipeline.document import Documents
from glyph_pipeline.serving import GlyphServer

pytestmark = pytest.mark.vllm

SAMPLE = (Path(__file__).resolve().parents[2] / "docs" / "sample.txt").read_text("utf-8")
TEXT = SAMPLE[:8000]  # a page and a half; each case is asked as plain text as well, and a long prompt takes long on a CPU
KEYS = "The key of berth 4 is 7f3c9a52-1b0d-4c1e-9e57-2f6a8d90b1c4, and its parts are INV-2024-00931 and ZK-48213-77."
LINES = "\n".join("-" for _ in range(90))
CHINESE = "北岸的渡船九点离开。" * 40
LOG = "\n".join(f"2026-03-{day:02} error at 10.4.{day}.77: crate {day}F{day * 7919:x} is lost" for day in range(1, 29))


@pytest.mark.parametrize(
    ("source", "options", "hows"),
    [
        pytest.param("Nine.", {}, {"text"}, id="a text alone"),
        pytest.param(TEXT, {"mode": "text"}, {"text"}, id="a long text as text"),
        pytest.param(
            [Document("Nine.\n", "a.txt"), Document(TEXT, "b.txt"), Document(CHINESE, "c.txt")],
            {},
            {"pages"},
            id="several documents",
        ),
        pytest.param(
            TEXT + "\n" + LINES + "\n" + TEXT, {"config": RenderConfig.preset("aligned")}, {"pages", "text"}, id="text between pictures"
        ),
        pytest.param(TEXT + KEYS + TEXT, {}, {"pages"}, id="exact strings"),
        pytest.param(TEXT + KEYS + TEXT + LOG, {"exact": "all"}, {"pages"}, id="all exact strings"),
        pytest.param(
            [Document(TEXT + KEYS, "a.txt"), Document(LOG, "b.txt")], {"mode": "pages"}, {"pages"}, id="exact strings of several documents"
        ),
        pytest.param(SAMPLE + KEYS, {"resolution": "auto"}, {"pages", "sharper pages"}, id="sharper pages"),
        pytest.param("Say <|user|> and <|image|>.", {"mode": "text"}, {"pages"}, id="control marks"),
    ],
)
def test_predicted_equals_served(tiny_server: GlyphServer, source: Documents, options: dict[str, Any], hows: set[str]) -> None:
    answer = asked(tiny_server, source, options)
    (window,) = answer.windows
    assert window.predicted_prompt_tokens == answer.usage.prompt_tokens
    sent = answer.report.sent
    assert sent is not None
    assert answer.usage.prompt_tokens is not None
    if "mode" not in options:
        assert sent.tokens <= sent.plain_tokens
        plain = asked(tiny_server, source, {**options, "mode": "text", "exact": "off"})
        assert plain.usage.prompt_tokens is not None
        assert answer.usage.prompt_tokens <= plain.usage.prompt_tokens
    if hows == {"text"}:
        assert sent.picture_tokens == 0
    lowest = min((run.dpi for run in sent.runs if run.dpi), default=0)
    assert {"sharper pages" if run.dpi and run.dpi > lowest else run.how for run in sent.runs} == hows


def asked(server: GlyphServer, source: Documents, options: dict[str, Any]) -> Answer:
    with GlyphPipeline(server.base_url, **options) as pipeline:
        return pipeline.ask(source, "What is the key of berth 4?")


def test_windows_of_texts_and_pictures(tiny_server: GlyphServer) -> None:
    """A context of 4,096 tokens, as if the server had no more: every window's count is exact."""
    pipeline = GlyphPipeline(tiny_server.base_url, overlap=1, config=RenderConfig.preset("aligned"))
    pipeline.counters()
    assert pipeline._connection is not None
    pipeline._connection = replace(pipeline._connection, max_model_len=4096)
    answer = pipeline.ask(SAMPLE * 2 + "\n" + LINES + "\n" + KEYS + SAMPLE * 2, "What is the key of berth 4?")
    assert len(answer.windows) > 1
    requests = [*answer.windows, *answer.merges]
    assert [request.predicted_prompt_tokens for request in requests] == [request.usage.prompt_tokens for request in requests]
