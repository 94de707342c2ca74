"""Drawing in worker processes, so that the network never waits for it. Knows no questions and no answers."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from glyph_pipeline.batch.worker import LENGTH, DrawnItem, DrawTask, draw, message
from glyph_pipeline.errors import GlyphError

# Modules are looked for where this process does, which is not the current folder. Ctrl-C reaches the whole group; who started the
# worker tells it when to end.
_PROGRAM = """\
import sys
sys.path[:] = {path!r}
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from glyph_pipeline.batch.worker import main
main()
"""
# An item whose worker dies may have been drawn beside one that took all the memory: it gets one more try.
_TRIES = 2
# Bytes read ahead of a worker's answer: with asyncio's own 64 KiB an item's pages come in hundreds of small pieces.
_BUFFER = 1 << 23


class DrawingPool:
    """Up to ``workers`` processes that draw; with 0 the event loop's threads do. Bound to the event loop it is used in; close it.

    A worker that dies is replaced. Without one nothing is lost: each is idle, or has one item that is drawn again once.
    """

    def __init__(self, workers: int) -> None:
        self._idle: list[Process] = []
        self._slots = asyncio.Semaphore(max(1, workers))
        self._in_process = workers == 0
        self._all: set[Process] = set()

    async def draw(self, task: DrawTask) -> DrawnItem:
        """Draw an item when a worker is free. Raises what drawing raises, and GlyphError if workers die on it."""
        if self._in_process:
            async with self._slots:
                return await asyncio.to_thread(draw, task)
        for _ in range(_TRIES):
            async with self._slots:
                worker = self._idle.pop() if self._idle else await self._start()
                try:
                    answer = await _exchange(worker, task)
                except (EOFError, OSError):
                    await self._end(worker)
                    continue
                except BaseException:
                    await self._end(worker)  # cancelled in the middle of a message: what follows could not be told apart
                    raise
                self._idle.append(worker)
            if isinstance(answer, MemoryError):
                raise GlyphError(
                    f"There is not enough memory to draw {task.id!r}.", hint="Use fewer workers (--workers), or split the document."
                )
            if isinstance(answer, BaseException):
                raise answer
            return answer
        raise GlyphError(
            f"The process that drew {task.id!r} died {_TRIES} times; it may have run out of memory.",
            hint="Use fewer workers (--workers), or split the document.",
        )

    async def aclose(self) -> None:
        """End the workers."""
        for worker in list(self._all):
            await self._end(worker)
        self._idle.clear()

    async def _start(self) -> Process:
        path = [str(Path(entry).absolute()) for entry in sys.path]
        program = _PROGRAM.format(path=path)
        try:
            worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=PIPE, stdout=PIPE, limit=_BUFFER)
        except OSError as e:
            raise GlyphError(
                f"No process can be started to draw in ({sys.executable!r}): {e.strerror or e}.",
                hint="With --workers 0 (workers=0) drawing stays in this process.",
            ) from e
        self._all.add(worker)
        return worker

    async def _end(self, worker: Process) -> None:
        self._all.discard(worker)
        with contextlib.suppress(ProcessLookupError):
            worker.kill()  # it holds nothing but pages
        await worker.wait()
        # The transport, too, before the loop ends; asyncio has no public name for it.
        transport = getattr(worker, "_transport", None)
        if transport is not None:
            transport.close()


async def _exchange(worker: Process, task: DrawTask) -> DrawnItem | BaseException:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(message(task))
    await worker.stdin.drain()
    (length,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
    answer: DrawnItem | BaseException = pickle.loads(await worker.stdout.readexactly(length))
    return answer
