"""Documents longer than the context: windows asked side by side, what found nothing left out, partial answers merged, pages cited."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from glyph_pipeline import Document, GlyphPipeline, RenderConfig, render
from glyph_pipeline.answer import Answer, Merged, PipelineEvent, Source, WindowDone, WindowStarted
from glyph_pipeline.errors import ContextLengthError, ReadError
from glyph_pipeline.reading.reader import AnswerDelta, ReasoningDelta, Retrying, Usage
from glyph_pipeline.reading.sampling import Sampling
from tests.support.fake_openai import Fake, Handler, refuses, running

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", auto_crop_width=False, auto_crop_last_page=False)
PAGE_TOKENS = 632  # of an uncropped A4 page, marks included
LINES = 80  # of such a page
CONTEXT = 4000


def document(pages: int, name: str = "") -> Document:
    """About as many pages."""
    return Document("\n".join(f"line {number}" for number in range(pages * LINES)), id=name)


Replier = Callable[[str, int], str]


def answering(reply: Replier, reasoning: str = "Hm.") -> Callable[[Handler, dict[str, Any]], None]:
    """``reply`` gets the question as it stands behind the pages, and the number of pages; the fake counts 10 tokens of answer."""

    def answer(handler: Handler, body: dict[str, Any]) -> None:
        content = body["messages"][0]["content"]
        usage = {"prompt_tokens": prompt_tokens(body), "completion_tokens": 10, "total_tokens": 0}
        handler.stream([{"reasoning": reasoning}, {"content": reply(content[-1]["text"], len(content) - 1)}], usage=usage)

    return answer


def prompt_tokens(body: dict[str, Any]) -> int:
    """As the fake counts: 20 for the template, one a character of the question."""
    content = body["messages"][0]["content"]
    return 20 + len(content[-1]["text"]) + (len(content) - 1) * PAGE_TOKENS


def first_page(question: str) -> int:
    match = re.search(r"order: pages? (\d+)", question)
    assert match, question
    return int(match.group(1))


def merged_or(reply: Callable[[int], str]) -> Replier:
    return lambda question, pages: reply(first_page(question)) if pages else "All in all: yes [page 1]."


def test_a_long_document_is_read_in_windows_whose_answers_are_merged() -> None:
    fake = Fake(answering(merged_or(lambda page: f"From page {page} [page {page}].")), max_model_len=CONTEXT)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(11), "What?")
    # A quarter of 4,000 is for the answer: 4 pages of 632 fit beside the question.
    assert [(window.first_page, window.last_page) for window in answer.windows] == [(1, 3), (4, 7), (8, 11)]
    assert [window.text for window in answer.windows] == [f"From page {w.first_page} [page {w.first_page}]." for w in answer.windows]
    assert [window.label for window in answer.windows] == [f"pages {w.first_page}-{w.last_page}" for w in answer.windows]
    assert all(window.predicted_prompt_tokens == window.usage.prompt_tokens for window in answer.windows)
    (merge,) = answer.merges
    assert (merge.final, merge.round, merge.labels) == (True, 1, tuple(window.label for window in answer.windows))
    assert merge.predicted_prompt_tokens == merge.usage.prompt_tokens
    assert answer.text == "All in all: yes [page 1]."
    assert answer.finish_reason == "stop"
    reads = [*answer.windows, merge]
    assert answer.usage == Usage(sum(read.usage.prompt_tokens or 0 for read in reads), 40)
    # The reasoning is put together window by window.
    assert answer.reasoning == "\n\n".join(f"[{label}]\nHm." for label in [*merge.labels, f"merging {', '.join(merge.labels)}"])
    requests = {len(body["messages"][0]["content"]) - 1: body for body in fake.requests}
    merging = requests[0]["messages"][0]["content"][0]["text"]
    assert merging.startswith("What?\n\nThe text was read in parts.")
    assert all(f"[{window.label}]\n{window.text}" in merging for window in answer.windows)
    assert all(body["max_tokens"] + prompt_tokens(body) <= CONTEXT for body in fake.requests)


def test_events_of_windows_and_merging_in_the_order_they_happen() -> None:
    fake = Fake(answering(merged_or(lambda page: f"From {page}.")), max_model_len=CONTEXT)
    with running(fake):
        events = list(GlyphPipeline(fake.base_url, config=EN, concurrency=1).stream(document(7), "What?"))
    reading = [event for event in events if not type(event).__name__.endswith("Drawn")]
    kinds = [type(event) for event in reading]
    window = [WindowStarted, ReasoningDelta, AnswerDelta, WindowDone]
    assert kinds == [*window, *window, ReasoningDelta, AnswerDelta, Merged, Answer]
    assert [getattr(event, "window", None) for event in reading] == [1, 1, 1, 1, 2, 2, 2, 2, None, None, None, None]
    done = reading[3]
    assert isinstance(done, WindowDone)
    answer = reading[-1]
    assert isinstance(answer, Answer)
    assert done.answer == answer.windows[0]
    assert set(answer.seconds) == {"connect", "draw", "choose", "read", "merge", "first token", "total"}


def test_what_found_nothing_is_left_out_and_one_answer_needs_no_merging() -> None:
    fake = Fake(answering(merged_or(lambda page: "NOTHING FOUND." if page == 1 else "Yes [page 6].")), max_model_len=CONTEXT)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(7), "What?")
    assert [window.found for window in answer.windows] == [False, True]
    assert (answer.text, answer.merges) == ("Yes [page 6].", ())
    assert len(fake.requests) == 2
    page = list(render(document(7), EN))[5]
    assert answer.sources == (Source(None, 6, page.start, page.end),)


def test_nothing_found_anywhere_is_said() -> None:
    fake = Fake(answering(lambda question, pages: "nothing found"), max_model_len=CONTEXT)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(7), "What?")
    assert answer.text == f"None of the 2 parts in which the {answer.report.pages} pages were read has anything that answers the question."
    assert len(fake.requests) == 2
    with running(Fake(answering(lambda question, pages: "Nothing found"))) as fake:
        # Read at once, that is an answer like any other.
        assert GlyphPipeline(fake.base_url, config=EN).ask(document(2), "What?").text == "Nothing found"


def test_partial_answers_that_outgrow_the_window_are_merged_as_a_tree() -> None:
    long = "word " * 150  # 750 tokens, as the fake counts

    def reply(question: str, pages: int) -> str:
        if pages:
            return f"{long}[page {first_page(question)}]"
        return (
            "merged: "
            + ", ".join(re.findall(r"\[page (\d+)\]", question))
            + "".join(f" [page {page}]" for page in re.findall(r"\[page (\d+)\]", question))
        )

    fake = Fake(answering(reply), max_model_len=CONTEXT)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(40), "What?")
    rounds = [merge.round for merge in answer.merges]
    assert max(rounds) >= 2
    assert [merge.final for merge in answer.merges] == [False] * (len(rounds) - 1) + [True]
    assert all((merge.usage.prompt_tokens or 0) <= CONTEXT for merge in answer.merges)
    assert all(merge.predicted_prompt_tokens == merge.usage.prompt_tokens for merge in answer.merges)
    # Nothing is lost on the way: the last one has heard from every window.
    assert {source.page for source in answer.sources} == {window.first_page for window in answer.windows}


def test_several_documents_begin_with_their_names_and_are_cited_by_them() -> None:
    documents = [document(2, "ferry.txt"), document(3, "mill.txt"), Document("Short.", id="note", metadata={"title": "A note"})]
    asked: list[str] = []

    def reply(question: str, pages: int) -> str:
        asked.append(question)
        return "So it is [mill.txt, page 2], and so [note page 1; ferry, pages 1-2], but not [other.txt, page 1] or [page 1]."

    with running(Fake(answering(reply))) as fake:
        pipeline = GlyphPipeline(fake.base_url, config=EN, mode="pages")
        events = list(pipeline.stream(documents, "What?"))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert "The images are, in this order: ferry.txt pages 1-2, mill.txt pages 1-3, note page 1." in asked[0]
    assert "[ferry.txt, page 1]" in asked[0]
    pages = drawn(events)
    assert [page.lines[0] for page in pages if page.number == 1] == ["=== ferry.txt ===", "=== mill.txt ===", "=== note: A note ==="]
    for doc in documents:
        mine = [page for page in pages if page.document == doc.id]
        assert "".join(doc.text[page.start : page.end] for page in mine) == doc.text
    cited = {(page.document, page.number): page for page in pages}
    assert [(source.document, source.page) for source in answer.sources] == [
        ("mill.txt", 2),
        ("note", 1),
        ("ferry.txt", 1),
        ("ferry.txt", 2),
    ]
    assert all(
        (source.start, source.end) == (cited[source.document, source.page].start, cited[source.document, source.page].end)
        for source in answer.sources
    )
    # The title is no part of what is saved.
    assert answer.report.text_tokens == sum(len(doc.text) for doc in documents)


def drawn(events: list[PipelineEvent]) -> list[Any]:
    from glyph_pipeline.answer import PageDrawn

    return [event.page for event in events if isinstance(event, PageDrawn)]


def test_one_short_document_is_asked_as_glyph_was_trained() -> None:
    with running(Fake(answering(lambda question, pages: "Yes [page 2] and [page 9]."))) as fake:
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(2), "What?")
        assert fake.requests[0]["messages"][0]["content"][-1]["text"] == "What?"
        assert [source.page for source in answer.sources] == [2]
        GlyphPipeline(fake.base_url, config=EN, cite=True).ask(document(2), "What?")
        assert fake.requests[1]["messages"][0]["content"][-1]["text"].startswith("What?\n\nName the page of each statement")


def test_windows_are_asked_side_by_side_but_no_more_than_allowed() -> None:
    under_way, most = 0, 0
    lock, three = threading.Lock(), threading.Event()

    def reply(question: str, pages: int) -> str:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                three.set()
        if pages:
            three.wait(60)
        with lock:
            under_way -= 1
        return "x"

    fake = Fake(answering(reply), max_model_len=CONTEXT)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN, concurrency=3).ask(document(23), "What?")
    assert len(answer.windows) == 6
    assert most == 3


def test_a_cut_window_is_a_cut_answer() -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        content = body["messages"][0]["content"]
        cut = len(content) > 1 and first_page(content[-1]["text"]) == 1
        handler.stream([{"content": "<answer>Half"}], finish="length" if cut else "stop")

    with running(Fake(reply, max_model_len=CONTEXT)) as fake:
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(7), "What?")
    assert (answer.truncated, answer.text) == (True, "Half")


def test_a_failing_window_ends_the_question_and_the_requests_of_the_others() -> None:
    under_way, gone = threading.Event(), threading.Event()

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if first_page(body["messages"][0]["content"][-1]["text"]) == 1:
            under_way.wait(60)  # refused earlier, it would end the question before the other request was made
            refuses(422, "no such thing")(handler, body)
            return
        under_way.set()
        try:
            handler.send_response(200)
            handler.send_header("content-type", "text/event-stream")
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            while True:
                handler.write_chunk(b": still here\n\n")
        except OSError:
            gone.set()

    with running(Fake(reply, max_model_len=CONTEXT)) as fake:
        with pytest.raises(ReadError, match="no such thing"):
            GlyphPipeline(fake.base_url, config=EN).ask(document(7), "What?")
        assert under_way.is_set()
        assert gone.wait(60)


def test_a_server_that_finds_it_too_long_is_believed_once() -> None:
    """A server that hides its context, or was started again with a smaller one."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if prompt_tokens(body) + body["max_tokens"] > CONTEXT:
            refuses(400, f"This model's maximum context length is {CONTEXT} tokens. However, you requested more.")(handler, body)
        else:
            answering(merged_or(lambda page: "x"))(handler, body)

    fake = Fake(reply, max_model_len=None)
    with running(fake):
        events = list(GlyphPipeline(fake.base_url, config=EN, sampling=Sampling(max_tokens=900)).stream(document(7), "What?"))
    answer = events[-1]
    assert isinstance(answer, Answer)
    assert len(answer.windows) == 2
    (again,) = [event for event in events if isinstance(event, Retrying)]
    assert "maximum context length is 4000" in again.reason
    with running(Fake(refuses(400, "This model's maximum context length is 4000 tokens."), max_model_len=None)) as stubborn:
        with pytest.raises(ContextLengthError, match="4000"):
            GlyphPipeline(stubborn.base_url, config=EN).ask(document(7), "What?")
        assert len(stubborn.requests) <= 3


def test_a_request_is_kept_under_its_size_and_overlaps() -> None:
    fake = Fake(answering(merged_or(lambda page: f"[page {page}]")))
    with running(fake):
        pipeline = GlyphPipeline(fake.base_url, config=EN, max_request_bytes=60_000, overlap=1)
        answer = pipeline.ask(document(7), "What?")
    bodies = [sum(len(part.get("image_url", {}).get("url", "")) for part in body["messages"][0]["content"]) for body in fake.requests]
    assert max(bodies) <= 60_000
    assert len(answer.windows) > 1
    assert all(later.first_page == earlier.last_page for earlier, later in pairwise(answer.windows))
