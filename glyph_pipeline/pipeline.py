"""GlyphPipeline: draw, plan, read, report. Ties the rooms together; knows no command line and starts no server."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

from glyph_pipeline.addresses import is_loopback
from glyph_pipeline.compression import CompressedText, account
from glyph_pipeline.document import Documents, as_documents
from glyph_pipeline.errors import ConfigError, ReadError, ServerUnreachableError, UsageError
from glyph_pipeline.page import Page
from glyph_pipeline.planning import Window, plan_window
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.reading.reader import AnswerDelta, FinishReason, PageRead, Quote, Reader, ReadResult, ReasoningDelta, Retrying, Usage
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import VLLMReader
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.report import CompressionReport
from glyph_pipeline.serving import GlyphServer, ServedModel
from glyph_pipeline.tokens.text import Cl100kTokenizer, ServerTokenizer, TextTokenizer, encodable
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic

_T = TypeVar("_T")
# One page in /tokenize's prompt, as the chat template writes it; the server counts it as three special tokens.
_PAGE_MARKUP = "<|begin_of_image|><|image|><|end_of_image|>"
_PAGE_MARKUP_TOKENS = 3


@dataclass(frozen=True, slots=True)
class PageDrawn:
    """One more page is drawn."""

    page: Page


@dataclass(frozen=True, slots=True)
class Drawn:
    """All pages are drawn and counted; reading begins."""

    pages: tuple[Page, ...]
    report: CompressionReport


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """What one request gave: its pages (1-based, both ends included), its tokens as predicted and as served, its own answer."""

    first_page: int
    last_page: int
    predicted_prompt_tokens: int | None
    text: str
    reasoning: str
    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question about documents, and the account of it.

    ``finish_reason`` is ``stop``, ``length`` (cut off: see :attr:`truncated`) or ``quote`` (passages, by OCR). ``usage``
    holds the tokens as the server counted them. ``reader`` names what read. ``seconds`` is the time of each stage.
    """

    text: str
    reasoning: str
    finish_reason: FinishReason
    usage: Usage
    windows: tuple[WindowAnswer, ...]
    report: CompressionReport
    reader: str
    quotes: tuple[Quote, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def truncated(self) -> bool:
        """True if the model was cut off; ``text`` is then incomplete, or empty if the cut fell into the reasoning."""
        return self.finish_reason == "length"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        data = asdict(self)
        data["report"] = self.report.to_dict()
        data["seconds"] = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        return data | {"truncated": self.truncated}


PipelineEvent: TypeAlias = PageDrawn | Drawn | PageRead | ReasoningDelta | AnswerDelta | Retrying | Answer


class GlyphPipeline:
    """Answers questions about texts through page images.

    With ``base_url`` a vLLM server reads (``model`` None: the one it serves); with ``reader`` that one does. With neither,
    a server that ``glyph-compress serve`` started on this machine, else OCR quotes passages (extra ``ocr``). No server is
    ever started here: see :class:`~glyph_pipeline.serving.GlyphServer`. ``config`` None: the preset is chosen by the text of
    each question's documents (RenderConfig.for_texts). ``tokenizer`` counts the text tokens; by default
    the server's own, else cl100k_base. A pipeline may be used again and again; close it, or use it in a ``with`` block.

    Raises ConfigError for a bad URL; :meth:`ask` and its kin raise every other error of the tree.
    """

    def __init__(
        self,
        base_url: str | None = None,
        model: str | None = None,
        config: RenderConfig | None = None,
        *,
        reader: Reader | None = None,
        api_key: str | None = None,
        sampling: Sampling | None = None,
        tokenizer: TextTokenizer | None = None,
    ) -> None:
        if base_url is not None and reader is not None:
            raise UsageError("base_url and reader were both given.", hint="Give one: where to read, or what reads.")
        self.config = config
        self._base_url = base_url
        self._model = model
        self._reader = reader
        self._api_key = api_key
        self._sampling = sampling or Sampling()
        self._tokenizer = tokenizer
        self._connection: _Connection | None = None
        self._opening = threading.Lock()  # questions asked side by side share one connection

    def ask(self, source: Documents, question: str) -> Answer:
        """Draw ``source`` (a text, a Document or several) and have ``question`` answered. Blocks; works inside a running loop too."""
        return _run(lambda: self._ask_once(source, question))

    async def aask(self, source: Documents, question: str) -> Answer:
        """:meth:`ask` for async code."""
        async for event in self.astream(source, question):
            if isinstance(event, Answer):
                return event
        raise ReadError("The reader ended without a result.")  # pragma: no cover - readers end with one, see Reader

    def stream(self, source: Documents, question: str) -> Generator[PipelineEvent, None, None]:
        """The events of an answer as they happen; the last is the :class:`Answer`. Closing the iterator ends the request."""
        if _loop_runs():
            raise UsageError("stream() can't block inside a running event loop.", hint="Use: async for event in pipeline.astream(...)")
        loop = asyncio.new_event_loop()
        events = self.astream(source, question)

        async def following() -> PipelineEvent | None:
            return await anext(events, None)

        task: asyncio.Task[PipelineEvent | None] | None = None
        try:
            while True:
                task = loop.create_task(following())
                event = loop.run_until_complete(task)
                if event is None:
                    return
                yield event
        finally:
            # After Ctrl-C the step is still under way: cancelled, it closes its request, which ends it on the server too.
            if task is not None and not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)
            loop.run_until_complete(_closed(events))
            loop.run_until_complete(self._leave_loop())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def astream(self, source: Documents, question: str) -> AsyncIterator[PipelineEvent]:
        """:meth:`stream` for async code."""
        question = encodable(question)
        if not question.strip():
            raise UsageError("The question is empty.", hint="Ask something.")
        started = time.perf_counter()
        documents = as_documents(source)
        connection = await _unattended(self._connect)
        tokenizer = self._tokenizer or connection.tokenizer
        connected = time.perf_counter()
        config = self.config or await asyncio.to_thread(RenderConfig.for_texts, [document.text for document in documents])
        renderer = await asyncio.to_thread(Renderer, config)
        drawing: list[Page] = []
        for document in documents:
            pages = renderer.render(document)
            # Page by page, so that whoever waits can see it and stop it.
            while (page := await asyncio.to_thread(next, pages, None)) is not None:
                drawing.append(page)
                yield PageDrawn(page)
        report = await _unattended(lambda: account(documents, tuple(drawing), renderer, tokenizer, connection.vision))
        compressed = CompressedText(tuple(drawing), report)
        drawn = time.perf_counter()
        yield Drawn(compressed.pages, compressed.report)
        window = await _unattended(lambda: connection.plan(compressed, question, self._sampling.max_tokens))
        result: ReadResult | None = None
        first_token: float | None = None
        reading = connection.reader.read(window.pages, question, max_tokens=window.max_tokens)
        try:
            async for event in reading:
                if isinstance(event, ReadResult):
                    result = event
                    continue
                first_token = first_token or time.perf_counter()
                yield event
        finally:
            await _closed(reading)
        if result is None:
            raise ReadError(f"{connection.reader.name} ended without a result.")
        done = time.perf_counter()
        seconds = {"connect": connected - started, "draw": drawn - connected, "read": done - drawn, "total": done - started}
        if first_token is not None and result.usage.completion_tokens:
            seconds["first token"] = first_token - drawn
        yield _answer(compressed, window, result, connection.reader.name, seconds)

    def counters(self) -> tuple[TextTokenizer, VisionArithmetic]:
        """What counts text tokens and vision tokens where this pipeline reads. Raises ServerError if its server doesn't answer."""
        connection = self._connect()
        return self._tokenizer or connection.tokenizer, connection.vision

    async def aclose(self) -> None:
        """Close connections and engines; the pipeline connects anew if it is used again."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.reader is not self._reader:
            await connection.reader.aclose()

    def close(self) -> None:
        """:meth:`aclose` for sync code."""
        _run(self.aclose)

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
        """Close the connections that belong to the running loop, which is about to end. What was read by OCR is kept."""
        if self._connection is not None and isinstance(self._connection.reader, VLLMReader):
            await self._connection.reader.aclose()

    def _connect(self) -> _Connection:
        with self._opening:
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> _Connection:
        if self._reader is not None:
            return _Connection(self._reader)
        if self._base_url is not None:
            server: GlyphServer | None = GlyphServer.adopt(self._base_url, self._model, api_key=self._api_key)
        else:
            server = GlyphServer.find(self._model, api_key=self._api_key)
        if server is None and self._model is not None:
            raise ServerUnreachableError(
                f"No server on this machine serves {self._model!r}.",
                hint="Start one (glyph-compress serve, GlyphServer.launch), or give base_url.",
            )
        if server is None:
            return _Connection(OCRReader())
        served = server.info.require(server.model)
        reader = VLLMReader(server.base_url, served.id, api_key=self._api_key, sampling=self._sampling)
        return _Connection.to_server(reader, served, self._api_key)


@dataclass(frozen=True, slots=True)
class _Connection:
    """A reader, and what is known of the model behind it."""

    reader: Reader
    tokenizer: TextTokenizer = field(default_factory=Cl100kTokenizer)
    vision: VisionArithmetic = GLM_4V
    max_model_len: int | None = None

    @classmethod
    def to_server(cls, reader: VLLMReader, served: ServedModel, api_key: str | None) -> _Connection:
        root = reader.base_url.rstrip("/").removesuffix("/v1")
        tokenizer: TextTokenizer = ServerTokenizer(root, served.id, api_key)
        try:
            tokenizer.count("a")
        except (ReadError, ServerUnreachableError):
            # No vLLM, or one behind a gateway that lets /v1 through and nothing else: the offline stand-in counts.
            tokenizer = Cl100kTokenizer()
        # A server on this machine that was started from a folder: its image processor's bounds are there to read.
        local = is_loopback(urlsplit(reader.base_url).hostname or "")
        vision = GLM_4V
        if local and served.root and Path(served.root).is_absolute():
            with contextlib.suppress(ConfigError):  # it serves, so what it reads is sound; the folder may have changed since
                vision = VisionArithmetic.from_model(served.root)
        return cls(reader, tokenizer, vision, served.max_model_len)

    def plan(self, compressed: CompressedText, question: str, max_tokens: int) -> Window:
        frame = None
        if isinstance(self.tokenizer, ServerTokenizer):
            # Counted behind a page, as it will stand: a question that begins with a line feed merges with nothing then.
            frame = self.tokenizer.count_chat(_PAGE_MARKUP + question) - _PAGE_MARKUP_TOKENS
        return plan_window(compressed.pages, self.vision, frame_tokens=frame, max_model_len=self.max_model_len, max_tokens=max_tokens)


def _answer(compressed: CompressedText, window: Window, result: ReadResult, reader: str, seconds: dict[str, float]) -> Answer:
    one = WindowAnswer(1, len(window.pages), window.prompt_tokens, result.text, result.reasoning, result.finish_reason, result.usage)
    return Answer(
        result.text, result.reasoning, result.finish_reason, result.usage, (one,), compressed.report, reader, result.quotes, seconds
    )


async def _closed(iterator: AsyncIterator[Any]) -> None:
    close = getattr(iterator, "aclose", None)
    if close is not None:
        await close()


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_daemon(work: Callable[[], _T]) -> concurrent.futures.Future[_T]:
    """``work`` in a thread that nobody waits for when Python exits, unlike an executor's."""
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


async def _unattended(work: Callable[[], _T]) -> _T:
    """Blocking work whose end need not come: a server that never answers must not hold up Ctrl-C."""
    return await asyncio.wrap_future(_in_daemon(work))


def _run(start: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run a coroutine to its end from sync code; in a notebook, where this thread's loop is busy, on another thread."""
    if not _loop_runs():
        return asyncio.run(start())
    return _in_daemon(lambda: asyncio.run(start())).result()
