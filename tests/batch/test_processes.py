"""Workers end with their pool, whenever who waits for them is called off: none outlives the event loop, and none is forgotten."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from glyph_pipeline.batch.processes import WorkerPool

HANGS = "import sys; sys.stdin.buffer.read()"
ANSWERS = "from glyph_pipeline.batch.messages import serve; serve(str.upper)"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}


@pytest.mark.parametrize("turns", [*range(8), 12, 20, 100])
def test_called_off_twice_at_any_time_no_worker_is_left(turns: int, caplog: pytest.LogCaptureFixture) -> None:
    """``turns`` of the event loop after they began, tasks are called off, and again while their workers are being ended."""
    before = children()

    async def main() -> None:
        pool = WorkerPool(HANGS, 2, tries=1)
        runs = [asyncio.ensure_future(pool.run("task")) for _ in range(3)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for _ in range(2):
            for run in runs:
                run.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*runs, return_exceptions=True)
        await pool.aclose()
        assert all(run.cancelled() for run in runs)
        assert children() == before

    asyncio.run(main())
    assert caplog.text == ""


@pytest.mark.parametrize("turns", [*range(8), 12, 20, 100])
def test_what_is_called_off_leaves_its_place_to_others(turns: int) -> None:
    before = children()

    async def main() -> None:
        pool = WorkerPool(ANSWERS, 1, tries=1)
        called_off = asyncio.ensure_future(pool.run("first"))
        for _ in range(turns):
            await asyncio.sleep(0)
        called_off.cancel()
        assert await pool.run("second") == "SECOND"
        assert len(children() - before) == 1
        await pool.aclose()

    asyncio.run(main())


def test_called_off_in_the_middle_of_a_large_answer(tmp_path: Path) -> None:
    """What has come of it and nobody reads any more must not keep the worker from ending."""
    begun = tmp_path / "begun"
    program = f"""if True:
        import pathlib, sys
        sys.stdin.buffer.read(8)
        sys.stdout.buffer.write((1 << 40).to_bytes(8, "big"))
        for number in range(1 << 20):
            sys.stdout.buffer.write(bytes(1 << 20))
            if number == 48:
                pathlib.Path({str(begun)!r}).touch()"""

    async def main() -> None:
        pool = WorkerPool(program, 1, tries=1)
        run = asyncio.ensure_future(pool.run("task"))
        while not begun.exists():
            await asyncio.sleep(0.01)
        run.cancel()
        assert await asyncio.wait({run}, timeout=30) == ({run}, set())
        await pool.aclose()

    before = children()
    asyncio.run(main())
    assert children() == before
