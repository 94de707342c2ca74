"""GlyphPipeline: drawing, counting, planning and reading tied together, sync, async and streamed."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Document, GlyphPipeline, Page, RenderConfig
from glyph_pipeline.answer import Answer, Drawn, PageDrawn, WindowDone, WindowStarted
from glyph_pipeline.errors import (
    ConfigError,
    ContextLengthError,
    EmptyDocumentError,
    ReadError,
    ServerUnreachableError,
    UsageError,
    WrongModelError,
)
from glyph_pipeline.reading.reader import AnswerDelta, ReadEvent, ReadResult, ReasoningDelta, Usage
from glyph_pipeline.reading.vllm import VLLMReader
from tests.support.fake_openai import Fake, Handler, running, says

TEXT = "The ferry of Ardmoyle ran on Thursdays until 1932.\n" * 100
ANSWERING = [{"reasoning": "Page 1 says it."}, {"content": "<answer>On "}, {"content": "Thursdays"}]
USAGE = {"prompt_tokens": 700, "completion_tokens": 9, "total_tokens": 709}


def test_an_answer_with_its_account() -> None:
    with running(Fake(says(ANSWERING, usage=USAGE))) as fake:
        answer = GlyphPipeline(fake.base_url, "fake/Glyph").ask(TEXT, "When did it run?")
    assert (answer.text, answer.reasoning, answer.finish_reason, answer.truncated) == ("On Thursdays", "Page 1 says it.", "stop", False)
    assert answer.usage == Usage(700, 9)
    assert answer.reader == "fake/Glyph"
    # The fake counts a token a character, by /tokenize.
    assert answer.report.text_tokens == len(TEXT)
    assert answer.report.tokenizer == "fake/Glyph (server's /tokenize)"
    (window,) = answer.windows
    assert (window.first_page, window.last_page, window.text) == (1, answer.report.pages, "On Thursdays")
    # 20 for the template, a token a character of the question, two marks around each image.
    assert window.predicted_prompt_tokens == 20 + len("When did it run?") + answer.report.vision_tokens + 2 * answer.report.pages
    assert {"connect", "draw", "choose", "read", "total", "first token"} == set(answer.seconds)
    assert json.loads(json.dumps(answer.to_dict()))["report"]["ratio"] == round(answer.report.ratio, 4)


def test_events_come_in_the_order_they_happen() -> None:
    with running(Fake(says(ANSWERING))) as fake:
        events = list(GlyphPipeline(fake.base_url).stream(TEXT, "When did it run?"))
    kinds = [type(event) for event in events]
    assert kinds == [PageDrawn, PageDrawn, Drawn, WindowStarted, ReasoningDelta, AnswerDelta, AnswerDelta, WindowDone, Answer]
    drawn = events[2]
    assert isinstance(drawn, Drawn)
    assert drawn.pages == tuple(event.page for event in events[:2] if isinstance(event, PageDrawn))


def test_several_documents_keep_their_names() -> None:
    documents = [Document("Of the ferry.", id="ferry.txt"), Document("Of the mill.\n" * 90, id="mill.txt")]
    with running(Fake(says(ANSWERING))) as fake:
        drawn = next(event for event in GlyphPipeline(fake.base_url).stream(documents, "?") if isinstance(event, Drawn))
    assert [(page.document, page.number) for page in drawn.pages] == [("ferry.txt", 1), ("mill.txt", 1), ("mill.txt", 2)]
    assert drawn.report.documents == 2


def test_async_and_inside_a_running_loop() -> None:
    with running(Fake(says(ANSWERING))) as fake:

        async def both() -> tuple[Answer, Answer]:
            async with GlyphPipeline(fake.base_url) as pipeline:
                first, _ = await asyncio.gather(pipeline.aask(TEXT, "a?"), pipeline.aask(TEXT, "b?"))
                # What a notebook does: the sync method while its loop runs.
                return first, GlyphPipeline(fake.base_url).ask(TEXT, "c?")

        answers = asyncio.run(both())
    assert [answer.text for answer in answers] == ["On Thursdays", "On Thursdays"]
    assert sorted(body["messages"][0]["content"][-1]["text"] for body in fake.requests) == ["a?", "b?", "c?"]


def test_one_pipeline_answers_again_and_again() -> None:
    with running(Fake(says(ANSWERING))) as fake, GlyphPipeline(fake.base_url) as pipeline:
        assert [pipeline.ask(TEXT, "When?").text for _ in range(3)] == ["On Thursdays"] * 3


def test_a_cut_answer_is_reported_as_truncated() -> None:
    with running(Fake(says([{"reasoning": "Hm"}], finish="length"))) as fake:
        answer = GlyphPipeline(fake.base_url).ask(TEXT, "When?")
    assert (answer.text, answer.reasoning, answer.truncated) == ("", "Hm", True)
    assert answer.to_dict()["truncated"] is True


def test_the_answer_gets_what_the_context_leaves() -> None:
    with running(Fake(says(ANSWERING), max_model_len=2000)) as fake:
        answer = GlyphPipeline(fake.base_url).ask(TEXT, "When?")
    predicted = answer.windows[0].predicted_prompt_tokens
    assert predicted is not None
    assert fake.requests[0]["max_tokens"] == 2000 - predicted


def test_too_long_for_the_context_is_said_before_anything_is_sent() -> None:
    with (
        running(Fake(says(ANSWERING), max_model_len=300)) as fake,
        pytest.raises(ContextLengthError, match=r"272 tokens .* context is 300 tokens"),
    ):
        GlyphPipeline(fake.base_url).ask(TEXT, "When?")
    assert fake.requests == []


def test_a_server_that_is_not_vllm_has_its_text_counted_offline() -> None:
    with running(Fake(says(ANSWERING), is_vllm=False, max_model_len=None)) as fake:
        answer = GlyphPipeline(fake.base_url).ask(TEXT, "When?")
    assert answer.report.tokenizer == "cl100k_base (tiktoken)"
    assert answer.windows[0].predicted_prompt_tokens is None
    assert answer.text == "On Thursdays"


def test_bad_input() -> None:
    with running(Fake(says(ANSWERING))) as fake:
        with pytest.raises(EmptyDocumentError):
            GlyphPipeline(fake.base_url).ask(" \n ", "When?")
        with pytest.raises(EmptyDocumentError, match="no document"):
            GlyphPipeline(fake.base_url).ask([], "When?")
        with pytest.raises(UsageError, match="question is empty"):
            GlyphPipeline(fake.base_url).ask(TEXT, " ")
        with pytest.raises(WrongModelError, match=r"does not serve 'other'.*fake/Glyph"):
            GlyphPipeline(fake.base_url, "other").ask(TEXT, "When?")
    with pytest.raises(ServerUnreachableError):
        GlyphPipeline("http://127.0.0.1:1/v1").ask(TEXT, "When?")
    with pytest.raises(ConfigError):
        GlyphPipeline("ftp://127.0.0.1/v1").ask(TEXT, "When?")
    with pytest.raises(UsageError, match="both given"):
        GlyphPipeline("http://127.0.0.1:1/v1", reader=_Recorder())


def test_leaving_a_stream_ends_its_request() -> None:
    ended = threading.Event()

    def endless(handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        try:
            while True:
                handler.write_chunk(b'data: {"choices": [{"index": 0, "delta": {"reasoning": "and "}}]}\n\n')
        except (BrokenPipeError, ConnectionResetError):  # not the fake's own time-out, which would come to a leaked connection too
            ended.set()
            handler.close_connection = True

    with running(Fake(endless)) as fake:
        stream = GlyphPipeline(fake.base_url).stream(TEXT, "When?")
        assert any(isinstance(event, ReasoningDelta) for event in stream)
        stream.close()
        assert ended.wait(60)


def test_questions_from_many_threads_and_interleaved_streams() -> None:
    def slow(handler: Handler, body: dict[str, Any]) -> None:
        barrier.wait(60)  # all are under way at once
        handler.stream(ANSWERING)

    barrier = threading.Barrier(5)
    with running(Fake(slow)) as fake, GlyphPipeline(fake.base_url) as pipeline, ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda number: pipeline.ask(TEXT, f"{number}?").text, range(5)))
        assert answers == ["On Thursdays"] * 5
        fake.reply = says(ANSWERING)
        one, other = pipeline.stream(TEXT, "a?"), pipeline.stream(TEXT, "b?")
        ends = [last for pair in zip(one, other, strict=True) for last in pair if isinstance(last, Answer)]
        assert [answer.text for answer in ends] == ["On Thursdays"] * 2


def test_one_pipeline_in_one_event_loop_after_the_other() -> None:
    with running(Fake(says(ANSWERING))) as fake:
        pipeline = GlyphPipeline(fake.base_url)

        async def ask() -> str:
            async with pipeline:
                return (await pipeline.aask(TEXT, "When?")).text

        assert [asyncio.run(ask()), asyncio.run(ask())] == ["On Thursdays"] * 2
        assert pipeline.ask(TEXT, "When?").text == "On Thursdays"
        reader = VLLMReader(fake.base_url, fake.model)
        assert [GlyphPipeline(reader=reader).ask(TEXT, "When?").text for _ in range(2)] == ["On Thursdays"] * 2


# Whoever leaves a loop without closing the pipeline gets Python's own warning of that, and an answer all the same.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pipeline_that_was_not_closed_in_its_loop_still_answers_in_the_next() -> None:
    with running(Fake(says(ANSWERING))) as fake:
        pipeline = GlyphPipeline(fake.base_url)
        assert [asyncio.run(pipeline.aask(TEXT, "When?")).text for _ in range(2)] == ["On Thursdays"] * 2
        del pipeline
        gc.collect()


def test_stream_inside_a_running_loop_names_astream() -> None:
    async def notebook() -> None:
        with pytest.raises(UsageError, match="astream"):
            next(GlyphPipeline("http://127.0.0.1:1/v1").stream(TEXT, "When?"))

    asyncio.run(notebook())


def test_a_model_that_nobody_serves_is_not_replaced_by_ocr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLYPH_STATE_DIR", str(tmp_path))
    with pytest.raises(ServerUnreachableError, match="zai-org/Glyph"):
        GlyphPipeline(model="zai-org/Glyph").ask(TEXT, "When?")


def test_a_question_with_a_stray_byte_is_asked_and_counted_alike() -> None:
    with running(Fake(says(ANSWERING))) as fake:
        answer = GlyphPipeline(fake.base_url).ask(TEXT, "When\udcff?")
    assert fake.requests[0]["messages"][0]["content"][-1]["text"] == "When\ufffd?"
    predicted = answer.windows[0].predicted_prompt_tokens
    assert predicted == 20 + 6 + answer.report.vision_tokens + 2 * answer.report.pages


def test_pages_do_not_follow_a_redirect() -> None:
    def elsewhere(handler: Handler, body: dict[str, Any]) -> None:
        target = fake.base_url.replace("/v1", "/moved/chat/completions")
        handler.send(307, {}, {"location": target})

    fake = Fake(elsewhere)
    with running(fake), pytest.raises(ReadError, match="307"):
        GlyphPipeline(fake.base_url).ask(TEXT, "When?")
    assert {"redirected": True} not in fake.requests


def test_several_nameless_documents_can_be_told_apart() -> None:
    reader = _Recorder()
    GlyphPipeline(reader=reader).ask([Document("One."), Document("Two."), Document("Three.", id="three")], "When?")
    assert [page.document for page in reader.pages] == ["document 1", "document 2", "three"]


class _Recorder:
    """A reader of one's own."""

    name = "recorder"

    def __init__(self) -> None:
        self.pages: list[Page] = []
        self.closed = False

    async def read(self, pages: Sequence[Page], question: str, *, max_tokens: int | None = None) -> AsyncIterator[ReadEvent]:
        self.pages += pages
        if question != "silence":
            yield ReadResult("seen", "", "stop", Usage())

    async def aclose(self) -> None:
        self.closed = True


def test_a_reader_of_ones_own_is_used_and_left_open() -> None:
    reader = _Recorder()
    with GlyphPipeline(reader=reader, config=RenderConfig.preset("en").replace(font_size=14)) as pipeline:
        assert pipeline.ask(TEXT, "When?").text == "seen"
        with pytest.raises(ReadError, match="without a result"):
            pipeline.ask(TEXT, "silence")
    assert len(reader.pages) == 4
    assert reader.closed is False
