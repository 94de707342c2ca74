"""Reading for the page: an answer from pages, and the same question to a text model beside it, as running states. Knows no gradio."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

from glyph_pipeline.answer import Answer, Drawn, Merged, WindowDone, WindowStarted
from glyph_pipeline.errors import GlyphError
from glyph_pipeline.pipeline import GlyphPipeline
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, ReadResult, ReasoningDelta, Retrying
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.web.preview import Preview


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer so far. ``status`` is one line on what goes on or, when it is ``done``, its account; ``error`` is why there is none."""

    reasoning: str = ""
    text: str = ""
    status: str = ""
    done: bool = False
    error: str = ""
    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class TextSide:
    """A model that reads the text itself: a server's URL and the model there."""

    base_url: str
    model: str
    api_key: str | None = None

    def reader(self) -> VLLMReader:
        """A reader of that server. Raises ConfigError for a bad URL or key."""
        return VLLMReader(self.base_url, self.model, api_key=self.api_key)


async def from_pages(preview: Preview, question: str, arguments: Mapping[str, Any]) -> AsyncGenerator[Reply, None]:
    """The answer from the preview's pages as it comes; ``arguments`` are those of GlyphPipeline that say who reads. Raises nothing of ours."""
    reply = Reply(status="Drawing ...")
    windows = 1
    try:
        async with (
            GlyphPipeline(config=preview.config, **arguments) as pipeline,
            aclosing(pipeline.astream(preview.document, question)) as events,
        ):
            async for event in events:
                if isinstance(event, Drawn):
                    reply = replace(reply, status=f"Reading {event.report.pages:,} pages, {event.report.vision_tokens:,} vision tokens ...")
                elif isinstance(event, PageRead):
                    reply = replace(reply, status=f"Reading, page {event.page} of {event.total} ...")
                elif isinstance(event, WindowStarted):
                    windows = event.windows
                    continue
                elif isinstance(event, WindowDone) and event.windows > 1:
                    said = "\n".join(part for part in (f"[{event.answer.label}]", event.answer.reasoning, event.answer.text) if part)
                    reply = replace(
                        reply, reasoning=f"{reply.reasoning}{said}\n\n", status=f"Window {event.window} of {windows} is read ..."
                    )
                elif isinstance(event, Merged) and not event.answer.final:
                    reply = replace(reply, status=f"Merging {len(event.answer.labels)} partial answers ...")
                elif isinstance(event, Retrying):
                    # What stands there is void: the answer begins anew.
                    reply = replace(
                        reply, text="", reasoning="" if windows == 1 else reply.reasoning, status=f"{event.reason} Asking again ..."
                    )
                elif isinstance(event, (ReasoningDelta, AnswerDelta)) and (windows == 1 or event.window is None):
                    field = "text" if isinstance(event, AnswerDelta) else "reasoning"
                    reply = replace(reply, **{field: getattr(reply, field) + event.text})
                elif isinstance(event, Answer):
                    reasoning = event.reasoning if windows == 1 else reply.reasoning
                    reply = Reply(reasoning, event.text, _account(event), done=True, answer=event)
                else:
                    continue
                yield reply
    except GlyphError as e:
        yield replace(reply, status="", done=True, error=str(e))


async def from_text(text: str, question: str, side: TextSide) -> AsyncGenerator[Reply, None]:
    """The answer of a model that reads the text, the question behind it. Raises nothing of ours."""
    reply = Reply(status=f"{side.model} reads the text ...")
    began = time.perf_counter()
    first: float | None = None
    reader = None
    try:
        reader = side.reader()
        async for event in reader.read([], f"{text}\n\n{question}"):
            if isinstance(event, (ReasoningDelta, AnswerDelta)):
                first = first or time.perf_counter() - began
                field = "text" if isinstance(event, AnswerDelta) else "reasoning"
                reply = replace(reply, **{field: getattr(reply, field) + event.text})
            elif isinstance(event, Retrying):
                reply = Reply(status=f"{event.reason} Asking again ...")
            elif isinstance(event, ReadResult):
                tokens = "" if event.usage.prompt_tokens is None else f"{event.usage.prompt_tokens:,} prompt tokens, "
                times = f"{time.perf_counter() - began:.1f} s" + (f", first token after {first:.1f} s" if first else "")
                reply = Reply(event.reasoning, event.text, f"{tokens}{times}, read by {side.model}{_cut(event.finish_reason)}", done=True)
            yield reply
    except GlyphError as e:
        yield replace(reply, status="", done=True, error=str(e))
    finally:
        if reader is not None:
            with suppress(GlyphError):
                await reader.aclose()


def _account(answer: Answer) -> str:
    parts = [] if answer.usage.prompt_tokens is None else [f"{answer.usage.prompt_tokens:,} prompt tokens"]
    parts.append(f"{answer.seconds.get('total', 0.0):.1f} s")
    if answer.report.sent is not None and answer.report.sent.pages_as_text:
        parts.append(f"{answer.report.sent.pages_as_text} of {answer.report.pages} pages sent as text, which costs less")
    if len(answer.windows) > 1:
        parts.append(f"{len(answer.windows)} windows")
    if answer.sources:
        parts.append("cites " + ", ".join(f"page {source.page}" for source in answer.sources[:8]))
    misread = [f"{check.string} is {check.source} in the text" for check in answer.checks if check.status == "misread"]
    told = f"; probably misread: {', '.join(misread[:4])}" if misread else ""
    return f"{', '.join(parts)}, read by {answer.reader}{_cut(answer.finish_reason)}{told}"


def _cut(finish_reason: str) -> str:
    return "; cut off, the answer may lack something" if finish_reason == "length" else ""
