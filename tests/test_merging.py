"""Merging partial answers: bounded before anything is asked, in rounds where one request can't hold them, nothing lost when one is cut."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

from glyph_pipeline import Document, GlyphPipeline, Page, RenderConfig
from glyph_pipeline.answer import Merged
from glyph_pipeline.asking import side_by_side
from glyph_pipeline.errors import ContextLengthError, ReadError
from glyph_pipeline.merging import MergeBudget, Partial, combined, groups
from glyph_pipeline.reading.reader import AnswerDelta, Retrying
from glyph_pipeline.tokens.text import Cl100kTokenizer
from tests.support.fake_openai import Fake, Handler, refuses, running
from tests.support.processes import wait_for

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", auto_crop_width=False, auto_crop_last_page=False)
PAGE_TOKENS = 632
CONTEXT = 4000


def document(pages: int, name: str = "") -> Document:
    return Document("\n".join(f"line {number}" for number in range(pages * 80)), id=name)


def replying(reply: Callable[[str, int, int], tuple[str, str]]) -> Callable[[Handler, dict[str, Any]], None]:
    """``reply`` gets the question, the number of pages, max_tokens; gives the answer and finish_reason. A token a character."""

    def answer(handler: Handler, body: dict[str, Any]) -> None:
        content = body["messages"][0]["content"]
        text, finish = reply(content[-1]["text"], len(content) - 1, body["max_tokens"])
        prompt = 20 + len(content[-1]["text"]) + (len(content) - 1) * PAGE_TOKENS
        # Without /tokenize a token a character can't be foreseen.
        assert prompt + body["max_tokens"] <= CONTEXT or not handler.fake.is_vllm
        deltas = [{"reasoning": "Hm."}] + ([{"content": text[: body["max_tokens"]]}] if text else [])
        handler.stream(deltas, finish=finish, usage={"prompt_tokens": prompt, "completion_tokens": len(text), "total_tokens": 0})

    return answer


def first_page(question: str) -> str:
    found = re.search(r"order: pages? (\d+)", question)
    assert found
    return found.group(1)


@pytest.mark.parametrize("is_vllm", [True, False])
def test_answers_as_long_as_they_may_be_can_be_merged_in_any_number_of_rounds(is_vllm: bool) -> None:
    """Every answer takes all the tokens it is allowed, merged ones too; each keeps the facts it has heard."""

    def reply(question: str, pages: int, most: int) -> tuple[str, str]:
        facts = [f"fact {first_page(question)};"] if pages else sorted(set(re.findall(r"fact \d+;", question)))
        return (" ".join(facts) + " x" * most)[:most], "stop"

    fake = Fake(replying(reply), max_model_len=CONTEXT, is_vllm=is_vllm)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN, mode="pages").ask(document(40), "What?")
    assert answer.merges[-1].final
    assert max(merge.round for merge in answer.merges) >= 2
    facts = {f"fact {window.first_page};" for window in answer.windows}
    assert set(re.findall(r"fact \d+;", answer.text)) == facts


def test_a_merge_that_is_cut_before_its_answer_loses_nothing() -> None:
    def reply(question: str, pages: int, most: int) -> tuple[str, str]:
        return (f"fact {first_page(question)};", "stop") if pages else ("", "length")

    fake = Fake(replying(reply), max_model_len=CONTEXT)
    with running(fake):
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(11), "What?")
    assert answer.truncated
    assert answer.text == "\n\n".join(f"[{window.label}]\n{window.text}" for window in answer.windows)


def test_inner_rounds_are_not_shown_as_the_answer() -> None:
    def reply(question: str, pages: int, most: int) -> tuple[str, str]:
        return ("y" * 1000 if pages else f"merged {len(re.findall('pages? ', question))}"), "stop"

    fake = Fake(replying(reply), max_model_len=CONTEXT)
    with running(fake):
        events = list(GlyphPipeline(fake.base_url, config=EN).stream(document(30), "What?"))
    merges = [event.answer for event in events if isinstance(event, Merged)]
    assert [merge.final for merge in merges] == [False] * (len(merges) - 1) + [True]
    assert len(merges) > 1
    shown = "".join(event.text for event in events if isinstance(event, AnswerDelta) and event.window is None)
    assert shown == merges[-1].text


def test_labels_keep_the_documents_name_although_only_one_is_helpful() -> None:
    labels: list[str] = []

    def reply(question: str, pages: int, most: int) -> tuple[str, str]:
        if pages:
            return ("NOTHING FOUND" if "order: a.txt" in question else "x" * 400), "stop"
        labels.extend(re.findall(r"^\[(.*)\]$", question, re.MULTILINE))
        return "x" * 400, "stop"

    fake = Fake(replying(reply), max_model_len=CONTEXT)
    with running(fake):
        GlyphPipeline(fake.base_url, config=EN).ask([document(3, "a.txt"), document(20, "b.txt")], "What?")
    assert len(labels) > 2
    assert all("b.txt" in label for label in labels)


def test_a_question_that_leaves_no_room_for_merging_is_refused_before_anything_is_asked() -> None:
    fake = Fake(replying(lambda *_: ("x", "stop")), max_model_len=CONTEXT)
    with running(fake), pytest.raises(ContextLengthError, match="could not be merged: the question takes"):
        GlyphPipeline(fake.base_url, config=EN).ask(document(8), "Why? " * 540)
    assert fake.requests == []


def test_a_cut_window_is_no_proof_that_nothing_is_there() -> None:
    def reply(question: str, pages: int, most: int) -> tuple[str, str]:
        return ("", "length") if first_page(question) == "1" else ("NOTHING FOUND", "stop")

    with running(Fake(replying(reply), max_model_len=CONTEXT)) as fake:
        answer = GlyphPipeline(fake.base_url, config=EN).ask(document(8), "What?")
    assert (answer.text, answer.truncated) == ("", True)


def test_names_that_have_no_utf8_are_told_and_drawn_as_replacement_characters() -> None:
    asked: list[str] = []

    def reply(question: str, pages: int, most: int) -> tuple[str, str]:
        asked.append(question)
        return "[br\ufffdcke.txt, page 1]", "stop"

    documents = [Document("x", id="br\udcfccke.txt"), Document("y", id="many\nlines " + "long " * 100)]
    with running(Fake(replying(reply), max_model_len=CONTEXT)) as fake:
        answer = GlyphPipeline(fake.base_url, config=EN).ask(documents, "What?")
    assert "br\ufffdcke.txt page 1, many lines long" in asked[0]
    assert len(asked[0]) < 500
    assert [source.document for source in answer.sources] == ["br\udcfccke.txt"]
    assert answer.report.missing == {}


def test_a_true_context_is_remembered_for_the_next_question() -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        content = body["messages"][0]["content"]
        if 20 + len(content[-1]["text"]) + (len(content) - 1) * PAGE_TOKENS + body["max_tokens"] > CONTEXT:
            refuses(400, f"This model's maximum context length is {CONTEXT} tokens.")(handler, body)
        else:
            replying(lambda *_: ("x", "stop"))(handler, body)

    fake = Fake(reply, max_model_len=None)
    with running(fake), GlyphPipeline(fake.base_url, config=EN) as pipeline:
        first = [event for event in pipeline.stream(document(7), "What?") if isinstance(event, Retrying)]
        again = [event for event in pipeline.stream(document(7), "What?") if isinstance(event, Retrying)]
    assert (len(first), len(again)) == (1, 0)


def test_groups_are_counted_with_a_margin_where_another_tokenizer_stands_in() -> None:
    tokenizer = Cl100kTokenizer()
    page = Page(1, 28, 28, b"", 0, 1, ())
    partials = [Partial("page 1", "word " * 100, (page,), (n, n)) for n in range(1, 4)]
    cost = tokenizer.count("word " * 100) + tokenizer.count("page 1")
    assert [len(group) for group in groups(partials, MergeBudget(room=3 * (cost + 8)), tokenizer)] == [2, 1]
    assert [len(group) for group in groups(partials, MergeBudget(room=int(3 * (cost * 1.3 + 8)) + 1), tokenizer)] == [3]
    assert [len(group) for group in groups(partials, MergeBudget(), tokenizer)] == [3]
    assert combined(partials[:2], "x", False, MergeBudget(label=0), tokenizer).label == "parts 1-2"


def test_jobs_side_by_side_end_with_the_first_that_fails_or_is_cancelled() -> None:
    ended: list[str] = []

    async def waits() -> AsyncGenerator[str, None]:
        try:
            yield "waiting"
            await asyncio.Event().wait()
        finally:
            ended.append("waits")

    async def fails() -> AsyncGenerator[str, None]:
        yield "failing"
        raise ReadError("no")

    async def cancels_itself() -> AsyncGenerator[str, None]:
        yield "cancelling"
        raise asyncio.CancelledError

    async def follow(job: Callable[[], AsyncGenerator[str, None]]) -> None:
        async for _ in side_by_side([waits, job], asyncio.Semaphore(2)):
            pass

    async def all_of_it() -> None:
        for job, words in ((fails, "no"), (cancels_itself, "cancelled")):
            ended.clear()
            with pytest.raises(ReadError, match=words):
                await asyncio.wait_for(follow(job), 20)
            assert ended == ["waits"]  # before the error is out, not when the loop ends

    asyncio.run(all_of_it())


def test_a_contended_pipeline_keeps_no_loop_alive() -> None:
    with running(Fake(replying(lambda *_: ("x", "stop")), max_model_len=CONTEXT)) as fake:
        pipeline = GlyphPipeline(fake.base_url, config=EN, concurrency=1)
        for _ in range(2):
            pipeline.ask(document(8), "What?")
        wait_for(lambda: len(pipeline._gates) == 0, "the end of all loops", 60)  # a thread's last frame may still hold one
        pipeline.close()
