"""Background: blocking work beside an event loop, and coroutines from sync code. Knows nothing else of the package."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

_T = TypeVar("_T")
# Seconds for what was cancelled to close its connections.
_PATIENCE_S = 10.0


def in_daemon(work: Callable[[], _T]) -> concurrent.futures.Future[_T]:
    """``work`` in a thread of its own that Python doesn't wait for when it exits, unlike an executor's.

    What ``work`` returns or raises is the future's.
    """
    future: concurrent.futures.Future[_T] = concurrent.futures.Future()

    def run() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work())
        except BaseException as e:
            future.set_exception(e)

    threading.Thread(target=run, name="glyph-pipeline", daemon=True).start()
    return future


async def unattended(work: Callable[[], _T]) -> _T:
    """Blocking work whose end need not come: a server that never answers must not hold up Ctrl-C.

    Returns or raises what ``work`` does. Cancelled, it ends at once; ``work`` goes on in its thread and its result is dropped.
    """
    return await asyncio.wrap_future(in_daemon(work))


def loop_runs() -> bool:
    """Whether this thread is inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def run(start: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end from sync code; in a notebook, where this thread's loop is busy, on another thread.

    Ctrl-C cancels it and waits until it has ended, on the other thread too.
    """
    if not loop_runs():
        return asyncio.run(start())
    begun: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = []

    async def main() -> _T:
        task = asyncio.current_task()
        assert task is not None
        begun.append((asyncio.get_running_loop(), task))
        return await start()

    future = in_daemon(lambda: asyncio.run(main()))
    try:
        return future.result()
    except BaseException:
        if not future.done() and begun:
            loop, task = begun[0]
            loop.call_soon_threadsafe(task.cancel)
            concurrent.futures.wait([future], _PATIENCE_S)
        raise


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
