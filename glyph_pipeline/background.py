"""Background: blocking work beside an event loop, and coroutines from sync code. Knows nothing else of the package."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
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
    over = threading.Event()

    async def main() -> _T:
        task = asyncio.current_task()
        assert task is not None
        begun.append((asyncio.get_running_loop(), task))
        try:
            return await start()
        finally:
            over.set()

    try:
        return in_daemon(lambda: asyncio.run(main())).result()
    except BaseException:
        # Ours, or the coroutine's own; an interrupt may come before there is a result to wait for.
        if begun and not over.is_set():
            loop, task = begun[0]
            with contextlib.suppress(RuntimeError):  # it has just been closed
                loop.call_soon_threadsafe(task.cancel)
            over.wait(_PATIENCE_S)
        raise


def run_step(loop: asyncio.AbstractEventLoop, task: asyncio.Task[_T]) -> _T:
    """Run a loop that is this thread's own until ``task`` is done. Ctrl-C cancels the task and is raised when that has ended.

    Python would raise KeyboardInterrupt wherever the loop just is; between taking a callback and calling it, it would be lost
    with what waits for it. asyncio.Runner does the same, from Python 3.11 on, for whole programs.
    """
    interrupted = False

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt  # for the second time: at once, whatever is lost
        interrupted = True
        loop.call_soon_threadsafe(task.cancel)

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not ours:
        return loop.run_until_complete(task)
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        result = loop.run_until_complete(task)
        # An interrupt that came as the step ended had nothing left to cancel, and is one all the same.
        if not interrupted:
            return result
    except asyncio.CancelledError:
        if not interrupted:
            raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    raise KeyboardInterrupt


async def ended(task: asyncio.Task[Any]) -> bool:
    """Cancel a task and give it some seconds to end; whether it has. An interrupt in a bad moment can have lost its wake-up."""
    task.cancel()
    await asyncio.wait({task}, timeout=_PATIENCE_S)
    if task.done() and not task.cancelled():
        task.exception()  # looked at, or asyncio complains that nobody did
    return task.done()


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
