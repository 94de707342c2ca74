"""The engine of a batch: items drawn and asked side by side, results as they finish. Knows no reader, no store, no command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from glyph_pipeline.answer import Answer
from glyph_pipeline.batch.drawing import DrawingPool
from glyph_pipeline.batch.items import BadItem, BatchItem
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.worker import DrawnItem, DrawTask
from glyph_pipeline.errors import GlyphError, MissingExtraError, OutputError, ServerError

# What would fail every other item as well ends the batch; what is done stays done.
_ENDING = (ServerError, MissingExtraError, OutputError)


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch runs: ``task`` makes the drawing task of an item, ``ask`` has a drawn item answered, ``concurrency`` items are
    asked at a time and up to ``workers`` more are drawn meanwhile."""

    task: Callable[[BatchItem], DrawTask]
    ask: Callable[[BatchItem, DrawnItem], Awaitable[Answer]]
    concurrency: int
    workers: int


async def run_batch(items: Iterable[BatchItem | BadItem], batch: Batch) -> AsyncGenerator[BatchResult, None]:
    """The result of every item, as it finishes; items are taken from the iterable as they are needed.

    An item that fails is a result with its error. Raises what would fail all others, too: ServerError, MissingExtraError.
    """
    pool = DrawingPool(batch.workers)
    gate = asyncio.Semaphore(batch.concurrency)
    source = iter(items)
    running: set[asyncio.Task[BatchResult]] = set()
    exhausted = False
    try:
        while True:
            while not exhausted and len(running) < batch.concurrency + max(1, batch.workers):
                item = await asyncio.to_thread(_next, source)
                if item is None:
                    exhausted = True
                else:
                    running.add(asyncio.ensure_future(_result(item, batch, pool, gate)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            # Those that are done are handed on before one of them ends the batch.
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await pool.aclose()


def _next(source: Iterator[BatchItem | BadItem]) -> BatchItem | BadItem | None:
    return next(source, None)


async def _result(item: BatchItem | BadItem, batch: Batch, pool: DrawingPool, gate: asyncio.Semaphore) -> BatchResult:
    started = time.monotonic()
    if isinstance(item, BadItem):
        return BatchResult(item.id, "", None, item.error, 0.0)
    answer: Answer | None = None
    error: GlyphError | None = None
    try:
        drawn = await pool.draw(batch.task(item))
        async with gate:
            answer = await batch.ask(item, drawn)
    except _ENDING:
        raise
    except GlyphError as e:
        error = e
    return BatchResult(item.id, item.question, answer, error, time.monotonic() - started, item.metadata)
