"""Shards drawn by processes of this machine. Knows no folder and no plan."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from glyph_pipeline.background import cores, run
from glyph_pipeline.batch.processes import WorkerDiedError, WorkerPool, program_of
from glyph_pipeline.errors import UsageError
from glyph_pipeline.shards.work import TRIES, Done, Execute, Task, perform

_PROGRAM = program_of("glyph_pipeline.shards.worker")


def on_this_machine(workers: int | None = None) -> Execute:
    """The engine that has ``workers`` processes (default: one a core; 0: none but this one). Raises UsageError for fewer than 0."""
    if workers is not None and workers < 0:
        raise UsageError(f"workers is {workers}.", hint="Give 0 or more.")
    number = cores() if workers is None else workers

    def execute(tasks: Iterator[Task], done: Done, *, alone: bool) -> None:
        if number:
            run(lambda: _side_by_side(tasks, done, 1 if alone else number))
        else:
            for task in tasks:
                done(task, perform(task))

    return execute


async def _side_by_side(tasks: Iterator[Task], done: Done, workers: int) -> None:
    pool = WorkerPool(_PROGRAM, workers, tries=TRIES)

    async def take() -> None:
        for task in tasks:
            try:
                answer = await pool.run(task)
            except WorkerDiedError:
                answer = None
            if isinstance(answer, MemoryError):
                answer = None
            if isinstance(answer, BaseException):
                raise answer
            done(task, answer)

    takers = [asyncio.ensure_future(take()) for _ in range(workers)]
    try:
        await asyncio.gather(*takers)
    finally:
        pool.close()
        for taker in takers:
            taker.cancel()
        await asyncio.gather(*takers, return_exceptions=True)
