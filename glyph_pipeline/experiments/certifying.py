"""Certifying: every page read back, drawn again at a higher dpi until it passes, each reading kept. Knows no command line."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from glyph_pipeline.background import run
from glyph_pipeline.batch.recordlines import records_of
from glyph_pipeline.batch.store import ResultStore
from glyph_pipeline.document import Document, Documents, as_documents
from glyph_pipeline.errors import InputError
from glyph_pipeline.experiments.certificate import (
    Attempt,
    Certificate,
    CertifiedDocument,
    CertifiedFont,
    CertifiedPage,
    CertifySettings,
    Measured,
    Summary,
    passes,
    text_sha256,
)
from glyph_pipeline.experiments.intervals import Count
from glyph_pipeline.experiments.planting import Planter, Specimen, lot_of, sampled
from glyph_pipeline.experiments.transcribing import OCRTranscriber, Transcriber, errors_in
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.text import Cl100kTokenizer, encodable
from glyph_pipeline.tokens.vision import FAMILIES

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class PageMeasured:
    """A page was read back at one resolution, or had been before (``known``); ``text`` and ``planted`` as in a CertifiedPage."""

    document: str
    number: int
    dpi: int
    text: Count
    planted: Count
    passed: bool
    known: bool


def certify(
    source: Documents,
    config: RenderConfig | None = None,
    reader: Transcriber | None = None,
    *,
    settings: CertifySettings | None = None,
    family: str = "glm4v",
    journal: str | Path | None = None,
    on_page: Callable[[PageMeasured], object] = lambda page: None,
    on_notice: Callable[[str], object] = lambda message: None,
) -> Certificate:
    """Draw documents and have ``reader`` (OCR, unless given) read every page back; pages over ``settings.max_cer`` are drawn again at the
    next of ``settings.dpi_steps`` until they pass, or have failed at the last.

    ``config`` is the preset for the texts unless given. ``family`` (of tokens.vision.FAMILIES) is whose vision tokens are counted.
    ``journal`` is a file that keeps each reading: what is in it, of the same pages read by the same reader with the same settings, is not
    read again. ``on_page`` is told of every reading, ``on_notice`` of what was mended in the journal. Blocks; works inside a running loop
    too.

    Raises EmptyDocumentError, ConfigError, FontError, OutputError, MissingExtraError, InputError for a journal that was changed, and what
    reading raises: ReadError, ContextLengthError, ServerError.
    """
    return run(
        lambda: acertify(source, config, reader, settings=settings, family=family, journal=journal, on_page=on_page, on_notice=on_notice)
    )


async def acertify(
    source: Documents,
    config: RenderConfig | None = None,
    reader: Transcriber | None = None,
    *,
    settings: CertifySettings | None = None,
    family: str = "glm4v",
    journal: str | Path | None = None,
    on_page: Callable[[PageMeasured], object] = lambda page: None,
    on_notice: Callable[[str], object] = lambda message: None,
) -> Certificate:
    """:func:`certify` for async code."""
    documents = as_documents(source)
    config = config or RenderConfig.for_texts(document.text for document in documents)
    settings = settings or CertifySettings()
    reader = reader or OCRTranscriber(FAMILIES[family])
    # What can't be drawn at the last step is said before anything is read.
    dpis = settings.dpis(config.dpi)
    drawings = Drawings(config, dpis)
    settings = settings.model_copy(update={"dpi_steps": dpis[1:]})
    tokenizer = Cl100kTokenizer()
    certified = []
    store = ResultStore(journal) if journal is not None else None
    try:
        with store or nullcontext():
            known = {} if store is None else records_of(store.path)
            for notice in () if store is None else store.notices:
                on_notice(notice)
            for document in documents:
                certifier = _Certifier(document, reader, settings, family, store, known, on_page)
                pages = await certifier.pages(drawings)
                tokens = await asyncio.to_thread(tokenizer.count, document.text)
                certified.append(
                    CertifiedDocument(
                        id=encodable(document.id),
                        sha256=certifier.text,
                        characters=len(document.text),
                        text_tokens=tokens,
                        pages=tuple(pages),
                    )
                )
    finally:
        await reader.aclose()
    return Certificate(
        tool_version=version("glyph-pipeline"),
        reader=reader.identity,
        settings=settings,
        family=family,
        config=config.to_dict(),
        fonts=tuple(CertifiedFont.of(font) for font in drawings.renderer(config.dpi).fonts),
        documents=tuple(certified),
        summary=Summary.of(certified, tokenizer.name),
    )


class Drawings:
    """What draws at each resolution, pages and planted ones; made when it is first needed. Raises ConfigError for an impossible one."""

    def __init__(self, config: RenderConfig, dpis: tuple[int, ...]) -> None:
        self.configs = {dpi: config.replace(dpi=dpi) for dpi in dpis}
        self._renderers: dict[int, Renderer] = {}
        self._planters: dict[int, Planter] = {}
        # Fonts are not for two threads at a time, and pages are read side by side.
        self._lock = threading.Lock()

    def renderer(self, dpi: int) -> Renderer:
        """Draws pages."""
        if dpi not in self._renderers:
            self._renderers[dpi] = Renderer(self.configs[dpi])
        return self._renderers[dpi]

    def next_page(self, pages: Iterator[Page]) -> Page | None:
        """The next of pages that a renderer of these draws. Thread-safe."""
        with self._lock:
            return next(pages, None)

    def planted(self, dpi: int, page: Page, count: int, lot: str) -> Specimen | None:
        """As Planter.planted. Thread-safe."""
        with self._lock:
            if dpi not in self._planters:
                self._planters[dpi] = Planter(self.configs[dpi])
            return self._planters[dpi].planted(page, count, lot)


async def read_back(
    drawings: Drawings, dpi: int, page: Page, text: str, settings: CertifySettings, reader: Transcriber
) -> tuple[Count, Count]:
    """What is wrong in the sampled lines of a page, and in the strings planted on it. ``text`` is the hash of its document's text.

    Nothing is read of a page without a line.
    """
    lot = lot_of(settings.seed, text, page.number)
    own = sampled(page, settings.lines, lot)
    planted = await asyncio.to_thread(drawings.planted, dpi, page, settings.planted, lot)
    return await _errors(own, reader), await _errors(planted, reader)


async def _errors(specimen: Specimen | None, reader: Transcriber) -> Count:
    if specimen is None or not specimen.places:
        return Count(0, 0)
    transcript = await reader.transcribe(specimen)
    return await asyncio.to_thread(errors_in, specimen, transcript)


async def side_by_side(
    drawings: Drawings, pages: Iterator[Page], measure: Callable[[Page], Coroutine[Any, Any, _T]], most: int
) -> AsyncGenerator[_T, None]:
    """What ``measure`` makes of each page, as it is done; ``most`` at a time, and no page is drawn ahead of that. The first error ends all."""
    running: set[asyncio.Task[_T]] = set()
    more = True
    try:
        while more or running:
            while more and len(running) < most:
                page = await asyncio.to_thread(drawings.next_page, pages)
                if page is None:
                    more = False
                else:
                    running.add(asyncio.ensure_future(measure(page)))
            if running:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@dataclass(slots=True)
class _Certifier:
    """The pages of one document."""

    document: Document
    reader: Transcriber
    settings: CertifySettings
    family: str
    store: ResultStore | None
    known: Mapping[str, Mapping[str, Any]]
    on_page: Callable[[PageMeasured], object]
    text: str = field(init=False)
    _identity: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.text = text_sha256(self.document.text)
        self._identity = self.reader.identity.model_dump()

    async def pages(self, drawings: Drawings) -> list[CertifiedPage]:
        """All pages, in order."""
        certified: dict[int, CertifiedPage] = {}
        first: dict[int, tuple[int, int, tuple[str, ...]]] = {}
        attempts: dict[int, tuple[Attempt, ...]] = {}
        wanted: frozenset[int] | None = None
        for dpi in drawings.configs:
            drawn = drawings.renderer(dpi).render(self.document, only=wanted)
            one = partial(self._one, drawings, dpi)
            async with aclosing(side_by_side(drawings, drawn, one, self.reader.concurrency)) as measured:
                async for page, text, planted in measured:
                    place = (page.start, page.end, page.lines)
                    # Layout is in pt: another resolution is the same page. Else its number would name another text.
                    assert first.setdefault(page.number, place) == place, f"page {page.number} holds another text at {dpi} dpi"
                    own, other = Measured.of(text), Measured.of(planted)
                    tried = (*attempts.get(page.number, ()), Attempt(dpi=dpi, text_cer=own.cer, planted_cer=other.cer))
                    attempts[page.number] = tried
                    certified[page.number] = CertifiedPage(
                        number=page.number,
                        start=page.start,
                        end=page.end,
                        dpi=dpi,
                        width=page.width,
                        height=page.height,
                        vision_tokens=FAMILIES[self.family].tokens(page.width, page.height),
                        sha256=_png(page),
                        text=own,
                        planted=other,
                        attempts=tried,
                        passed=self._passes(text, planted),
                    )
            wanted = frozenset(number for number, page in certified.items() if not page.passed)
            if not wanted:
                break
        return [certified[number] for number in sorted(certified)]

    async def _one(self, drawings: Drawings, dpi: int, page: Page) -> tuple[Page, Count, Count]:
        id = self._id(page, dpi)
        record = self.known.get(id)
        if record is None:
            text, planted = await read_back(drawings, dpi, page, self.text, self.settings, self.reader)
            if self.store is not None:
                self.store.add(
                    {
                        "id": id,
                        "status": "ok",
                        "reader": self._identity,
                        "document": encodable(self.document.id),
                        "page": page.number,
                        "dpi": dpi,
                        "text": {"errors": text.errors, "of": text.of},
                        "planted": {"errors": planted.errors, "of": planted.of},
                    }
                )
        else:
            text, planted = (self._counted(record, name) for name in ("text", "planted"))
        self.on_page(PageMeasured(self.document.id, page.number, dpi, text, planted, self._passes(text, planted), known=record is not None))
        return page, text, planted

    def _counted(self, record: Mapping[str, Any], name: str) -> Count:
        """What a record of the journal tells. Raises InputError if someone has changed it."""
        try:
            return Measured.of(Count(**record[name])).count
        except (KeyError, TypeError, ValueError) as e:
            assert self.store is not None
            raise InputError(
                f"{str(self.store.path)!r} holds no reading under {record['id']!r}: its {name!r} is {record.get(name)!r}.",
                hint="Remove that line, or the file: what is not in it is read again.",
            ) from e

    def _id(self, page: Page, dpi: int) -> str:
        """Names all that a reading depends on; the threshold is not among it."""
        settings = self.settings.model_dump(include={"lines", "planted", "seed"})
        depends = [version("glyph-pipeline"), self._identity, self.family, settings, self.text, page.number, dpi, _png(page)]
        name = f"{encodable(self.document.id)} page {page.number} at {dpi} dpi"
        return f"{name} #{hashlib.sha256(repr(depends).encode()).hexdigest()[:16]}"

    def _passes(self, text: Count, planted: Count) -> bool:
        return passes(text, self.settings.max_cer) and passes(planted, self.settings.max_cer)


def _png(page: Page) -> str:
    return hashlib.sha256(page.png).hexdigest()
