"""Many questions side by side: results as they finish, failures that stay their item's own, drawing in processes that may die."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from glyph_pipeline import Document, GlyphPipeline, RenderConfig
from glyph_pipeline.batch import BadItem, BatchItem, BatchResult
from glyph_pipeline.batch.drawing import DrawingPool
from glyph_pipeline.batch.engine import Batch, run_batch
from glyph_pipeline.batch.worker import DrawnItem, DrawTask
from glyph_pipeline.errors import EmptyDocumentError, EncodingError, GlyphError, InputError, ReadError, ServerUnreachableError, UsageError
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.tokens.vision import GLM_4V
from tests.support.fake_openai import Fake, Handler, in_turn, refuses, running, says

CONFIG = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)
TEXT = "The ferry of Ardmoyle ran on Thursdays until 1932.\n" * 30
AT_ONCE = RetryPolicy(budget=0)


def echo(handler: Handler, body: dict[str, Any]) -> None:
    """Answers with the question."""
    handler.stream([{"content": "<answer>" + body["messages"][0]["content"][-1]["text"]}])


def items(count: int) -> Iterator[BatchItem]:
    return (BatchItem(f"item {n}", f"question {n}", (Document(f"{n}: {TEXT}"),), metadata={"n": n}) for n in range(count))


def test_every_item_has_its_own_answer() -> None:
    with running(Fake(echo)) as fake:
        results = list(GlyphPipeline(fake.base_url, config=CONFIG).ask_many(items(25), workers=2))
    assert sorted(result.id for result in results) == sorted(f"item {n}" for n in range(25))
    for result in results:
        assert result.answer is not None
        assert (result.status, result.answer.text) == ("ok", f"question {result.metadata['n']}")
        # Counted by the server, here a token a character.
        assert result.answer.report.text_tokens == len(f"{result.metadata['n']}: {TEXT}")
        assert result.answer.report.tokenizer == "fake/Glyph (server's /tokenize)"
    record = results[0].to_dict()
    assert (record["status"], record["answer"], record["error"]) == ("ok", results[0].question, None)


@pytest.mark.parametrize("workers", [0, 2])
def test_pages_are_those_of_a_single_question(workers: int) -> None:
    documents = (Document(TEXT, id="a"), Document("中文字国。" * 300, id="b", metadata={"title": "B"}))
    with running(Fake(echo)) as fake:
        one = GlyphPipeline(fake.base_url).ask(documents, "same?")
        (many,) = GlyphPipeline(fake.base_url).ask_many([(documents, "same?")], workers=workers)
    assert many.answer is not None
    assert fake.requests[0]["messages"] == fake.requests[1]["messages"]
    assert many.answer.report == one.report
    assert many.id == "1"


def test_changes_are_made_to_the_preset_that_each_text_gets() -> None:
    with running(Fake(echo)) as fake:
        pipeline = GlyphPipeline(fake.base_url, config={"dpi": 96, "system-fonts": False})
        results = {result.id: result for result in pipeline.ask_many([(TEXT, "a"), ("中文字国。" * 300, "b")], workers=1)}
    fonts = {number: results[number].answer.report.fonts[0].file for number in results}  # type: ignore[union-attr]
    assert fonts == {"1": "DejaVuSans.ttf", "2": "NotoSansMonoCJKsc-Regular.otf"}


def test_a_failure_is_its_items_own(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_bytes(b"caf\xe9")

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        question = body["messages"][0]["content"][-1]["text"]
        if question == "refused?":
            refuses(422, "not that one")(handler, body)
        else:
            handler.stream([{"reasoning": "Hm"}], finish="length" if question == "cut?" else "stop")

    asked = [
        BatchItem("encoding", "?", (tmp_path / "broken.txt",)),
        BatchItem("missing", "?", (tmp_path / "nowhere.txt",)),
        BatchItem("empty", "?", (Document(" \n"),)),
        BatchItem("blank question", " ", (Document("x"),)),
        BadItem("bad line", InputError("line 3: not JSON.")),
        BatchItem("refused", "refused?", (Document("x"),)),
        BatchItem("cut", "cut?", (Document("x"),)),
        BatchItem("fine", "fine?", (Document("x"),)),
    ]
    with running(Fake(reply)) as fake:
        results = {
            result.id: result
            for result in GlyphPipeline(fake.base_url, config=CONFIG, retry=AT_ONCE, mode="pages").ask_many(asked, workers=1)
        }
    statuses = {name: result.status for name, result in results.items()}
    assert statuses == dict.fromkeys(statuses, "failed") | {"cut": "truncated", "fine": "ok"}
    assert len(statuses) == len(asked)
    errors = {name: type(result.error) for name, result in results.items() if result.error is not None}
    assert errors["encoding"] is EncodingError
    assert errors["empty"] is EmptyDocumentError
    assert errors["blank question"] is UsageError
    error = results["encoding"].error
    assert error is not None
    assert "offset 3" in error.message
    assert error.hint  # all of an error comes back from the process that drew
    assert "not that one" in str(results["refused"].error)


def test_a_server_that_is_gone_ends_the_batch_and_what_was_done_is_handed_on() -> None:
    with running(Fake(echo)) as fake:
        results = GlyphPipeline(fake.base_url, config=CONFIG, concurrency=1, retry=AT_ONCE).ask_many(items(30), workers=1)
        first = next(results)
        assert first.status == "ok"
    with pytest.raises(ServerUnreachableError):
        list(results)


def test_a_key_that_is_refused_ends_the_batch() -> None:
    with running(Fake(refuses(401, "no such key"))) as fake:
        with pytest.raises(ReadError, match="no such key"):
            list(GlyphPipeline(fake.base_url, config=CONFIG, concurrency=2).ask_many(items(40), workers=0))
        assert len(fake.requests) < 10


def test_retries_are_told() -> None:
    told: list[tuple[str, str]] = []
    quick = RetryPolicy(first=0.001, longest=0.001)
    with running(Fake(in_turn(refuses(503, "busy"), echo))) as fake:
        pipeline = GlyphPipeline(fake.base_url, config=CONFIG, retry=quick)
        (result,) = pipeline.ask_many(items(1), workers=0, on_retry=lambda name, event: told.append((name, event.reason)))
    assert result.status == "ok"
    assert len(told) == 1
    assert told[0][0] == "item 0"
    assert "busy" in told[0][1]


def test_a_context_that_one_item_has_found_out_counts_for_the_next() -> None:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        if body["max_tokens"] > 4000:
            refuses(400, "This model's maximum context length is 4000 tokens.")(handler, body)
        else:
            echo(handler, body)

    told: list[str] = []
    with running(Fake(reply, max_model_len=None)) as fake:
        pipeline = GlyphPipeline(fake.base_url, config=CONFIG, concurrency=1)
        results = list(pipeline.ask_many(items(4), workers=0, on_retry=lambda name, event: told.append(name)))
    assert [result.status for result in results] == ["ok"] * 4
    assert told == ["item 0"]


def test_no_more_is_drawn_or_asked_than_allowed() -> None:
    """Items are taken as they are needed: a million of them need no more memory than a few."""
    taken, under_way, most = 0, 0, 0
    lock, full = threading.Lock(), threading.Event()

    def counted() -> Iterator[BatchItem]:
        nonlocal taken
        for item in items(40):
            taken += 1
            yield item

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 3:
                full.set()
        full.wait(60)
        with lock:
            under_way -= 1
        echo(handler, body)

    with running(Fake(reply)) as fake:
        results = GlyphPipeline(fake.base_url, config=CONFIG, concurrency=3).ask_many(counted(), workers=2)
        next(results)
        assert taken <= 3 + 2 + 1
        assert len(list(results)) == 39
    assert most == 3


def test_leaving_early_ends_workers_and_requests() -> None:
    before = set(psutil.Process().children(recursive=True))
    with running(Fake(echo)) as fake:
        results = GlyphPipeline(fake.base_url, config=CONFIG).ask_many(items(50), workers=2)
        next(results)
        assert len(set(psutil.Process().children(recursive=True)) - before) in (1, 2)  # if the first was done at once, no second was needed
        results.close()
        assert set(psutil.Process().children(recursive=True)) <= before


def task(text: str) -> DrawTask:
    return DrawTask.of(BatchItem("x", "?", (Document(text),)), CONFIG, GLM_4V, count=True)


def test_a_worker_that_is_killed_is_replaced_and_its_item_drawn_again() -> None:
    async def draw() -> list[int]:
        pool = DrawingPool(1)
        try:
            await pool.draw(task("first"))
            (worker,) = pool._all
            slow = asyncio.ensure_future(pool.draw(task(TEXT * 2000)))
            await asyncio.sleep(0)  # it has the worker now
            os.kill(worker.pid, signal.SIGKILL)
            drawn = await slow
            return [len(drawn.compressed.pages), len([each for each in pool._all if not each.killed])]
        finally:
            pool.close()

    pages, workers = asyncio.run(draw())
    assert (pages > 500, workers) == (True, 1)


def test_an_item_that_kills_every_worker_is_a_failure_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glyph_pipeline.batch.drawing._PROGRAM", "import sys; sys.stdin.buffer.read(1); raise SystemExit(9)")

    async def draw() -> None:
        pool = DrawingPool(1)
        try:
            await pool.draw(task("x"))
        finally:
            pool.close()

    with pytest.raises(GlyphError, match=r"The process that drew 'x' died 2 times.*fewer workers"):
        asyncio.run(draw())


def test_async_results() -> None:
    async def ask(url: str) -> list[BatchResult]:
        async with GlyphPipeline(url, config=CONFIG) as pipeline:
            return [result async for result in pipeline.aask_many(items(3), workers=1)]

    with running(Fake(says([{"content": "<answer>x"}]))) as fake:
        assert [result.status for result in asyncio.run(ask(fake.base_url))] == ["ok"] * 3


def test_bad_arguments() -> None:
    with pytest.raises(UsageError, match="workers is -1"):
        list(GlyphPipeline("http://127.0.0.1:9/v1").ask_many([], workers=-1))
    with pytest.raises(UsageError, match="concurrency is 0"):
        GlyphPipeline("http://127.0.0.1:9/v1", concurrency=0)


def test_an_item_that_cannot_be_sent_or_is_nonsense_is_its_own_failure() -> None:
    asked: list[Any] = [
        BatchItem("lock", "?", (Document("x", metadata={"lock": threading.Lock(), "title": "T"}),), metadata={"lock": threading.Lock()}),
        BatchItem("nonsense", "?", (17,)),  # type: ignore[arg-type]
        BatchItem("fine", "?", (Document("x"),)),
    ]
    with running(Fake(echo)) as fake:
        results = {result.id: result for result in GlyphPipeline(fake.base_url, config=CONFIG).ask_many(asked, workers=1)}
    assert {name: result.status for name, result in results.items()} == {"lock": "ok", "nonsense": "failed", "fine": "ok"}


def test_workers_import_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "struct.py").write_text("open('ran', 'w')\n")
    (tmp_path / "doc.txt").write_text("The ferry.")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry])
    with running(Fake(echo)) as fake:
        (result,) = GlyphPipeline(fake.base_url, config=CONFIG).ask_many([BatchItem("x", "?", (Path("doc.txt"),))], workers=1)
    assert result.status == "ok"
    assert not (tmp_path / "ran").exists()


def test_results_are_handed_on_while_the_next_item_is_long_in_coming() -> None:
    answered = threading.Event()

    def source() -> Iterator[BatchItem]:
        yield BatchItem("first", "?", (Document("x"),))
        assert answered.wait(60)
        yield BatchItem("second", "?", (Document("x"),))

    with running(Fake(echo)) as fake:
        results = GlyphPipeline(fake.base_url, config=CONFIG).ask_many(source(), workers=0)
        assert next(results).id == "first"
        answered.set()
        assert next(results).id == "second"
        assert list(results) == []


def test_what_the_iterator_raises_comes_after_the_results_of_what_it_gave() -> None:
    def source() -> Iterator[BatchItem]:
        yield from items(2)
        raise KeyError("the user's own")

    with running(Fake(echo)) as fake:
        results = GlyphPipeline(fake.base_url, config=CONFIG).ask_many(source(), workers=1)
        assert sorted([next(results).id, next(results).id]) == ["item 0", "item 1"]
        with pytest.raises(KeyError, match="the user's own"):
            next(results)


def test_seconds_are_those_of_drawing_and_reading_not_of_waiting() -> None:
    began = time.monotonic()
    with running(Fake(echo)) as fake:
        results = list(GlyphPipeline(fake.base_url, config=CONFIG, concurrency=1).ask_many(items(6), workers=1))
    wall = time.monotonic() - began
    for result in results:
        assert result.answer is not None
        seconds = result.answer.seconds
        assert seconds["draw"] > 0
        assert seconds["total"] == pytest.approx(seconds["draw"] + seconds["choose"] + seconds["read"])
    assert sum(result.seconds for result in results) <= 2 * wall  # one is drawn while one is read: waiting would count six times


def test_no_more_are_asked_at_a_time_than_the_engine_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most = 0, 0

    async def drawn_at_once(pool: DrawingPool, task: DrawTask) -> DrawnItem:
        return DrawnItem(None, (), CONFIG, 0.0)  # type: ignore[arg-type]

    monkeypatch.setattr(DrawingPool, "draw", drawn_at_once)

    async def ask(item: BatchItem, drawn: Any) -> Any:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        while most < 2:  # until the second is drawn, however busy the machine
            await asyncio.sleep(0.001)
        for _ in range(50):
            await asyncio.sleep(0)
        under_way -= 1
        raise GlyphError("x")

    async def all_of_it() -> int:
        batch = Batch(lambda item: DrawTask.of(item, CONFIG, GLM_4V, count=True), ask, concurrency=2, workers=0)
        return len([result async for result in run_batch(items(12), batch)])

    assert asyncio.run(all_of_it()) == 12
    assert most == 2
