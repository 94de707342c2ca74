"""A page store under several processes, and under one that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glyph_pipeline import Document, Page, RenderConfig
from glyph_pipeline.batch.drawing import DrawingPool
from glyph_pipeline.batch.items import BatchItem
from glyph_pipeline.batch.worker import DrawTask
from glyph_pipeline.pagestore import PageStore
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.vision import GLM_4V

CONFIG = RenderConfig.preset("en")
DOCUMENTS = [f"Tide {number}: high water at the bar, low at the quay.\n" * (150 + 40 * number) for number in range(8)]
# Draws all documents some times over, in an order of its own, and tells their bytes; a dot before each.
PROGRAM = """
import hashlib, json, sys
from glyph_pipeline import RenderConfig
from glyph_pipeline.pagestore import PageStore
folder, bound, step, rounds = sys.argv[1], *map(int, sys.argv[2:])
documents = [f"Tide {number}: high water at the bar, low at the quay.\\n" * (150 + 40 * number) for number in range(8)]
store = PageStore(folder, bound)
told = {}
for turn in range(rounds):
    for number in range(len(documents)):
        at = number * step % len(documents)
        print(".", file=sys.stderr, flush=True)
        pages = list(store.renderer(RenderConfig.preset("en")).render(documents[at]))
        told.setdefault(str(at), set()).add(hashlib.sha256(repr(pages).encode()).hexdigest())
print(json.dumps([{at: sorted(hashes) for at, hashes in told.items()}, store.hits, store.misses]))
"""


def digest(pages: list[Page]) -> str:
    return hashlib.sha256(repr(pages).encode()).hexdigest()


@pytest.fixture(scope="module")
def expected() -> dict[str, list[str]]:
    return {str(number): [digest(list(Renderer(CONFIG).render(text)))] for number, text in enumerate(DOCUMENTS)}


def start(folder: Path, bound: int, step: int, rounds: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PROGRAM, str(folder), str(bound), str(step), str(rounds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


# All documents together are 255 kB.
@pytest.mark.parametrize("bound", [10**9, 120_000])
def test_two_processes_draw_one_corpus(tmp_path: Path, bound: int, expected: dict[str, list[str]]) -> None:
    processes = [start(tmp_path, bound, step, 3) for step in (1, 3)]
    outputs = [process.communicate(timeout=200) for process in processes]
    for process, (out, err) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, err
        told, hits, misses = json.loads(out)
        assert told == expected
        assert hits + misses == 3 * len(DOCUMENTS)
    kept = list(tmp_path.glob("*.zip"))
    assert kept
    assert sum(path.stat().st_size for path in kept) <= bound
    assert list((tmp_path / "unfinished").iterdir()) == []
    if bound == 10**9:
        assert len(kept) == len(DOCUMENTS)
        assert int((tmp_path / "total").read_text()) == sum(path.stat().st_size for path in kept)
        store = PageStore(tmp_path)
        assert [digest(list(store.renderer(CONFIG).render(text))) for text in DOCUMENTS] == [only for (only,) in expected.values()]
        assert (store.hits, store.misses) == (len(DOCUMENTS), 0)


@pytest.mark.parametrize("dots", [1, 2, 5, 8])
def test_killed_while_it_writes(tmp_path: Path, dots: int, expected: dict[str, list[str]]) -> None:
    process = start(tmp_path, 10**9, 1, 1)
    assert process.stderr is not None
    for _ in range(dots):
        process.stderr.readline()
    # Until a page of the next document has been written, or the process is through.
    deadline = time.monotonic() + 60
    while process.poll() is None and not _begun(tmp_path / "unfinished"):
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate()
    store = PageStore(tmp_path)
    before = len(list(tmp_path.glob("*.zip")))
    assert before >= dots - 1
    told = {str(number): [digest(list(store.renderer(CONFIG).render(text)))] for number, text in enumerate(DOCUMENTS)}
    assert told == expected
    # What lies under an entry's name is whole, whenever the process was killed.
    assert (store.hits, store.misses) == (before, len(DOCUMENTS) - before)


# Keeps one document, then stops in the middle of another.
HALF = """
import sys
from glyph_pipeline import RenderConfig
from glyph_pipeline.pagestore import PageStore
renderer = PageStore(sys.argv[1]).renderer(RenderConfig.preset("en"))
list(renderer.render("Whole.\\n"))
pages = renderer.render("Half of it.\\n" * 20_000)
for _ in range(5):
    next(pages)
print("now", flush=True)
sys.stdin.read()
"""


def test_killed_in_the_middle_of_a_document(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HALF, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "now\n"
    process.kill()
    process.communicate()
    (left,) = (tmp_path / "unfinished").iterdir()
    assert left.stat().st_size > 0
    store = PageStore(tmp_path)
    text = "Half of it.\n" * 20_000
    for _ in range(2):
        assert list(store.renderer(CONFIG).render(text)) == list(Renderer(CONFIG).render(text))
        assert list(store.renderer(CONFIG).render("Whole.\n")) == list(Renderer(CONFIG).render("Whole.\n"))
    assert (store.hits, store.misses) == (3, 1)


def _begun(folder: Path) -> bool:
    """Whether something has been written into a file there; it may be moved away at any moment."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size for path in folder.glob("*"))
    return False


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_of_a_batch_read_and_write_it(tmp_path: Path, workers: int) -> None:
    store = PageStore(tmp_path)
    item = BatchItem("1", "What?", (Document("The first log.\n" * 60, "one"), Document("The second log.\n" * 60, "two")))

    async def twice() -> list[int]:
        pool = DrawingPool(workers)
        try:
            tasks = [DrawTask.of(item, CONFIG, GLM_4V, True, store.place) for _ in range(2)]
            first, second = [await pool.draw(task) for task in tasks]
            plain = await pool.draw(DrawTask.of(item, CONFIG, GLM_4V, True))
        finally:
            pool.close()
        assert first.compressed == second.compressed == plain.compressed
        return [first.drawn_before, second.drawn_before, plain.drawn_before]

    assert asyncio.run(twice()) == [0, 2, 0]
