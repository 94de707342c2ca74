"""What tests on Ray clusters ask about, who answers, and what came of it. Knows no cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.batch import BatchItem, BatchResult
from tests.support.fake_openai import Handler, Held

CONFIG = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)
TEXT = "The ferry of Ardmoyle ran on Thursdays until 1932.\n" * 30


def echo(handler: Handler, body: dict[str, Any]) -> None:
    """Answers with the question."""
    handler.stream([{"content": "<answer>" + question_of(body)}])


class EchoingFirst:
    """Answers with the question, from question number ``first_held`` on only after :meth:`release`: until then a batch is in its middle,
    however fast or slow the machine. Items travel in order, a few together, and those of one block are rows when all of them are."""

    def __init__(self, first_held: int) -> None:
        self._first_held = first_held
        self._held = Held()
        self.release = self._held.release
        self.waiting = self._held.waiting  # counts those that are held

    def __call__(self, handler: Handler, body: dict[str, Any]) -> None:
        if int(question_of(body).split()[-1]) >= self._first_held:
            self.waiting.release()
            if not self._held.hold(handler):
                return
        echo(handler, body)


def question_of(body: dict[str, Any]) -> str:
    question: str = body["messages"][0]["content"][-1]["text"]
    return question


def items(count: int) -> Iterator[BatchItem]:
    return (BatchItem(f"item {n}", f"question {n}", (Document(f"{n}: {TEXT}"),), metadata={"n": n}) for n in range(count))


def rows(results: Iterator[BatchResult] | list[BatchResult]) -> dict[str, dict[str, Any]]:
    """Records by id, without what differs from run to run; fails if an id comes twice."""
    records = [json.loads(json.dumps(result.to_dict())) for result in results]
    for record in records:
        del record["seconds"]
    found = {record["id"]: record for record in records}
    assert len(found) == len(records)
    return found
