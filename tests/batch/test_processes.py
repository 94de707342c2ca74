"""Workers end with their pool, whenever and however often who waits for them is called off, and none is forgotten."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil
import pytest

from glyph_pipeline.batch.messages import message
from glyph_pipeline.batch.processes import WorkerDiedError, WorkerPool
from glyph_pipeline.shards import local

HANGS = "import sys; sys.stdin.buffer.read()"
ANSWERS = "from glyph_pipeline.batch.messages import serve; serve(str.upper)"
DIES = "import sys; sys.stdin.buffer.read(8)"
TURNS = [*range(8), 12, 20, 100]


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def those_that_run(runs: Iterable[asyncio.Task[object]]) -> Iterable[asyncio.Task[object]]:
    return runs


def all_but_this_one(runs: Iterable[asyncio.Task[object]]) -> Iterable[asyncio.Task[object]]:
    """What asyncio.run() cancels when it has been interrupted."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


@pytest.mark.parametrize("whom", [those_that_run, all_but_this_one])
@pytest.mark.parametrize("turns", TURNS)
def test_called_off_twice_at_any_time_no_worker_is_left(
    turns: int, whom: Callable[..., Iterable[asyncio.Task[object]]], caplog: pytest.LogCaptureFixture
) -> None:
    """``turns`` of the event loop after they began, tasks are called off, and again before they have ended."""
    before = children()

    async def main() -> None:
        pool = WorkerPool(HANGS, 2, tries=1)
        runs = [asyncio.ensure_future(pool.run("task")) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(2):
            for task in whom(runs):
                task.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*runs, return_exceptions=True)
        pool.close()
        assert all(run.cancelled() for run in runs)
        assert children() <= before

    asyncio.run(main())
    assert caplog.text == ""


@pytest.mark.parametrize("turns", TURNS)
def test_its_owner_is_called_off_twice(turns: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(local, "_PROGRAM", HANGS)
    before = children()

    async def main() -> None:
        owner = asyncio.ensure_future(local._side_by_side(iter(range(5)), lambda task, answer: None, 2))  # type: ignore[arg-type]
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(2):
            owner.cancel()
            await asyncio.sleep(0)
        await asyncio.wait({owner})
        assert owner.cancelled()
        assert children() <= before

    asyncio.run(main())
    assert caplog.text == ""


@pytest.mark.parametrize("turns", TURNS)
def test_what_is_called_off_leaves_its_place_to_others(turns: int) -> None:
    before = children()

    async def main() -> None:
        pool = WorkerPool(ANSWERS, 1, tries=1)
        called_off = asyncio.ensure_future(pool.run("first"))
        for _ in range(turns):
            await asyncio.sleep(0)
        called_off.cancel()
        assert await pool.run("second") == "SECOND"
        alive = [worker.pid for worker in pool._all if not worker.killed]
        pool.close()
        assert len(alive) == 1

    asyncio.run(main())
    assert children() <= before


def test_called_off_in_the_middle_of_a_large_answer(tmp_path: Path) -> None:
    """What has come of it, and what it still writes, does not keep the worker from ending."""
    begun = tmp_path / "begun"
    program = f"""if True:
        import pathlib, sys
        sys.stdin.buffer.read(8)
        sys.stdout.buffer.write((1 << 30).to_bytes(8, "big"))
        for number in range(1 << 10):
            sys.stdout.buffer.write(bytes(1 << 20))
            if number == 48:
                pathlib.Path({str(begun)!r}).touch()
            if number == 1000:
                sys.stdin.buffer.read()"""
    before = children()

    async def main() -> None:
        pool = WorkerPool(program, 1, tries=1)
        run = asyncio.ensure_future(pool.run("task"))
        while not begun.exists() and not run.done():
            await asyncio.sleep(0.01)
        run.cancel()
        assert await asyncio.wait({run}, timeout=60) == ({run}, set())
        assert run.cancelled()
        pool.close()

    asyncio.run(main())
    assert children() <= before


def test_closed_while_it_is_asked() -> None:
    before = children()

    async def main() -> None:
        pool = WorkerPool(HANGS, 2, tries=3)
        runs = [asyncio.ensure_future(pool.run("task")) for _ in range(3)]
        await asyncio.sleep(0)
        pool.close()
        assert children() <= before
        with pytest.raises(RuntimeError, match="closed"):
            await pool.run("task")
        await asyncio.wait(runs, timeout=60)
        assert all(isinstance(run.exception(), RuntimeError) for run in runs)

    asyncio.run(main())
    assert children() <= before


def test_workers_that_die_are_replaced_and_collected() -> None:
    before = children()

    async def main() -> None:
        pool = WorkerPool(DIES, 1, tries=3)
        for _ in range(3):
            with pytest.raises(WorkerDiedError):
                await pool.run("task")
        assert len(children() - before) <= 3  # the last, and those before if they had not yet ended
        pool.close()
        assert children() <= before

    asyncio.run(main())


def test_pools_in_many_threads() -> None:
    """A notebook's loops are in threads of their own; the pipes of one pool's workers are not the others'."""
    before, answers = children(), []

    async def main() -> None:
        pool = WorkerPool(ANSWERS, 2, tries=1)
        answers.extend(await asyncio.gather(*(pool.run(str(number) + "x") for number in range(6))))
        pool.close()

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(answers) == sorted(3 * [f"{number}X" for number in range(6)])
    assert children() <= before


@pytest.mark.parametrize("part", [0, 3, 8, 11])
def test_a_worker_whose_owner_is_killed_ends_without_a_word(part: int) -> None:
    """Between two tasks, and in the middle of one's message."""
    done = subprocess.run([sys.executable, "-c", ANSWERS], input=message("task")[:part], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_worker_that_cannot_hand_over_its_answer_ends_without_a_word() -> None:
    with subprocess.Popen([sys.executable, "-c", ANSWERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.close()
        assert worker.stdin is not None
        assert worker.stderr is not None
        worker.stdin.write(message("task"))
        worker.stdin.close()
        assert (worker.wait(60), worker.stderr.read()) == (0, b"")
