"""The engine of a batch: items drawn and asked side by side, results as they finish. Knows no reader, no store, no command line."""

from __future__ import annotations

import asyncio
import concurrent.futures
import queue
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass

from glyph_pipeline.answer import Answer
from glyph_pipeline.batch.drawing import DrawingPool
from glyph_pipeline.batch.items import BadItem, BatchItem
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.worker import DrawnItem, DrawTask
from glyph_pipeline.errors import GlyphError, MissingExtraError, OutputError, ReadError, ServerError

# What would fail every other item as well ends the batch; what is done stays done.
_ENDING = (ServerError, MissingExtraError, OutputError)
_NOT_ALLOWED = (401, 403)


@dataclass(frozen=True, slots=True)
class Batch:
    """How a batch runs: ``task`` makes the drawing task of an item, ``ask`` has a drawn item answered, ``concurrency`` items are
    asked at a time and up to ``workers`` more are drawn meanwhile."""

    task: Callable[[BatchItem], DrawTask]
    ask: Callable[[BatchItem, DrawnItem], Awaitable[Answer]]
    concurrency: int
    workers: int


async def run_batch(items: Iterable[BatchItem | BadItem], batch: Batch) -> AsyncGenerator[BatchResult, None]:
    """The result of every item, as it finishes; items are taken as they are needed, all in one thread that is not the caller's.

    An item that fails is a result with its error. Raises what would fail all others, too (ServerError, MissingExtraError, a key that is refused), and
    what ``items`` raises, after the results of those taken before.
    """
    pool = DrawingPool(batch.workers)
    gate = asyncio.Semaphore(batch.concurrency)
    source = _Source(items)
    running: set[asyncio.Task[BatchResult]] = set()
    taking: asyncio.Future[BatchItem | BadItem | None] | None = None
    exhausted, broken = False, None
    try:
        while True:
            if taking is None and not exhausted and len(running) < batch.concurrency + max(1, batch.workers):
                taking = asyncio.ensure_future(source.next())
            if taking is None and not running:
                if broken is not None:
                    raise broken
                return
            # The next item may be long in coming, or wait for a result: neither holds up the other.
            await asyncio.wait({*running, *((taking,) if taking is not None else ())}, return_when=asyncio.FIRST_COMPLETED)
            if taking is not None and taking.done():
                broken = taking.exception()
                item = None if broken is not None else taking.result()
                taking, exhausted = None, item is None
                if item is not None:
                    running.add(asyncio.ensure_future(_result(item, batch, pool, gate)))
            done = {task for task in running if task.done()}
            running -= done
            # Those that are done are handed on before one of them ends the batch.
            for task in sorted(done, key=lambda task: task.exception() is not None):
                yield task.result()
    finally:
        source.close()
        pool.close()
        if taking is not None:
            taking.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *((taking,) if taking is not None else ()), return_exceptions=True)


class _Source:
    """Takes items from an iterable in a thread of its own, which nobody waits for: it may block for ever."""

    def __init__(self, items: Iterable[BatchItem | BadItem]) -> None:
        self._items = items
        self._wanted: queue.SimpleQueue[concurrent.futures.Future[BatchItem | BadItem | None] | None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="glyph-items", daemon=True).start()

    async def next(self) -> BatchItem | BadItem | None:
        """The next item, None at the end."""
        future: concurrent.futures.Future[BatchItem | BadItem | None] = concurrent.futures.Future()
        self._wanted.put(future)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Let the thread end."""
        self._wanted.put(None)

    def _serve(self) -> None:
        source: Iterator[BatchItem | BadItem] | None = None
        while (future := self._wanted.get()) is not None:
            if not future.set_running_or_notify_cancel():
                continue
            try:
                source = iter(self._items) if source is None else source
                future.set_result(next(source, None))
            except BaseException as e:
                future.set_exception(e)


async def _result(item: BatchItem | BadItem, batch: Batch, pool: DrawingPool, gate: asyncio.Semaphore) -> BatchResult:
    if isinstance(item, BadItem):
        return BatchResult(item.id, "", None, item.error, 0.0)
    started = time.monotonic()
    answer: Answer | None = None
    error: GlyphError | None = None
    try:
        drawn = await pool.draw(batch.task(item))
        async with gate:
            started = time.monotonic() - drawn.seconds  # what it waited for its turn is nobody's time
            answer = await batch.ask(item, drawn)
    except Exception as e:
        error = item_error(e)
    return BatchResult(item.id, item.question, answer, error, time.monotonic() - started, item.metadata)


def item_error(error: Exception) -> GlyphError:
    """What an item failed with, as it is told. Raises ``error`` itself if it would fail every other item, too."""
    if isinstance(error, _ENDING) or (isinstance(error, ReadError) and error.status in _NOT_ALLOWED):
        raise error
    if isinstance(error, GlyphError):
        return error
    return GlyphError(
        f"{type(error).__name__}: {error}", hint="This is a bug in glyph-pipeline, or in what it was given; the other items go on."
    )
