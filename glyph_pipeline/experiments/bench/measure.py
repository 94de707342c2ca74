"""Measures cells: requests as text and as pages in turns, one length and one concurrency at a time. Prints nothing and keeps no files."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from glyph_pipeline.background import unattended
from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.experiments.bench.client import BenchClient, Reply
from glyph_pipeline.experiments.bench.prepare import SIDES, Prepared, Preparer, Side
from glyph_pipeline.experiments.bench.target import Target, machine
from glyph_pipeline.experiments.bench.texts import QUESTION, TextSource
from glyph_pipeline.reading.vllm import DEFAULT_READ_TIMEOUT_S
from glyph_pipeline.rendering.config import RenderConfig

OnBlock = Callable[["Cell", int, int], object]


@dataclass(frozen=True, slots=True)
class Cell:
    """What is measured together: documents of ``length`` tokens (cl100k_base), ``concurrency`` requests at a time."""

    length: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.length:,} tokens, {self.concurrency} at a time"


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """How it is measured: ``repeats`` blocks of each side in each cell, after ``warmups``; every request generates ``max_tokens``.

    ``read_timeout`` is in seconds without a byte. All documents follow from ``seed``.
    """

    repeats: int = 5
    warmups: int = 1
    max_tokens: int = 16
    seed: int = 0
    question: str = QUESTION
    read_timeout: float = DEFAULT_READ_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Bench:
    """A benchmark of ``target``: the same documents as text and as pages drawn with ``config``."""

    target: Target
    source: TextSource
    config: RenderConfig
    options: BenchOptions

    def key(self, cell: Cell) -> str:
        """A hash of all that a cell's outcome depends on, except the machine."""
        depends: list[Any] = [version("glyph-pipeline"), cell.length, cell.concurrency, self.source.name, self.source.text]
        depends += [self.options.repeats, self.options.warmups, self.options.max_tokens, self.options.seed, self.options.question]
        depends += [self.config.to_dict(), self.target.model, self.target.where, self.target.version, self.target.flags]
        return hashlib.sha256(json.dumps(depends, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:24]

    async def measure(self, cells: Sequence[Cell], on_block: OnBlock = lambda cell, done, of: None) -> AsyncGenerator[dict[str, Any], None]:
        """The record of each cell as it is done. ``on_block`` is told how many blocks of a cell are done.

        A side that does not fit the model's context has ``unfit``, which says so, in place of requests. Raises ServerUnreachableError,
        ReadError, WrongModelError, FontError; nothing is tried again, since that would not be the time of a request.
        """
        connection = self.target.connection
        frame = await unattended(lambda: connection.behind_pictures(self.options.question))
        options, folder = self.options, self.target.page_folder
        preparer = Preparer(self.target.model, options.question, options.max_tokens, self.config, connection.vision, frame, folder)
        target = self.target
        async with BenchClient(target.base_url, target.api_key, options.read_timeout, target.version is not None) as client:
            for cell in cells:
                run = _CellRun(self, cell, preparer, client, on_block)
                before, here = await unattended(target.cache_hits), machine()
                sides = await run.sides()
                after = await unattended(target.cache_hits)
                yield {
                    "id": self.key(cell),
                    "status": "ok",
                    "length": cell.length,
                    "concurrency": cell.concurrency,
                    "model": target.model,
                    "server": target.told(),
                    "machine": here,
                    "source": self.source.name,
                    "repeats": options.repeats,
                    "max_tokens": options.max_tokens,
                    "seed": options.seed,
                    "cache_hits": None if before is None or after is None else {kind: after[kind] - before[kind] for kind in after},
                    "config": self.config.to_dict(),
                    **sides,
                }


class _CellRun:
    """One cell under way. A block is ``concurrency`` requests of one side that begin together; blocks of the sides take turns, and
    the side that begins changes each time, so that what drifts (a warming processor, other users) hits both alike."""

    def __init__(self, bench: Bench, cell: Cell, preparer: Preparer, client: BenchClient, on_block: OnBlock) -> None:
        self._bench, self._cell, self._preparer, self._client, self._on_block = bench, cell, preparer, client, on_block
        self._sides: dict[str, dict[str, Any]] = {side: {"requests": [], "blocks": []} for side in SIDES}
        self._blocks = 0

    async def sides(self) -> dict[str, dict[str, Any]]:
        """Both sides: requests with the seconds of their stages, and the wall-clock seconds of each block."""
        options = self._bench.options
        for number in range(-options.warmups, options.repeats):
            for side in SIDES if number % 2 else SIDES[::-1]:
                if "unfit" not in self._sides[side]:
                    try:
                        await self._block(side, number)
                    except ContextLengthError as e:
                        self._sides[side] = {"unfit": e.message}
                self._blocks += 1
                self._on_block(self._cell, self._blocks, 2 * (options.repeats + options.warmups))
        return self._sides

    async def _block(self, side: Side, number: int) -> None:
        with ExitStack() as files:
            requests = []
            for place in range(self._cell.concurrency):
                # The two sides get the same documents: what is text to one is a picture to the other, so that no cache helps.
                lot = f"{self._bench.options.seed}/{self._cell.length}/{self._cell.concurrency}/{number}/{place}"
                requests.append(await self._prepared(side, lot, files))
            if number == -self._bench.options.warmups:
                await self._check(requests[0], number)
            began = time.perf_counter()
            replies = await _together([self._client.send(request.body) for request in requests])
            wall = time.perf_counter() - began
        if number >= 0:
            self._sides[side]["blocks"].append(round(wall, 6))
            self._sides[side]["requests"] += [_request(*pair) for pair in zip(requests, replies, strict=True)]

    async def _prepared(self, side: Side, lot: str, files: ExitStack) -> Prepared:
        # In this thread, where nothing else runs: its seconds are those of the work alone.
        await asyncio.sleep(0)
        return self._preparer.prepare(side, self._bench.source.document(lot, self._cell.length), files)

    async def _check(self, request: Prepared, number: int) -> None:
        """Raises ContextLengthError if a request of this side can't fit, which need not be tried then."""
        target, options = self._bench.target, self._bench.options
        tokens = request.facts.get("predicted")
        if request.side == "text":
            lot = f"{options.seed}/{self._cell.length}/{self._cell.concurrency}/{number}/0"
            message = self._preparer.text_message(self._bench.source.document(lot, self._cell.length))
            tokens = await unattended(lambda: target.connection.beside_pictures((), message))
        if tokens is not None and target.max_model_len is not None and tokens + options.max_tokens > target.max_model_len:
            raise ContextLengthError(
                f"does not fit: {tokens:,} tokens of prompt and {options.max_tokens} of answer; the context is {target.max_model_len:,}"
            )


async def _together(sends: Sequence[Any]) -> list[Reply]:
    """What all return; if one fails, or at Ctrl-C, the others are ended, on the server too."""
    tasks = [asyncio.ensure_future(send) for send in sends]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _request(request: Prepared, reply: Reply) -> dict[str, Any]:
    """A request in the record: seconds of all stages, in their order, and counts."""
    seconds = {**request.seconds, "upload": reply.upload, "prefill": reply.prefill, "decode": reply.decode}
    counts = {"prompt_tokens": reply.prompt_tokens, "output_tokens": reply.output_tokens}
    return {"seconds": {stage: round(value, 6) for stage, value in seconds.items()}, **request.facts, **counts}
