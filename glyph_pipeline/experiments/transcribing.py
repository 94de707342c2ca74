"""Transcribing: a page's lines as OCR or the served model reads them, and how many characters are wrong. Draws nothing."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, cast

from rapidfuzz.distance import Levenshtein

from glyph_pipeline.errors import MissingExtraError, ReadError, ServerUnreachableError, UsageError
from glyph_pipeline.experiments.certificate import ReaderIdentity
from glyph_pipeline.experiments.intervals import Count
from glyph_pipeline.experiments.legibility import as_seen
from glyph_pipeline.experiments.planting import Specimen
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.reading.reader import Reader, ReadResult, Retrying
from glyph_pipeline.reading.retry import RetryPolicy
from glyph_pipeline.reading.sampling import Sampling
from glyph_pipeline.reading.vllm import DEFAULT_READ_TIMEOUT_S, VLLMReader
from glyph_pipeline.serving import GlyphServer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic

PROMPT = (
    "Transcribe this page exactly as it is printed, character by character, one line of the page to a line, from top to bottom. "
    "Correct, complete, translate and explain nothing. Answer with the text of the page only."
)
# Reasoning, where there is some. Of the text itself no tokenizer makes more tokens than it has characters, but for rare scripts.
_TOKENS_BESIDE = 1024
_FRAME_TOKENS = 96  # of template and prompt


@dataclass(frozen=True, slots=True)
class Transcript:
    """The lines that were read, top to bottom. ``whole``: they are the page's, not only those that count."""

    lines: tuple[str, ...]
    whole: bool


class Transcriber(Protocol):
    """Reads pages back. ``concurrency`` is how many it may be given at a time."""

    concurrency: int

    @property
    def identity(self) -> ReaderIdentity:
        """What reads, for the certificate."""
        ...

    async def transcribe(self, specimen: Specimen) -> Transcript:
        """What is read of a picture. Raises what reading raises."""
        ...

    async def aclose(self) -> None:
        """Release what the running event loop holds."""
        ...


class OCRTranscriber:
    """Reads by OCR, through the eyes of a family of models: a page is resampled as their image processor would. Needs the extra ``ocr``."""

    concurrency = 1  # which reads a page's lines side by side

    def __init__(self, vision: VisionArithmetic = GLM_4V) -> None:
        self._vision = vision
        self._reader = OCRReader()

    @property
    def identity(self) -> ReaderIdentity:
        """RapidOCR, its version and the runtime's, and the file of its recogniser."""
        try:
            found: Any = importlib.import_module("rapidocr")
            versions = f"{version('rapidocr')}, onnxruntime {version('onnxruntime')}"
        except (ImportError, PackageNotFoundError) as error:
            raise MissingExtraError("Certifying pages by OCR", "ocr", package="rapidocr") from error
        models = sorted(Path(str(found.__file__)).with_name("models").glob("*_rec_*.onnx"))
        return ReaderIdentity(kind="ocr", name="RapidOCR", version=versions, model=models[-1].name if models else None)

    async def transcribe(self, specimen: Specimen) -> Transcript:
        """The lines that count, or all if not as many lines are found as were drawn: which is which nobody knows then."""
        whole = False

        def choose(found: int) -> Collection[int]:
            nonlocal whole
            whole = found != len(specimen.lines)
            return range(found) if whole else specimen.places

        page = await asyncio.to_thread(as_seen, specimen.page, self._vision)
        lines = await asyncio.to_thread(self._reader.transcribe, page, choose)
        return Transcript(lines, whole)

    async def aclose(self) -> None:
        """Nothing is bound to a loop."""


class ModelTranscriber:
    """Has a language model transcribe, one request a picture, with its reader's own sampling.

    ``max_tokens`` bounds an answer, and so do the page's length and ``max_model_len``, the model's context in tokens. An answer that is cut
    off counts as far as it goes. ``on_retry`` is told why a request is sent again.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        kind: str = "vllm",
        name: str = "OpenAI-compatible server",
        version: str | None = None,
        max_tokens: int = 8192,
        max_model_len: int | None = None,
        vision: VisionArithmetic = GLM_4V,
        concurrency: int = 8,
        on_retry: Callable[[str], object] = lambda reason: None,
    ) -> None:
        self.concurrency = concurrency
        self._reader = reader
        self._identity = ReaderIdentity(kind=kind, name=name, version=version, model=reader.name)
        self._max_tokens, self._max_model_len, self._vision = max_tokens, max_model_len, vision
        self._on_retry = on_retry

    @classmethod
    def of_server(
        cls,
        server: GlyphServer,
        *,
        base_urls: Sequence[str] = (),
        api_key: str | None = None,
        max_tokens: int = 8192,
        retry: RetryPolicy | None = None,
        read_timeout: float = DEFAULT_READ_TIMEOUT_S,
        **options: Any,
    ) -> ModelTranscriber:
        """The model of a server that runs; ``base_urls`` are all that serve it alike, if there are several."""
        served = server.info.require(server.model)
        reader = VLLMReader(
            list(base_urls) or [server.base_url],
            served.id,
            api_key=api_key or server.api_key,
            sampling=Sampling(max_tokens=max_tokens),
            read_timeout=read_timeout,
            retry=retry,
            revive=server.revive if server.owned else None,
            page_folder=server.page_folder,
        )
        name = "vLLM" if server.info.version else "OpenAI-compatible server"
        return cls(reader, name=name, version=server.info.version, max_tokens=max_tokens, max_model_len=served.max_model_len, **options)

    @classmethod
    def of_urls(cls, urls: Sequence[str], model: str | None = None, *, api_key: str | None = None, **options: Any) -> ModelTranscriber:
        """The model that servers at these URLs serve alike.

        Raises ConfigError, UsageError, WrongModelError, and ServerUnreachableError if none answers.
        """
        problem: ServerUnreachableError | None = None
        for url in urls:
            try:
                server = GlyphServer.adopt(url, model, api_key=api_key)
            except ServerUnreachableError as e:
                problem = problem or e
            else:
                every = [server.base_url, *(other for other in urls if other != url)]
                return cls.of_server(server, base_urls=every, api_key=api_key, **options)
        raise problem or UsageError("No server was named.", hint="Name one, such as http://127.0.0.1:8000/v1")

    @property
    def identity(self) -> ReaderIdentity:
        """The server's kind and version, and the model."""
        return self._identity

    async def transcribe(self, specimen: Specimen) -> Transcript:
        """All lines of the page, as the model wrote them."""
        limit = min(self._max_tokens, _TOKENS_BESIDE + sum(len(line) + 1 for line in specimen.lines))
        if self._max_model_len is not None:
            prompt = self._vision.tokens(specimen.page.width, specimen.page.height) + self._vision.markers + _FRAME_TOKENS
            limit = max(1, min(limit, self._max_model_len - prompt))
        # Every reader's read() is an async generator, which the protocol need not say.
        events = cast("Any", self._reader.read([specimen.page], PROMPT, max_tokens=limit))
        async with aclosing(events):
            async for event in events:
                if isinstance(event, ReadResult):
                    return Transcript(tuple(event.text.splitlines()), whole=True)
                if isinstance(event, Retrying):
                    self._on_retry(event.reason)
        raise ReadError("The reader ended without a result.")

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        await self._reader.aclose()


def errors_in(specimen: Specimen, transcript: Transcript) -> Count:
    """Wrong characters in the lines that count: insertions, deletions and replacements (Levenshtein), white space folded.

    Of a whole page the cheapest alignment of all that was drawn to all that was read tells which errors fall into these lines; what was
    read more in them or at their ends is theirs too.
    """
    expected, read = _folded(specimen.chosen), _folded(transcript.lines)
    if not transcript.whole or len(specimen.places) == len(specimen.lines):
        return Count(Levenshtein.distance(expected, read), len(expected))
    chosen, spans, at = set(specimen.places), [], 0
    for place, line in enumerate(map(_folded, ([line] for line in specimen.lines))):
        if place in chosen:
            spans.append((at, at + len(line)))
        at += len(line) + 1
    counted = bytearray(at + 1)
    for start, end in spans:
        counted[start : end + 1] = b"\1" * (end + 1 - start)  # and the space behind it
    operations = Levenshtein.editops(_folded(specimen.lines), read)
    return Count(sum(counted[operation.src_pos] for operation in operations), len(expected))


def _folded(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())
