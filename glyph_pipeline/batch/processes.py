"""Worker processes that do one task at a time and are replaced when they die. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Any

from glyph_pipeline.batch.messages import LENGTH, message
from glyph_pipeline.errors import GlyphError

# Run as programs of their own, not by multiprocessing: that would import the user's main program again in each worker.
# Modules are looked for where this process does, which is not the current folder. Ctrl-C reaches the whole group; who started the
# worker tells it when to end.
_PROGRAM = """\
import sys
sys.path[:] = {path!r}
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from MODULE import main
main()
"""
# Bytes read ahead of a worker's answer: with asyncio's own 64 KiB an item's pages come in hundreds of small pieces.
_BUFFER = 1 << 23


class WorkerDiedError(Exception):
    """The workers that were given a task died on it."""


class WorkerPool:
    """Up to ``workers`` processes, each started when it is first needed. Bound to the event loop it is used in; close it.

    ``program`` is Python that serves tasks (messages.py), as :func:`program_of` makes it. A worker that dies is replaced. Without one nothing is lost: each is idle, or has one task,
    which is given to others until it was tried ``tries`` times.
    """

    def __init__(self, program: str, workers: int, *, tries: int) -> None:
        self._program = program
        self._tries = tries
        self._idle: list[Process] = []
        self._slots = asyncio.Semaphore(max(1, workers))
        # Whoever takes a worker's task away may be cancelled a second time while it ends that worker, or starts one: what is in these
        # is ended by aclose() at the latest. A worker that outlived the event loop would have asyncio complain on standard error.
        self._all: set[Process] = set()
        self._starting: set[asyncio.Task[Process]] = set()

    async def run(self, task: object) -> Any:
        """The answer to a task, when a worker is free. Raises WorkerDiedError, and GlyphError if no process can be started."""
        for _ in range(self._tries):
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
            return answer
        raise WorkerDiedError

    async def aclose(self) -> None:
        """End the workers; when it returns, no process of theirs is left."""
        await asyncio.gather(*self._starting, return_exceptions=True)
        for worker in list(self._all):
            await self._end(worker)
        self._idle.clear()

    async def _start(self) -> Process:
        path = [str(Path(entry).absolute()) for entry in sys.path]
        starting = asyncio.ensure_future(self._spawn(self._program.format(path=path)))
        self._starting.add(starting)
        starting.add_done_callback(self._starting.discard)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.cancel()
            await asyncio.wait({starting})
            if not starting.cancelled() and starting.exception() is None:
                await self._end(starting.result())
            raise
        except OSError as e:
            raise GlyphError(
                f"No process can be started to draw in ({sys.executable!r}): {e.strerror or e}.",
                hint="With --workers 0 (workers=0) drawing stays in this process.",
            ) from e

    async def _spawn(self, program: str) -> Process:
        worker = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdin=PIPE, stdout=PIPE, limit=_BUFFER)
        self._all.add(worker)
        return worker

    async def _end(self, worker: Process) -> None:
        if worker.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # It holds nothing but what it was given. Not worker.kill(): before Python 3.13 that takes the exit status of one that has
                # just died away from asyncio, which says so on standard error.
                os.kill(worker.pid, signal.SIGKILL)
        # asyncio waits for the end of its output, too, which it does not get to see while a large answer lies there unread.
        assert worker.stdout is not None
        while await worker.stdout.read(_BUFFER):
            pass
        await worker.wait()
        # The transport, too, before the loop ends; asyncio has no public name for it.
        transport = getattr(worker, "_transport", None)
        if transport is not None:
            transport.close()
        self._all.discard(worker)


def program_of(module: str) -> str:
    """The program of a worker that runs ``main()`` of one of this package's modules; ``{path!r}`` stands for where modules are."""
    return _PROGRAM.replace("MODULE", module)


async def _exchange(worker: Process, task: object) -> Any:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(message(task))
    await worker.stdin.drain()
    (length,) = LENGTH.unpack(await worker.stdout.readexactly(LENGTH.size))
    return pickle.loads(await worker.stdout.readexactly(length))
