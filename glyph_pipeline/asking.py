"""Asking: pages and a question in as many requests as it takes, and one answer of their answers. Draws nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from glyph_pipeline.answer import MergeAnswer, Merged, PipelineEvent, WindowAnswer, WindowDone, WindowStarted
from glyph_pipeline.background import unattended
from glyph_pipeline.connection import Connection
from glyph_pipeline.errors import ContextLengthError, ReadError
from glyph_pipeline.material import Material
from glyph_pipeline.merging import MergeBudget, Partial, combined, groups
from glyph_pipeline.prompts import found_nothing, joined, merge_question
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, Quote, ReadResult, ReasoningDelta, Retrying
from glyph_pipeline.report import Sent
from glyph_pipeline.requests import AskLimits, Request, RequestPlan, plan_requests

_E = TypeVar("_E")
# A context error in spite of the plan, from a server whose limit we already knew: its count is another than ours.
_SHRINK = 0.9


@dataclass(frozen=True, slots=True)
class Asked:
    """What all requests gave; the last event of :func:`ask_pages`. ``text`` is the answer, or says that nothing was found;
    ``whole`` is False if partial answers stand in it that could not be merged. ``connection`` knows the true context by now,
    ``sent`` what the documents cost."""

    text: str
    whole: bool
    connection: Connection
    windows: tuple[WindowAnswer, ...]
    merges: tuple[MergeAnswer, ...]
    quotes: tuple[Quote, ...]
    sent: Sent


async def ask_pages(
    connection: Connection, material: Material, question: str, limits: AskLimits, gate: asyncio.Semaphore
) -> AsyncGenerator[PipelineEvent | Asked, None]:
    """Events as they happen, the last an :class:`Asked`; ``gate`` bounds the requests under way.

    A server that finds a request too long, although it fits what we know, is believed once: all is planned again with its
    own limit. Raises ContextLengthError, ReadError, ServerError.
    """
    for last_try in (False, True):
        try:
            async with aclosing(_ask_planned(connection, material, question, limits, gate)) as events:
                async for event in events:
                    yield event
            return
        except ContextLengthError as e:
            known, limit = connection.max_model_len, e.limit
            if last_try or limit is None:
                raise
            connection = replace(connection, max_model_len=limit if known is None or limit < known else int(known * _SHRINK))
            yield Retrying(e.message, 0.0)


async def _ask_planned(
    connection: Connection, material: Material, question: str, limits: AskLimits, gate: asyncio.Semaphore
) -> AsyncGenerator[PipelineEvent | Asked, None]:
    plan = await unattended(lambda: plan_requests(connection, material, question, limits))
    total = len(plan.requests)
    answers: dict[int, WindowAnswer] = {}
    quotes: list[Quote] = []

    def ask(number: int, request: Request) -> Callable[[], AsyncGenerator[Any, None]]:
        return lambda: _ask_window(connection, request, number, total)

    async with aclosing(side_by_side([ask(number, request) for number, request in enumerate(plan.requests, 1)], gate)) as events:
        async for event in events:
            if isinstance(event, WindowDone):
                answers[event.window] = event.answer
            if isinstance(event, Quote):
                quotes.append(event)
            else:
                yield event
    windows = tuple(answers[number] for number in sorted(answers))
    if total == 1:
        yield Asked(windows[0].text, True, connection, windows, (), tuple(quotes), plan.sent)
        return
    helpful = [
        Partial(request.label, answer.text, request.window.pages, (number, number))
        for number, (request, answer) in enumerate(zip(plan.requests, windows, strict=True), 1)
        if answer.found and answer.text
    ]
    text, merges = helpful[0].text if helpful else "", []
    if not helpful and not any(answer.finish_reason == "length" for answer in windows):
        text = f"None of the {total} parts in which the {len(material.pages)} pages were read has anything that answers the question."
    if len(helpful) > 1:
        async with aclosing(_merge(connection, helpful, question, limits, plan, gate)) as merging:
            async for merged in merging:
                if isinstance(merged, Merged):
                    merges.append(merged.answer)
                if isinstance(merged, Partial):
                    text = merged.text
                else:
                    yield merged
    whole = len(helpful) < 2 or bool(merges and merges[-1].final and merges[-1].text)
    yield Asked(text, whole, connection, windows, tuple(merges), tuple(quotes), plan.sent)


async def _ask_window(connection: Connection, request: Request, number: int, total: int) -> AsyncGenerator[PipelineEvent | Quote, None]:
    window = request.window
    first, last = request.first_page, request.last_page
    yield WindowStarted(number, total, first, last, window.prompt_tokens)
    async with aclosing(connection.reader.read(request.parts, request.question, max_tokens=window.max_tokens)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, ReadResult):
                found = total == 1 or not found_nothing(event.text)
                answer = WindowAnswer(
                    first, last, window.prompt_tokens, event.text, event.reasoning, event.finish_reason, event.usage, request.label, found
                )
                for quote in event.quotes:  # of readers that are given all pages at once, and count them as we do
                    yield quote
                yield WindowDone(number, total, answer)
                return
            if isinstance(event, (ReasoningDelta, AnswerDelta, Retrying)):
                yield replace(event, window=number)
            else:
                assert isinstance(event, PageRead)
                yield event
    raise ReadError(f"{connection.reader.name} ended without a result.")


async def _merge(
    connection: Connection, partials: list[Partial], question: str, limits: AskLimits, plan: RequestPlan, gate: asyncio.Semaphore
) -> AsyncGenerator[PipelineEvent | Partial, None]:
    """Merge partial answers, in rounds if one request can't hold them all; the last event is the one that is left.

    If no two fit together, or the last merge is cut before its answer, that is all of them, one after the other.
    """
    tokenizer = connection.tokenizer
    for number in range(1, len(partials) + 1):
        together = await unattended(partial(groups, partials, plan.merging, tokenizer))
        if len(together) == len(partials):
            break
        final = len(together) == 1
        texts: dict[int, str] = {}

        def merge(index: int, group: list[Partial], number: int = number, final: bool = final) -> Callable[[], AsyncGenerator[Any, None]]:
            return lambda: _merge_group(connection, group, index, number, final, question, limits, plan.merging)

        jobs = [merge(index, group) for index, group in enumerate(together) if len(group) > 1]
        async with aclosing(side_by_side(jobs, gate)) as events:
            async for event in events:
                if isinstance(event, tuple):
                    texts[event[0]] = event[1].text
                    yield Merged(event[1])
                else:
                    yield event
        # A merge that was cut while it still reasoned must not take along what it was to merge.
        partials = [
            group[0]
            if len(group) == 1
            else combined(group, texts[index] or joined([(part.label, part.text) for part in group]), plan.several, plan.merging, tokenizer)
            for index, group in enumerate(together)
        ]
        if final:
            break
    text = partials[0].text if len(partials) == 1 else joined([(part.label, part.text) for part in partials])
    yield replace(partials[0], text=text)


async def _merge_group(
    connection: Connection,
    group: list[Partial],
    index: int,
    number: int,
    final: bool,
    question: str,
    limits: AskLimits,
    budget: MergeBudget,
) -> AsyncGenerator[ReasoningDelta | AnswerDelta | Retrying | tuple[int, MergeAnswer], None]:
    asked = merge_question(question, [(part.label, part.text) for part in group])
    prompt = await unattended(lambda: connection.beside_pictures((), asked))
    most = limits.max_tokens
    if not final and budget.most is not None:  # it is to be merged with another
        most = min(most, budget.most)
    if connection.max_model_len is not None:
        taken = prompt if prompt is not None else await unattended(lambda: connection.estimate(asked))
        most = max(1, min(most, connection.max_model_len - taken))
    async with aclosing(connection.reader.read((), asked, max_tokens=most)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, ReadResult):
                labels = tuple(part.label for part in group)
                yield index, MergeAnswer(labels, number, final, prompt, event.text, event.reasoning, event.finish_reason, event.usage)
                return
            # What a round in between says is not the answer, and would read as if it were.
            if isinstance(event, Retrying) or (final and isinstance(event, (ReasoningDelta, AnswerDelta))):
                yield event
    raise ReadError(f"{connection.reader.name} ended without a result.")


async def side_by_side(jobs: Sequence[Callable[[], AsyncGenerator[_E, None]]], gate: asyncio.Semaphore) -> AsyncGenerator[_E, None]:
    """The events of all ``jobs`` as they come, as many jobs at a time as ``gate`` lets through.

    The first error ends all of them and is raised; so does closing the iterator. Then all have ended when it returns.
    """
    queue: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue()

    async def follow(job: Callable[[], AsyncGenerator[_E, None]]) -> None:
        try:
            async with gate, aclosing(job()) as events:
                async for event in events:
                    queue.put_nowait((True, event))
        except asyncio.CancelledError:
            # By us, when nobody reads the queue any more; or the reader's own doing.
            queue.put_nowait((False, ReadError("Reading was cancelled.")))
            raise
        except Exception as e:
            queue.put_nowait((False, e))
        else:
            queue.put_nowait((False, None))

    tasks = [asyncio.ensure_future(follow(job)) for job in jobs]
    try:
        left = len(tasks)
        while left:
            is_event, value = await queue.get()
            if is_event:
                yield value
            elif value is not None:
                raise value
            else:
                left -= 1
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
