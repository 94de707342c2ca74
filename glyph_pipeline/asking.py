"""Asking: drawn pages and a question in as many requests as it takes, and one answer of their answers. Draws nothing."""

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
from glyph_pipeline.merging import Partial, groups, merge_room
from glyph_pipeline.page import Page
from glyph_pipeline.planning import MAX_REQUEST_BYTES, MIN_ANSWER_TOKENS, Budget, Window, plan_windows
from glyph_pipeline.prompts import found_nothing, merge_question, page_label, window_question
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, Quote, ReadResult, ReasoningDelta, Retrying

_E = TypeVar("_E")
# A context error in spite of the plan, from a server whose limit we already knew: its count is another than ours.
_SHRINK = 0.9
# Window questions differ by a few digits and names; planning again with the longest of them ends at once, but for this.
_PLANS = 4
# A label names up to a dozen documents.
_LABEL_TOKENS = 128


@dataclass(frozen=True, slots=True)
class AskLimits:
    """How a question is asked: ``max_tokens`` for reasoning and answer of each request, ``concurrency`` requests at a time,
    ``overlap`` pages repeated where a document is cut, ``max_request_bytes`` of a body, ``cite`` whether answers are to name
    pages (None: where there are several documents or windows)."""

    max_tokens: int
    concurrency: int = 8
    overlap: int = 0
    max_request_bytes: int = MAX_REQUEST_BYTES
    cite: bool | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What all requests gave; the last event of :func:`ask_pages`. ``text`` is the answer, or says that nothing was found."""

    text: str
    windows: tuple[WindowAnswer, ...]
    merges: tuple[MergeAnswer, ...]
    quotes: tuple[Quote, ...]


@dataclass(frozen=True, slots=True)
class _Request:
    """A planned window and the question as it stands behind its pages."""

    window: Window
    question: str
    label: str


async def ask_pages(
    connection: Connection, pages: Sequence[Page], question: str, limits: AskLimits, gate: asyncio.Semaphore
) -> AsyncGenerator[PipelineEvent | Asked, None]:
    """Events as they happen, the last an :class:`Asked`; ``gate`` bounds the requests under way.

    A server that finds a request too long, although it fits what we know, is believed once: all is planned again with its
    own limit. Raises ContextLengthError, ReadError, ServerError.
    """
    for last_try in (False, True):
        try:
            async with aclosing(_ask_planned(connection, pages, question, limits, gate)) as events:
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
    connection: Connection, pages: Sequence[Page], question: str, limits: AskLimits, gate: asyncio.Semaphore
) -> AsyncGenerator[PipelineEvent | Asked, None]:
    requests = await unattended(lambda: _plan(connection, pages, question, limits))
    total = len(requests)
    answers: dict[int, WindowAnswer] = {}
    quotes: list[Quote] = []

    def ask(number: int, request: _Request) -> Callable[[], AsyncGenerator[Any, None]]:
        return lambda: _ask_window(connection, request, number, total)

    async with aclosing(side_by_side([ask(number, request) for number, request in enumerate(requests, 1)], gate)) as events:
        async for event in events:
            if isinstance(event, WindowDone):
                answers[event.window] = event.answer
            if isinstance(event, Quote):
                quotes.append(event)
            else:
                yield event
    windows = tuple(answers[number] for number in sorted(answers))
    helpful = [
        Partial(request.label, answer.text, request.window.pages)
        for request, answer in zip(requests, windows, strict=True)
        if answer.found and answer.text
    ]
    if total > 1 and not helpful:
        text = f"None of the {total} parts in which the {len(pages)} pages were read has anything that answers the question."
        yield Asked(text if not any(answer.finish_reason == "length" for answer in windows) else "", windows, (), ())
        return
    merges: list[MergeAnswer] = []
    if len(helpful) > 1:
        async with aclosing(_merge(connection, helpful, question, limits, gate)) as merging:
            async for merged in merging:
                if isinstance(merged, Merged):
                    merges.append(merged.answer)
                yield merged
    text = merges[-1].text if merges else helpful[0].text if helpful else windows[0].text
    yield Asked(text, windows, tuple(merges), tuple(quotes))


def _plan(connection: Connection, pages: Sequence[Page], question: str, limits: AskLimits) -> list[_Request]:
    """The windows and their questions. Each question names its own pages, so planning goes on until the longest fits."""
    several = len({page.document for page in pages}) > 1
    count = connection.frame

    def requests_of(windows: Sequence[Window]) -> list[_Request]:
        parts = len(windows)
        requests = []
        for number, window in enumerate(windows, 1):
            asked = question
            if connection.instructs:
                cite = limits.cite if limits.cite is not None else several or parts > 1
                part = (number, parts) if parts > 1 else None
                asked = window_question(question, window.pages, several=several, part=part, cite=cite)
            requests.append(_Request(window, asked, page_label(window.pages, several)))
        return requests

    frame = count(question, True)
    frames: list[int] = []
    planned = 0  # the frame that the windows are planned with
    for _ in range(_PLANS):
        budget = Budget(connection.max_model_len, frame, limits.max_tokens)
        if connection.instructs:  # others send nothing, and could not merge what they read apart
            budget = replace(budget, max_bytes=limits.max_request_bytes if connection.inline else None, overlap=limits.overlap)
        requests = requests_of(plan_windows(pages, connection.vision, budget))
        if frame is None:
            return requests
        frames = [count(request.question, True) or 0 for request in requests]
        planned = frame
        if max(frames) <= frame or connection.max_model_len is None:
            break
        frame = max(frames)
    most = limits.max_tokens
    if len(requests) > 1:
        room = merge_room(connection, question, limits.max_tokens)
        # Any two partial answers must fit into one request, or they could not be merged.
        most = most if room is None else min(most, max(MIN_ANSWER_TOKENS, room // 2 - _LABEL_TOKENS))
    return [
        replace(request, window=_exact(request.window, exact - planned, connection.max_model_len, most))
        for request, exact in zip(requests, frames, strict=True)
    ]


def _exact(window: Window, more: int, max_model_len: int | None, max_tokens: int) -> Window:
    """The window with the frame of its own question, ``more`` tokens than it was planned with."""
    assert window.prompt_tokens is not None
    prompt = window.prompt_tokens + more
    left = max_tokens if max_model_len is None else min(max_tokens, max_model_len - prompt)
    if left < 1:
        raise ContextLengthError(
            f"The question leaves no room for an answer beside {len(window.pages)} pages in a context of {max_model_len} tokens.",
            hint="Shorten the question, or serve the model with a larger --max-model-len.",
        )
    return replace(window, prompt_tokens=prompt, max_tokens=left)


async def _ask_window(connection: Connection, request: _Request, number: int, total: int) -> AsyncGenerator[PipelineEvent | Quote, None]:
    window = request.window
    first, last = window.first + 1, window.first + len(window.pages)
    yield WindowStarted(number, total, first, last, window.prompt_tokens)
    async with aclosing(connection.reader.read(window.pages, request.question, max_tokens=window.max_tokens)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, ReadResult):
                found = total == 1 or not found_nothing(event.text)
                answer = WindowAnswer(
                    first, last, window.prompt_tokens, event.text, event.reasoning, event.finish_reason, event.usage, request.label, found
                )
                for quote in event.quotes:
                    yield replace(quote, page=quote.page + window.first)
                yield WindowDone(number, total, answer)
                return
            if isinstance(event, (ReasoningDelta, AnswerDelta, Retrying)):
                yield replace(event, window=number)
            else:
                assert isinstance(event, PageRead)
                yield event
    raise ReadError(f"{connection.reader.name} ended without a result.")


async def _merge(
    connection: Connection, partials: list[Partial], question: str, limits: AskLimits, gate: asyncio.Semaphore
) -> AsyncGenerator[PipelineEvent, None]:
    """Merge partial answers, in rounds if one request can't hold them all; the last event is the final Merged."""
    several = len({page.document for part in partials for page in part.pages}) > 1
    room = await unattended(lambda: merge_room(connection, question, limits.max_tokens))
    for number in range(1, len(partials) + 1):
        together = await unattended(partial(groups, partials, room, connection.tokenizer))
        final = len(together) == 1
        merged: dict[int, MergeAnswer] = {}

        def merge(index: int, group: list[Partial], number: int = number, final: bool = final) -> Callable[[], AsyncGenerator[Any, None]]:
            return lambda: _merge_group(connection, group, index, number, final, question, limits)

        jobs = [merge(index, group) for index, group in enumerate(together) if len(group) > 1]
        async with aclosing(side_by_side(jobs, gate)) as events:
            async for event in events:
                if isinstance(event, tuple):
                    merged[event[0]] = event[1]
                    yield Merged(event[1])
                else:
                    yield event
        if final:
            return
        partials = [
            group[0]
            if len(group) == 1
            else Partial(page_label(all_pages := [page for part in group for page in part.pages], several), merged[index].text, all_pages)
            for index, group in enumerate(together)
        ]


async def _merge_group(
    connection: Connection, group: list[Partial], index: int, number: int, final: bool, question: str, limits: AskLimits
) -> AsyncGenerator[ReasoningDelta | AnswerDelta | Retrying | tuple[int, MergeAnswer], None]:
    asked = merge_question(question, [(part.label, part.text) for part in group])
    prompt = await unattended(lambda: connection.frame(asked, False))
    most = limits.max_tokens
    if prompt is not None and connection.max_model_len is not None:
        most = max(1, min(most, connection.max_model_len - prompt))
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
