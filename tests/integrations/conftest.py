"""What the tests of the integrations share: questions by OCR, servers that answer together. No telemetry, no network."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

# Before any of the frameworks is imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = "false"
os.environ["LANGCHAIN_TRACING_V2"] = "false"

import pytest

from glyph_pipeline import GlyphPipeline
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.reading.retry import RetryPolicy
from tests.support.fake_openai import Fake, Handler, running

_T = TypeVar("_T")
PATIENCE_S = 60.0  # after which a test fails rather than waits


@pytest.fixture(scope="session")
def ocr_pipeline() -> Iterator[GlyphPipeline]:
    """Reads with the real OCR engine; what was read is kept for all tests."""
    reader = OCRReader()
    with GlyphPipeline(reader=reader) as pipeline:
        yield pipeline


@pytest.fixture(autouse=True)
def nothing_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server of this machine is found, no key is at hand."""
    monkeypatch.setenv("GLYPH_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def fake_pipeline() -> Iterator[Callable[..., tuple[GlyphPipeline, Fake]]]:
    """Makes a pipeline to a fake server with that reply; a request that fails is not sent again unless ``retry`` says so."""
    opened: list[Any] = []

    def make(reply: Callable[[Handler, dict[str, Any]], None], retry: RetryPolicy | None = None) -> tuple[GlyphPipeline, Fake]:
        server = running(Fake(reply))
        fake = server.__enter__()
        pipeline = GlyphPipeline(fake.base_url, retry=retry or RetryPolicy(budget=0.0))
        opened.append((pipeline, server))
        return pipeline, fake

    yield make
    for pipeline, server in reversed(opened):
        pipeline.close()
        server.__exit__(None, None, None)


def in_loop(pipeline: GlyphPipeline, work: Coroutine[Any, Any, _T]) -> _T:
    """Run ``work`` in an event loop of its own, and close the pipeline's connections before it ends."""

    async def main() -> _T:
        async with pipeline:
            return await work

    return asyncio.run(main())


def together(number: int, words: str = "On Thursdays [ferry.txt, page 1].") -> Callable[[Handler, dict[str, Any]], None]:
    """A reply that comes only when so many requests are there at the same time."""
    barrier = threading.Barrier(number)

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        barrier.wait(PATIENCE_S)
        handler.stream([{"content": words}], usage={"prompt_tokens": 70, "completion_tokens": 7, "total_tokens": 77})

    return reply
