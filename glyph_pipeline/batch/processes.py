"""Worker processes that do one task at a time and are replaced when they die. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from glyph_pipeline.background import unattended
from glyph_pipeline.batch.messages import message, read_payload
from glyph_pipeline.errors import GlyphError

# Run as programs of their own, not by multiprocessing: that would import the user's main program again in each worker.
# Modules are looked for where this process does, which is not the current folder.
_PROGRAM = """\
import sys
sys.path[:] = {path!r}
from MODULE import main
main()
"""
# Seconds for what was killed to give back its memory.
_PATIENCE_S = 10.0


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
        self._idle: list[_Worker] = []
        self._slots = asyncio.Semaphore(max(1, workers))
        self._all: set[_Worker] = set()
        self._closed = False

    async def run(self, task: object) -> Any:
        """The answer to a task, when a worker is free. Raises WorkerDiedError, and GlyphError if no process can be started."""
        for _ in range(self._tries):
            async with self._slots:
                worker = self._idle.pop() if self._idle else self._start()
                try:
                    answer = await unattended(functools.partial(worker.exchange, task))
                except (EOFError, OSError):
                    worker.kill()
                    continue
                except BaseException:
                    worker.kill()  # cancelled in the middle of a message: what follows could not be told apart
                    raise
                self._idle.append(worker)
            return answer
        raise WorkerDiedError

    def close(self) -> None:
        """End the workers. Nothing can be run any more; what is being run fails, so cancel it before it gets to notice.

        It awaits nothing: whoever is cancelled while he cleans up would leave workers behind.
        """
        self._closed = True
        for worker in self._all:
            worker.kill()
        for worker in self._all:
            worker.collect(_PATIENCE_S)
        self._all.clear()
        self._idle.clear()

    def _start(self) -> _Worker:
        if self._closed:
            raise RuntimeError("the pool is closed")
        self._all = {worker for worker in self._all if not (worker.killed and worker.collect())}
        path = [str(Path(entry).absolute()) for entry in sys.path]
        try:
            worker = _Worker(self._program.format(path=path))
        except OSError as e:
            raise GlyphError(
                f"No process can be started to draw in ({sys.executable!r}): {e.strerror or e}.",
                hint="With --workers 0 (workers=0) drawing stays in this process.",
            ) from e
        self._all.add(worker)
        return worker


class _Worker:
    """One process. Messages go to and fro in a thread of whoever asks it; all else is the event loop's thread's.

    Not asyncio's subprocesses: called off while one starts, ends or answers, they are left half ended, are waited for without
    end, or complain on standard error (CPython's issues 87744 and 127049, for two).
    """

    def __init__(self, program: str) -> None:
        self._talking = threading.Lock()
        self.killed = False
        # Ctrl-C is for us: a terminal sends it to its whole session, and who started the workers tells them when to end. If that
        # process is killed they read the end of their input.
        self._process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def exchange(self, task: object) -> Any:
        """The answer to a task; blocks. Raises EOFError or OSError if the process dies on it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = message(task)
        with self._talking:
            if self.killed:  # and perhaps collected: its pipes are closed
                raise EOFError
            self._process.stdin.write(asked)
            self._process.stdin.flush()
            payload = read_payload(self._process.stdout)
        return pickle.loads(payload)

    def kill(self) -> None:
        """End it, whatever it is at: it holds nothing but what it was given."""
        self.killed = True
        self._process.kill()

    def collect(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, which may take it up to ``seconds``; then nothing of it is left."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        if self._process.returncode is None:
            return False
        with self._talking:  # the thread has read the end of what came, or is about to
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # the rest of a message to one that is no more
                        pipe.close()
        return True


def program_of(module: str) -> str:
    """The program of a worker that runs ``main()`` of one of this package's modules; ``{path!r}`` stands for where modules are."""
    return _PROGRAM.replace("MODULE", module)
