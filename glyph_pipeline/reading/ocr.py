"""OCRReader: reads pages with RapidOCR and quotes the passages that match. Knows no language model and no way a page was drawn."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from glyph_pipeline.background import cores
from glyph_pipeline.errors import MissingExtraError, ReadError
from glyph_pipeline.exactness import nearness
from glyph_pipeline.page import Page
from glyph_pipeline.parts import ExactList, PagePart, PageText, Part
from glyph_pipeline.reading import linecut, passages
from glyph_pipeline.reading.reader import AnswerDelta, PageRead, Quote, ReadEvent, ReadResult, Usage

NOTICE = (
    "Read by OCR, which quotes passages and does not reason; for the Glyph model install glyph-pipeline[vllm] "
    "on a machine with a GPU, or give --base-url URL."
)

_BLANK_END = re.compile(r"\n[ \t]*\n\s*\Z")

PURPOSE = "Reading pages by OCR"

LineChoice: TypeAlias = Callable[[int], Collection[int]]
"""Of a page with so many lines, the places (from 0) of those to read."""

STRIP_HEIGHT = 48
"""Pixels: the height of a line picture that the recogniser was trained on."""


class OCRReader:
    """A :class:`~glyph_pipeline.reading.reader.Reader` without a language model: it quotes, best match first.

    Needs the extra ``ocr``. Nothing is downloaded: the recogniser's model comes in RapidOCR's wheel. Pages are read one
    after the other in a worker thread, and what was read is kept for as long as the reader lives, by the hash of the
    page image, so further questions about the same pages cost no more recognition. One reader may serve several reads
    at a time and several event loops.
    """

    def __init__(self, *, quotes: int = 3) -> None:
        self._quotes = quotes
        self._engine: Any = None
        self._read_pages: dict[bytes, tuple[tuple[str, bool], ...]] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What reads."""
        return "OCR quotes (RapidOCR)"

    async def read(self, parts: Sequence[Part], question: str, *, max_tokens: int | None = None) -> AsyncIterator[ReadEvent]:
        """A PageRead after each picture, the answer, then the ReadResult with finish_reason ``quote``.

        Each quote is a paragraph ``[page 2] “...”``, with the document's id before the page where there are several
        documents; that page counts within its document, while ``Quote.page`` counts over all pages given, pictures and
        texts; texts of one page that follow each other are one. A passage that runs over two pages bears the number of
        the first. Texts are taken as they are. Where exact strings are given for a page, they are put in for what was
        read in their place. Cancelling stops the recognition within a line. Nothing is generated, so ``max_tokens``
        bounds nothing.

        Raises MissingExtraError; ReadError if a page is no image or the OCR engine fails.
        """
        spellings = {(each.document, each.number): each.strings for part in parts if isinstance(part, ExactList) for each in part.pages}
        total = sum(isinstance(part, Page) for part in parts)
        pages: list[PagePart] = []
        lines: list[passages.TextLine] = []
        done, blank = 0, False
        for part in parts:
            if isinstance(part, ExactList):
                continue
            if isinstance(part, PageText):
                if not (pages and isinstance(pages[-1], PageText) and _key(pages[-1]) == _key(part)):
                    pages.append(part)
                lines += _lines_of_text(part, len(pages), blank)
                blank = _BLANK_END.search(part.text) is not None
                continue
            blank = False
            pages.append(part)
            read = await self._in_thread(part)
            known = spellings.get(_key(part))
            texts = [text for text, _ in read]
            if known:
                texts = await asyncio.to_thread(nearness.corrected, texts, known)
            lines += [passages.TextLine(len(pages), part.document, text, off) for text, (_, off) in zip(texts, read, strict=True) if text]
            done += 1
            yield PageRead(done, total)
        hits = await asyncio.to_thread(_matching, lines, question, self._quotes)
        quotes = tuple(Quote(hit.passage.page, hit.passage.document, hit.passage.text, hit.score) for hit in hits)
        paragraphs = _paragraphs(pages, quotes)
        for number, paragraph in enumerate(paragraphs):
            yield AnswerDelta(f"\n\n{paragraph}" if number else paragraph)
        yield ReadResult("\n\n".join(paragraphs), "", "quote", Usage(), quotes)

    def transcribe(self, page: Page, choose: LineChoice | None = None) -> tuple[str, ...]:
        """The lines of one page as read from its image, top to bottom, column by column, none for a blank page. Blocks; see :meth:`read` for errors.

        ``choose`` is told how many lines the page has and returns the places (from 0) of those to read; the others cost nothing.
        """
        if choose is None:
            return tuple(text for text, _ in self._transcribed(page, threading.Event()))
        with self._lock:
            return tuple(text for text, _ in self._recognised(page, threading.Event(), choose))

    async def aclose(self) -> None:
        """Release the engine and forget what was read."""
        self._engine = None
        self._read_pages.clear()

    async def _in_thread(self, page: Page) -> tuple[tuple[str, bool], ...]:
        stop = threading.Event()
        try:
            return await asyncio.to_thread(self._transcribed, page, stop)
        finally:
            stop.set()

    def _transcribed(self, page: Page, stop: threading.Event) -> tuple[tuple[str, bool], ...]:
        """Text and "set off above" of each line; cut short, and not kept, once ``stop`` is set."""
        key = hashlib.sha256(page.png + repr(page.columns).encode()).digest()
        with self._lock:
            if key not in self._read_pages:
                lines = self._recognised(page, stop, _every)
                if stop.is_set():
                    return lines
                self._read_pages[key] = lines
            return self._read_pages[key]

    def _recognised(self, page: Page, stop: threading.Event, choose: LineChoice) -> tuple[tuple[str, bool], ...]:
        """Under the lock: the engine is loaded once."""
        try:
            image = page.to_image()
        except OSError as error:
            raise ReadError(f"Page {page.number} is not an image that can be read: {error}.") from error
        if self._engine is None:
            self._engine = _engine()
        columns = [image.crop((left, 0, right, image.height)) for left, right in page.columns] or [image]
        return _read_lines(self._engine, [linecut.ink_of(column) for column in columns], stop, choose)


def _engine() -> Any:
    """RapidOCR's recogniser alone, on the model that comes in its wheel; it opens no connection and writes to no stream."""
    try:
        importlib.import_module("onnxruntime")
    except ImportError as error:
        raise MissingExtraError(PURPOSE, "ocr", package="onnxruntime") from error
    try:
        rapidocr = importlib.import_module("rapidocr")
    except ImportError as error:
        raise MissingExtraError(PURPOSE, "ocr", package="rapidocr") from error
    models = sorted(Path(str(rapidocr.__file__)).with_name("models").glob("*_rec_*.onnx"))
    if not models:
        raise ReadError("The installed rapidocr brings no recognition model.", hint="Install a newer one: pip install -U 'rapidocr>=3.10'")
    params = {
        "Global.log_level": "critical",
        "Global.use_det": False,
        "Global.use_cls": False,
        # A strip must reach the recogniser as it is: by default it would be scaled to sides between 30 and 2000.
        "Global.use_preprocess_img": False,
        # Naming the file keeps RapidOCR from looking for it, and from downloading another.
        "Rec.model_path": str(models[-1]),
        # Lines are read side by side, one thread each: a third less processor time than several threads to a line.
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    }
    engine = rapidocr.RapidOCR(params=params)
    logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)
    return engine


def _every(lines: int) -> Collection[int]:
    return range(lines)


def _read_lines(engine: Any, columns: Sequence[linecut.Ink], stop: threading.Event, choose: LineChoice) -> tuple[tuple[str, bool], ...]:
    """Text and "set off above" of each chosen line, column by column; those that were not begun when ``stop`` was set are missing."""
    found = [(ink, linecut.find_lines(ink)) for ink in columns]
    lines = [(ink, box, set_off) for ink, boxes in found for box, set_off in zip(boxes, linecut.set_off(boxes), strict=True)]
    if not lines:
        return ()
    height = linecut.usual_height([box for _, box, _ in lines])

    def read(line: tuple[linecut.Ink, linecut.LineBox, bool]) -> str:
        ink, box, _ = line
        words: list[str] = []
        for strip in linecut.strips(ink, box, height):
            if stop.is_set():
                return ""
            try:
                result = engine(linecut.line_picture(ink, strip, height, STRIP_HEIGHT), use_det=False, use_cls=False, use_rec=True)
            except Exception as error:
                raise ReadError(f"The OCR engine failed: {error}") from error
            words += [text.strip() for text in result.txts or () if text.strip()]
        return " ".join(words)

    chosen = [lines[place] for place in sorted(choose(len(lines)))]
    with ThreadPoolExecutor(cores(), thread_name_prefix="glyph-ocr") as pool:
        texts = list(pool.map(read, chosen))
    return tuple((text, set_off) for text, (_, _, set_off) in zip(texts, chosen, strict=True) if text)


def _matching(lines: Sequence[passages.TextLine], question: str, best: int) -> list[passages.Hit]:
    return passages.rank(passages.passages(passages.sentences(lines)), question, best)


def _key(part: PagePart) -> tuple[str | None, int]:
    return part.document, part.number


def _lines_of_text(part: PageText, page: int, set_off: bool) -> list[passages.TextLine]:
    """The lines of a text that was sent in a page's place; an empty line sets the next one off. The heading stands by itself.

    ``set_off``: an empty line ended the text before.
    """
    lines: list[passages.TextLine] = []
    if part.heading.strip():
        lines.append(passages.TextLine(page, part.document, part.heading.strip(), True))
        set_off = True
    for line in part.text.splitlines():
        if line.strip():
            lines.append(passages.TextLine(page, part.document, line.strip(), set_off))
            set_off = False
        else:
            set_off = True
    return lines


def _paragraphs(pages: Sequence[PagePart], quotes: Sequence[Quote]) -> list[str]:
    """The paragraphs of the answer: one a quote, or the one that says that there is none."""
    if not quotes:
        span = "the page" if len(pages) == 1 else f"the {len(pages)} pages"
        return [f"No passage on {span} matches the question."]
    several = len({page.document for page in pages}) > 1
    paragraphs: list[str] = []
    for quote in quotes:
        place = f"page {pages[quote.page - 1].number}"
        if several and quote.document is not None:
            place = f"{quote.document}, {place}"
        paragraphs.append(f"[{place}] “{quote.text}”")
    return paragraphs
