"""Verifying: whether documents, fonts and pages are still those of a certificate, and what differs. Writes nothing."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from glyph_pipeline.background import run
from glyph_pipeline.document import Document, Documents, as_documents
from glyph_pipeline.errors import InputError, UsageError
from glyph_pipeline.experiments.certificate import Certificate, CertifiedDocument, CertifiedPage, text_sha256
from glyph_pipeline.experiments.certifying import Drawings, read_back, side_by_side
from glyph_pipeline.experiments.transcribing import Transcriber
from glyph_pipeline.page import Page
from glyph_pipeline.tokens.text import encodable

_INDEX = "pages.json"
_FACTS = ("start", "end", "width", "height")
_PAGE_FILE = re.compile(r"(?:[\w.-]+/)?page_\d{4,}\.png")


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as the certificate says; without ``page``, of the whole document, without ``document`` of all."""

    document: str | None
    page: int | None
    what: str
    expected: str | int
    found: str | int

    def __str__(self) -> str:
        where = [*([] if self.document is None else [self.document or "the text"]), *([] if self.page is None else [f"page {self.page}"])]
        return f"{', '.join(where)}{': ' if where else ''}{self.what}: certified {self.expected}, found {self.found}"

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain JSON types."""
        return asdict(self)


def verify_documents(
    certificate: Certificate, source: Documents, on_page: Callable[[Page], object] = lambda page: None
) -> Iterator[Difference]:
    """What is otherwise now: texts, fonts, and the pages, which are drawn again at their certified resolutions.

    ``source`` are the documents in the certificate's order, whatever they are called; ``on_page`` is told of each page drawn. Raises
    UsageError if they are not as many, EmptyDocumentError, ConfigError, FontError.
    """
    documents = _matching(certificate, source)
    drawings = certified_drawings(certificate)
    for expected, document in zip(certificate.documents, documents, strict=True):
        for what, was, now in (
            ("sha256 of the text", expected.sha256, text_sha256(document.text)),
            ("characters", expected.characters, len(document.text)),
        ):
            if was != now:
                yield Difference(expected.id, None, what, was, now)
        drawn = set()
        for page in certified_pages(expected, document, drawings):
            drawn.add(page.number)
            on_page(page)
            yield from _page_differences(expected.id, expected.pages[page.number - 1], page)
        for one in expected.pages:
            if one.number not in drawn:
                yield Difference(expected.id, one.number, "page", "drawn", "not there")
    was_fonts = {(font.file, font.sha256) for font in certificate.fonts}
    fonts = {(font.file, font.sha256) for dpi in _dpis(certificate) for font in drawings.renderer(dpi).fonts}
    if fonts != was_fonts:
        yield Difference(None, None, "fonts (file sha256)", _listed(was_fonts), _listed(fonts))


def verify_folder(certificate: Certificate, folder: str | Path) -> Iterator[Difference]:
    """What is otherwise in a folder of certified pages (``certify --pages DIR``): files missing or changed, what its index tells of them,
    and pages that nobody certified.

    Raises InputError if its index can't be used.
    """
    folder = Path(folder)
    try:
        entries = json.loads((folder / _INDEX).read_text("utf-8"))["pages"]
        listed = [(encodable(entry["document"] or ""), int(entry["number"]), str(entry["file"]), entry) for entry in entries]
    except FileNotFoundError:
        raise InputError(f"There is no {_INDEX} in {str(folder)!r}.", hint="Name a folder that certify --pages has written.") from None
    except OSError as e:
        raise InputError(
            f"{str(folder / _INDEX)!r} can't be read: {e.strerror or e}.", hint="Write the pages again: certify --pages DIR"
        ) from e
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        raise InputError(f"{str(folder / _INDEX)!r} can't be used: {e!r}.", hint="Write the pages again: certify --pages DIR") from e
    certified = {(document.id, page.number) for document in certificate.documents for page in document.pages}
    files: dict[tuple[str, int], tuple[str, dict[str, Any]]] = {}
    for name, number, file, entry in listed:
        if (name, number) not in certified or (name, number) in files:
            once = (name, number) in certified
            yield Difference(name, number, f"entry in {_INDEX}", "one" if once else "none", f"also {file}" if once else file)
        else:
            files[name, number] = (file, entry)
    for document in certificate.documents:
        for page in document.pages:
            file, entry = files.get((document.id, page.number), ("", {}))
            if not _PAGE_FILE.fullmatch(file):
                yield Difference(document.id, page.number, f"file in {_INDEX}", "named", "not named")
                continue
            for what in _FACTS:
                if (now := entry.get(what)) != getattr(page, what):
                    yield Difference(document.id, page.number, f"{what} in {_INDEX}", getattr(page, what), str(now))
            try:
                found = hashlib.sha256((folder / file).read_bytes()).hexdigest()
            except OSError as e:
                yield Difference(document.id, page.number, file, page.sha256, e.strerror or str(e))
                continue
            if found != page.sha256:
                yield Difference(document.id, page.number, f"sha256 of {file}", page.sha256, found)


def measure_again(
    certificate: Certificate, source: Documents, reader: Transcriber, on_page: Callable[[Page], object] = lambda page: None
) -> list[Difference]:
    """What ``reader`` reads otherwise than the certificate says: the pages are drawn and read back once more, at their resolutions.

    Of the same version of the same OCR nothing is otherwise; a served model may read a little differently each time. Raises what
    certifying raises.
    """
    return run(lambda: _measure_again(certificate, source, reader, on_page))


async def _measure_again(
    certificate: Certificate, source: Documents, reader: Transcriber, on_page: Callable[[Page], object]
) -> list[Difference]:
    documents = _matching(certificate, source)
    drawings = certified_drawings(certificate)
    found: list[Difference] = []
    if reader.identity != certificate.reader:
        found.append(Difference(None, None, "reader", _one_line(certificate.reader), _one_line(reader.identity)))

    async def measure(expected: CertifiedDocument, text: str, page: Page) -> list[Difference]:
        was = expected.pages[page.number - 1]
        now = await read_back(drawings, was.dpi, page, text, certificate.settings, reader)
        on_page(page)
        return [
            Difference(
                expected.id, page.number, f"{name}, wrong characters", f"{before.errors} of {before.of}", f"{count.errors} of {count.of}"
            )
            for name, before, count in zip(("text", "planted"), (was.text.count, was.planted.count), now, strict=True)
            if before != count
        ]

    try:
        for expected, document in zip(certificate.documents, documents, strict=True):
            pages = certified_pages(expected, document, drawings)
            one = partial(measure, expected, text_sha256(document.text))
            async with aclosing(side_by_side(drawings, pages, one, reader.concurrency)) as measured:
                async for differences in measured:
                    found += differences
    finally:
        await reader.aclose()
    order = {document.id: place for place, document in enumerate(certificate.documents)}
    return sorted(found, key=lambda one: (order.get(one.document or "", -1), one.page or 0, one.what))


def certified_pages(expected: CertifiedDocument, document: Document, drawings: Drawings) -> Iterator[Page]:
    """The pages of a document, in order, each at its certified resolution."""
    by_dpi: dict[int, set[int]] = {}
    for page in expected.pages:
        by_dpi.setdefault(page.dpi, set()).add(page.number)
    drawn = [drawings.renderer(dpi).render(document, only=frozenset(numbers)) for dpi, numbers in by_dpi.items()]
    yield from heapq.merge(*drawn, key=lambda page: page.number)


def certified_drawings(certificate: Certificate) -> Drawings:
    """What draws the pages of a certificate."""
    return Drawings(certificate.render_config, _dpis(certificate))


def _dpis(certificate: Certificate) -> tuple[int, ...]:
    return tuple(at.dpi for at in certificate.summary.pages_by_dpi)


def _matching(certificate: Certificate, source: Documents) -> Sequence[Document]:
    documents = as_documents(source)
    if len(documents) != len(certificate.documents):
        raise UsageError(
            f"The certificate is of {len(certificate.documents)} documents, and {len(documents)} were given.",
            hint=f"In this order: {', '.join(document.id or 'a text without a name' for document in certificate.documents)}.",
        )
    return documents


def _page_differences(document: str, expected: CertifiedPage, page: Page) -> Iterator[Difference]:
    for what in _FACTS:
        was, now = getattr(expected, what), getattr(page, what)
        if was != now:
            yield Difference(document, page.number, what, was, now)
    if (sha256 := hashlib.sha256(page.png).hexdigest()) != expected.sha256:
        yield Difference(document, page.number, "sha256 of the PNG", expected.sha256, sha256)


def _listed(fonts: set[tuple[str, str]]) -> str:
    return ", ".join(f"{file} {sha256}" for file, sha256 in sorted(fonts))


def _one_line(value: Any) -> str:
    return " ".join(str(part) for part in value.model_dump().values() if part)
