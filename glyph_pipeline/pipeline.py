"""GlyphPipeline: draw, plan, read, report. Ties the rooms together; knows no command line and starts no server."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

from glyph_pipeline.accounting import answer_of
from glyph_pipeline.answer import Answer, Drawn, PageDrawn, PipelineEvent, WindowDone
from glyph_pipeline.asking import Asked, ask_pages
from glyph_pipeline.background import cores, ended, in_daemon, loop_runs, run, run_step, unattended
from glyph_pipeline.batch.engine import Batch, run_batch
from glyph_pipeline.batch.items import BadItem, BatchItem
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.worker import DrawnItem, DrawTask, accounted, config_for
from glyph_pipeline.compression import CompressedText, account
from glyph_pipeline.connection import Connection
from glyph_pipeline.document import Document, Documents, as_documents
from glyph_pipeline.errors import ReadError, UsageError
from glyph_pipeline.material import Source, gather
from glyph_pipeline.opening import Place
from glyph_pipeline.page import Page
from glyph_pipeline.pagestore import PageStore, StoredRenderer
from glyph_pipeline.planning import MAX_REQUEST_BYTES
from glyph_pipeline.prompts import title_of
from glyph_pipeline.reading.reader import AnswerDelta, Reader, ReasoningDelta, Retrying
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import DEFAULT_READ_TIMEOUT_S, VLLMReader
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.requests import AskLimits, fits
from glyph_pipeline.sending import DEFAULT_EXACT_BUDGET, DEFAULT_RESOLUTION_BUDGET, PIECE_TOKENS, Exact, Mode, Resolution, SendPolicy
from glyph_pipeline.serving import GlyphServer
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer, encodable
from glyph_pipeline.tokens.vision import VisionArithmetic

_E = TypeVar("_E")
# An item of ask_many: one with an id, or documents and a question.
Askable: TypeAlias = "BatchItem | BadItem | tuple[Documents, str]"

__all__ = ["Answer", "Drawn", "GlyphPipeline", "PageDrawn", "PipelineEvent"]


class GlyphPipeline:
    """Answers questions about texts through page images.

    With ``base_url`` a vLLM server reads (``model`` None: the one it serves), with several URLs whichever of these servers is
    least busy; with ``server`` one that was launched here, which is started again if it dies
    and gets pages as files if it has a page folder; with ``reader`` that one reads.
    With none of them, a server that ``glyph-compress serve`` started on this machine, else OCR quotes passages (extra ``ocr``).
    No server is ever started here: see :class:`~glyph_pipeline.serving.GlyphServer`.

    ``config`` None: the preset is chosen by the text of each question's documents (RenderConfig.for_texts); a mapping: changes
    to that preset, such as ``{"dpi": 96}``. ``tokenizer``
    counts the text tokens; by default the server's own, else cl100k_base. What is longer than the model's context is read in
    several windows, ``concurrency`` requests at a time, and their answers are merged: windows repeat ``overlap`` pages where a
    document is cut, and a request's body stays under ``max_request_bytes``. ``cite`` asks the model to name pages (None: where
    there are several documents or windows). ``retry`` and ``read_timeout`` (seconds without a byte) are those of VLLMReader.

    A document is never made dearer: a page goes as text where that costs less (``mode`` ``auto``; ``pages``: pictures only, ``text``: text
    only). ``exact``, ``redact``, ``resolution``, their budgets and ``repair`` are those of :class:`~glyph_pipeline.sending.SendPolicy`.
    ``cache`` is a folder, or a PageStore, where pages are kept for the next time.

    A pipeline may be used again and again; close it, or use it in a ``with`` block. Raises ConfigError for a bad URL;
    :meth:`ask` and its kin raise every other error of the tree.
    """

    def __init__(
        self,
        base_url: str | Sequence[str] | None = None,
        model: str | None = None,
        config: RenderConfig | Mapping[str, Any] | None = None,
        *,
        server: GlyphServer | None = None,
        reader: Reader | None = None,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        tokenizer: TextTokenizer | None = None,
        concurrency: int = 8,
        overlap: int = 0,
        max_request_bytes: int = MAX_REQUEST_BYTES,
        cite: bool | None = None,
        retry: RetryPolicy | None = None,
        read_timeout: float = DEFAULT_READ_TIMEOUT_S,
        mode: Mode = "auto",
        exact: Exact = "auto",
        redact: bool = False,
        exact_budget: float = DEFAULT_EXACT_BUDGET,
        resolution: Resolution = "uniform",
        resolution_budget: float = DEFAULT_RESOLUTION_BUDGET,
        repair: bool = False,
        cache: PageStore | str | Path | None = None,
    ) -> None:
        given = {"base_url": base_url, "server": server, "reader": reader}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(named)} were both given.", hint="Give one: where to read, or what reads.")
        for name, number, least in (("concurrency", concurrency, 1), ("overlap", overlap, 0), ("max_request_bytes", max_request_bytes, 1)):
            if number < least:
                raise UsageError(f"{name} is {number}.", hint=f"Give {least} or more.")
        self.config = config
        urls = None if base_url is None else (base_url,) if isinstance(base_url, str) else tuple(base_url)
        sampling = sampling or Sampling()
        self._reader = reader
        self._tokenizer = tokenizer
        self._limits = AskLimits(sampling.max_tokens, concurrency, overlap, max_request_bytes, cite)
        self._policy = SendPolicy(mode, exact, redact, exact_budget, resolution, resolution_budget=resolution_budget, repair=repair)
        self._store = PageStore(cache) if isinstance(cache, (str, Path)) else cache
        self._place = Place(urls, model, server, reader, api_key, sampling, retry or RetryPolicy(), read_timeout, self._store)
        self._connection: Connection | None = None
        self._opening = threading.Lock()  # questions asked side by side share one connection
        # One gate a loop bounds the requests of all questions under way in it.
        self._gates: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def ask(self, source: Documents, question: str) -> Answer:
        """Draw ``source`` (a text, a Document or several) and have ``question`` answered. Blocks; works inside a running loop too."""
        return run(lambda: self._ask_once(source, question))

    async def aask(self, source: Documents, question: str) -> Answer:
        """:meth:`ask` for async code."""
        async with aclosing(self.astream(source, question)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event
        raise ReadError("The reader ended without a result.")  # pragma: no cover - readers end with one, see Reader

    def stream(self, source: Documents, question: str) -> Generator[PipelineEvent, None, None]:
        """The events of an answer as they happen; the last is the :class:`Answer`. Closing the iterator ends the requests."""
        return self._driven(lambda: self.astream(source, question), "stream")

    def ask_many(
        self, items: Iterable[Askable], *, workers: int | None = None, on_retry: Callable[[str, Retrying], object] | None = None
    ) -> Generator[BatchResult, None, None]:
        """Have many questions answered side by side: the result of each as it finishes, its error instead of an answer if it failed.

        ``items`` are BatchItems (see :mod:`glyph_pipeline.batch`), or pairs of documents and a question, whose ids are then "1", "2"
        and so on; they are taken as they are needed. Drawing runs in up to ``workers`` processes (None: one a core, but no more
        than ``concurrency``; 0: in this one). ``on_retry(id, event)`` is told of requests that failed and are sent again.
        Raises what would fail all items: ServerError, MissingExtraError, ReadError for a key that is refused.
        """
        return self._driven(lambda: self.aask_many(items, workers=workers, on_retry=on_retry), "ask_many")

    async def aask_many(
        self, items: Iterable[Askable], *, workers: int | None = None, on_retry: Callable[[str, Retrying], object] | None = None
    ) -> AsyncGenerator[BatchResult, None]:
        """:meth:`ask_many` for async code."""
        if workers is not None and workers < 0:
            raise UsageError(f"workers is {workers}.", hint="Give 0 or more.")
        connection = await unattended(self._connect)
        place = None if self._store is None else self._store.place
        number = min(cores(), self._limits.concurrency) if workers is None else workers
        batch = Batch(
            lambda item: DrawTask.of(item, self.config or {}, connection.vision, not self._counts_here(connection), place),
            partial(self.aask_drawn, on_retry=on_retry),
            self._limits.concurrency,
            number,
        )
        async with aclosing(run_batch(_numbered(items), batch)) as results:
            async for result in results:
                yield result

    async def aask_drawn(self, item: BatchItem, drawn: DrawnItem, *, on_retry: Callable[[str, Retrying], object] | None = None) -> Answer:
        """Have the question of an item answered whose pages are drawn, in another process or on another machine. Its tokens are counted
        where it is read, unless cl100k_base counts and they are counted already. Raises what :meth:`ask` does."""
        connection = await unattended(self._connect)
        tokenizer = self._tokenizer or connection.tokenizer
        counts = self._counts_here(connection) or drawn.compressed.report.tokenizer != tokenizer.name
        compressed = await unattended(lambda: accounted(drawn, tokenizer if counts else None, connection.vision))
        reading = self._read(connection, compressed, drawn.sources, drawn.config, _checked(item.question), {"draw": drawn.seconds})
        async with aclosing(reading) as events:
            async for event in events:
                if isinstance(event, Answer):
                    return event if self._store is None else replace(event, drawn_before=drawn.drawn_before)
                if isinstance(event, Retrying) and on_retry is not None:
                    on_retry(item.id, event)
        raise ReadError("The reader ended without a result.")  # pragma: no cover - _read ends with one

    def _counts_here(self, connection: Connection) -> bool:
        """Whether only this process has what counts: the server's tokenizer, or the user's own."""
        return not isinstance(self._tokenizer or connection.tokenizer, Cl100kTokenizer)

    def _driven(self, start: Callable[[], AsyncGenerator[_E, None]], name: str) -> Generator[_E, None, None]:
        """An async generator driven by a loop of its own, step by step."""
        if loop_runs():
            raise UsageError(f"{name}() can't block inside a running event loop.", hint=f"Use: async for event in pipeline.a{name}(...)")
        loop = asyncio.new_event_loop()
        events = start()

        async def following() -> _E | None:
            return await anext(events, None)

        task: asyncio.Task[_E | None] | None = None
        try:
            while True:
                task = loop.create_task(following())
                event = run_step(loop, task)
                if event is None:
                    return
                yield event
        finally:
            # Where another loop runs by now (a notebook's next cell), this one can end only in another thread.
            if loop_runs():
                in_daemon(lambda: self._leave(loop, task, events)).result()
            else:
                self._leave(loop, task, events)

    def _leave(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any] | None, events: AsyncGenerator[Any, None]) -> None:
        # After Ctrl-C the step may still be under way: cancelled, it closes its requests, which ends them on the server too.
        if task is None or loop.run_until_complete(ended(task)):
            loop.run_until_complete(events.aclose())
        loop.run_until_complete(self._leave_loop())
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    async def astream(self, source: Documents, question: str) -> AsyncGenerator[PipelineEvent, None]:
        """:meth:`stream` for async code."""
        question = _checked(question)
        started = time.perf_counter()
        documents = as_documents(source)
        connection = await unattended(self._connect)
        connected = time.perf_counter()
        config = await asyncio.to_thread(lambda: config_for(documents, self.config or {}))
        renderer = await asyncio.to_thread(lambda: self._renderer(config))
        sources = [Source(document, title_of(document, documents)) for document in documents]
        pages: list[Page] = []
        for each in sources:
            drawing = renderer.render(each.document, each.title)
            # Page by page, so that whoever waits can see it and stop it.
            while (page := await asyncio.to_thread(next, drawing, None)) is not None:
                pages.append(page)
                yield PageDrawn(page)
        tokenizer = self._tokenizer or connection.tokenizer
        report = await unattended(lambda: account(documents, tuple(pages), renderer, tokenizer, connection.vision))
        compressed = CompressedText(tuple(pages), report)
        yield Drawn(compressed.pages, report)
        before = {"connect": connected - started, "draw": time.perf_counter() - connected}
        async with aclosing(self._read(connection, compressed, sources, config, question, before)) as events:
            async for event in events:
                if isinstance(event, Answer) and isinstance(renderer, StoredRenderer):
                    event = replace(event, drawn_before=renderer.hits)
                yield event

    def _renderer(self, config: RenderConfig) -> Renderer | StoredRenderer:
        return Renderer(config) if self._store is None else self._store.renderer(config)

    async def _read(
        self,
        connection: Connection,
        compressed: CompressedText,
        sources: Sequence[Source],
        config: RenderConfig,
        question: str,
        before: Mapping[str, float],
    ) -> AsyncGenerator[PipelineEvent, None]:
        """Have drawn pages read; the last event is the Answer. ``before`` are the seconds of the stages so far."""
        began = time.perf_counter()
        tokenizer = self._tokenizer or connection.tokenizer
        marked = partial(self._marks_pages, connection, question, several=len(sources) > 1)
        length = connection.max_model_len
        material = await unattended(
            lambda: gather(
                compressed,
                sources,
                config,
                question,
                self._policy,
                connection.vision,
                tokenizer,
                marked=marked,
                must_mark=bool(self._limits.cite),
                # A context of 2,048 tokens still holds several.
                piece_tokens=PIECE_TOKENS if length is None else min(PIECE_TOKENS, max(1, length // 8)),
                draw=self._renderer,
            )
        )
        drawn = time.perf_counter()
        before = {**before, "choose": drawn - began}
        first_token: float | None = None
        merging: float | None = None
        gate = self._gates.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._limits.concurrency))
        async with aclosing(ask_pages(connection, material, question, self._limits, gate)) as events:
            async for event in events:
                if isinstance(event, WindowDone) and event.windows > 1:
                    merging = time.perf_counter()
                if isinstance(event, Asked):
                    self._learn(connection, event.connection)
                    now = time.perf_counter()
                    seconds = {**before, "read": (merging or now) - drawn}
                    if event.merges and merging is not None:
                        seconds["merge"] = now - merging
                    seconds["total"] = sum(seconds.values())
                    answer = await unattended(partial(answer_of, event, material, compressed.report, connection.reader.name, seconds))
                    if first_token is not None and any(window.usage.completion_tokens for window in event.windows):
                        answer.seconds["first token"] = first_token - drawn
                    yield answer
                    return
                if isinstance(event, (ReasoningDelta, AnswerDelta)):
                    first_token = first_token or time.perf_counter()
                yield event
        raise ReadError("The reader ended without a result.")  # pragma: no cover - ask_pages ends with one

    def _marks_pages(self, connection: Connection, question: str, tokens: int, *, several: bool) -> bool:
        """Whether a page's text begins with its number: where the model is asked to name pages, as it is where what takes so many
        ``tokens`` goes into several windows."""
        if not connection.instructs:
            return False
        if self._limits.cite is not None or several:
            return self._limits.cite is not False
        return not fits(connection, question, tokens, self._limits.max_tokens)

    def _learn(self, connection: Connection, true: Connection) -> None:
        """Remember the context that a server was found to have, for the questions to come."""
        if self._connection is connection:
            self._connection = true

    def counters(self) -> tuple[TextTokenizer, VisionArithmetic]:
        """What counts text tokens and vision tokens where this pipeline reads. Raises ServerError if its server doesn't answer."""
        connection = self._connect()
        return self._tokenizer or connection.tokenizer, connection.vision

    @property
    def repairs(self) -> bool:
        """Whether the answer may read otherwise than it streamed: what was probably misread is put right when all is there."""
        return self._policy.repair

    def reader_name(self) -> str:
        """Who reads: the served model, or what else was given or found. Raises ServerError if its server doesn't answer."""
        return self._connect().reader.name

    async def aclose(self) -> None:
        """Close connections and engines; the pipeline connects anew if it is used again."""
        connection, self._connection = self._connection, None
        self._gates.pop(asyncio.get_running_loop(), None)
        if connection is not None and connection.reader is not self._reader:
            await connection.reader.aclose()

    def close(self) -> None:
        """:meth:`aclose` for sync code."""
        run(self.aclose)

    def __enter__(self) -> GlyphPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> GlyphPipeline:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _ask_once(self, source: Documents, question: str) -> Answer:
        try:
            return await self.aask(source, question)
        finally:
            await self._leave_loop()

    async def _leave_loop(self) -> None:
        """Close what belongs to the running loop, which is about to end. What was read by OCR is kept."""
        self._gates.pop(asyncio.get_running_loop(), None)  # one that was waited for would keep its loop alive
        if self._connection is not None and isinstance(self._connection.reader, VLLMReader):
            await self._connection.reader.aclose()

    def _connect(self) -> Connection:
        with self._opening:
            if self._connection is None:
                self._connection = self._place.open()
            return self._connection


def _checked(question: str) -> str:
    """The question as it can be sent."""
    if not question.strip():
        raise UsageError("The question is empty.", hint="Ask something.")
    return encodable(question)


def _numbered(items: Iterable[Askable]) -> Iterator[BatchItem | BadItem]:
    for number, item in enumerate(items, 1):
        if isinstance(item, (BatchItem, BadItem)):
            yield item
        else:
            source, question = item
            documents = (Document(source),) if isinstance(source, str) else (source,) if isinstance(source, Document) else tuple(source)
            yield BatchItem(str(number), question, documents)
