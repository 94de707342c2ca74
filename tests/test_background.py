"""Loops driven step by step: Ctrl-C at any moment ends the step, whatever the loop was doing, and nothing waits for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from contextlib import closing

import pytest

from glyph_pipeline import background
from glyph_pipeline.background import ended, run, run_step


def test_ctrl_c_cancels_the_step_and_is_raised_when_that_has_ended() -> None:
    loop, cleaned = asyncio.new_event_loop(), []

    async def step() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_step(loop, loop.create_task(step()))
    assert cleaned
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    loop.close()


def interrupted_after(delay: float, loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    threading.Timer(delay, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    run_step(loop, task)


def test_ctrl_c_at_many_moments_never_hangs() -> None:
    """The interrupts come from another thread, whenever it pleases; each step has tasks that wake each other all the time."""
    for delay in [number / 7000 for number in range(60)]:
        loop = asyncio.new_event_loop()

        async def busy() -> None:
            while True:
                await asyncio.sleep(0)

        async def step() -> None:
            await asyncio.gather(*(busy() for _ in range(5)))

        task = loop.create_task(step())
        with pytest.raises(KeyboardInterrupt):
            interrupted_after(delay, loop, task)
        assert loop.run_until_complete(ended(task))
        loop.close()


def test_ctrl_c_as_the_step_ends_is_not_lost() -> None:
    async def step() -> int:
        signal.raise_signal(signal.SIGINT)  # before the loop could cancel anything, the step is over
        return 42

    loop = asyncio.new_event_loop()
    with closing(loop), pytest.raises(KeyboardInterrupt):
        run_step(loop, loop.create_task(step()))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_step_that_ends_by_itself_gives_its_result() -> None:
    loop = asyncio.new_event_loop()

    async def step() -> int:
        return 42

    assert run_step(loop, loop.create_task(step())) == 42
    loop.close()


def test_a_task_that_will_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_PATIENCE_S", 0.05)
    stubborn = True

    async def never() -> None:
        while stubborn:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async def leave() -> bool:
        nonlocal stubborn
        task = asyncio.ensure_future(never())
        await asyncio.sleep(0)
        left = await ended(task)
        stubborn = False
        await task
        return left

    assert asyncio.run(leave()) is False


def test_ctrl_c_ends_what_runs_on_another_thread() -> None:
    """As in a notebook, where the caller's loop is busy."""
    cancelled = threading.Event()

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def cell() -> None:
        run(work)

    loop = asyncio.new_event_loop()  # asyncio.run would take the interrupt for itself, which a notebook doesn't
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(cell())
    assert cancelled.is_set()
    loop.close()
