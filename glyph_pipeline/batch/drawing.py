"""Drawing in worker processes, so that the network never waits for it. Knows no questions and no answers."""

from __future__ import annotations

import asyncio

from glyph_pipeline.batch.processes import WorkerDiedError, WorkerPool, program_of
from glyph_pipeline.batch.worker import DrawnItem, DrawTask, draw
from glyph_pipeline.errors import GlyphError

_PROGRAM = program_of("glyph_pipeline.batch.worker")
# An item whose worker dies may have been drawn beside one that took all the memory: it gets one more try.
_TRIES = 2


class DrawingPool(WorkerPool):
    """Up to ``workers`` processes that draw; with 0 the event loop's threads do. Bound to the event loop it is used in; close it."""

    def __init__(self, workers: int) -> None:
        super().__init__(_PROGRAM, workers, tries=_TRIES)
        self._in_process = asyncio.Semaphore(1) if workers == 0 else None

    async def draw(self, task: DrawTask) -> DrawnItem:
        """Draw an item when a worker is free. Raises what drawing raises, and GlyphError if workers die on it."""
        if self._in_process is not None:
            async with self._in_process:
                return await asyncio.to_thread(draw, task)
        try:
            answer: DrawnItem | BaseException = await self.run(task)
        except WorkerDiedError:
            raise GlyphError(
                f"The process that drew {task.id!r} died {_TRIES} times; it may have run out of memory.",
                hint="Use fewer workers (--workers), or split the document.",
            ) from None
        if isinstance(answer, MemoryError):
            raise GlyphError(
                f"There is not enough memory to draw {task.id!r}.", hint="Use fewer workers (--workers), or split the document."
            )
        if isinstance(answer, BaseException):
            raise answer
        return answer
