"""Retrieved: what a framework found, as documents to draw, and the way back from a page to what it was. Knows no framework."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import PurePath
from typing import Any, Generic, TypeVar

from glyph_pipeline.answer import Answer
from glyph_pipeline.document import Document, as_documents, require_text
from glyph_pipeline.errors import EmptyDocumentError
from glyph_pipeline.page import Page

_D = TypeVar("_D")

# Where loaders and splitters of the three frameworks write what a text is from; the first that is there names it.
_NAMING_KEYS = ("file_name", "source", "file_path", "path", "url")
# Ids that no person gave: UUIDs, hashes. On a page they would cost tokens and tell the model nothing.
_MACHINE_MADE = re.compile(r"[0-9a-f-]{32,}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Citation(Generic[_D]):
    """A page that an answer cites. ``document`` is the framework's own, as it was given; ``name`` what its pages and the answer call it.

    ``page`` counts from 1 within the document; ``text[start:end]`` of the document is drawn on it, in characters.
    """

    document: _D
    name: str
    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Retrieved(Generic[_D]):
    """``documents`` are to be drawn, ``originals`` what they were made of, one for one; what is blank is in neither."""

    originals: tuple[_D, ...]
    documents: tuple[Document, ...]

    @classmethod
    def of(cls, originals: Iterable[_D], document: Callable[[_D], Document]) -> Retrieved[_D]:
        """What was retrieved, in the same order, each named after its file or URL, else by its id, else by its place.

        Names are told apart: two pieces of ``ferry.txt`` are ``ferry.txt`` and ``ferry.txt (2)``.
        """
        kept: list[tuple[_D, Document]] = []
        for original in originals:
            made = document(original)
            try:
                require_text(made)
            except EmptyDocumentError:
                continue
            kept.append((original, replace(made, id=_name(made))))
        named = as_documents([made for _, made in kept]) if kept else []
        return cls(tuple(original for original, _ in kept), tuple(named))

    def require(self) -> None:
        """Raise EmptyDocumentError if nothing is left to draw."""
        if not self.documents:
            raise EmptyDocumentError("No document with text was retrieved: there is nothing to read.", hint="Look at what retrieves.")

    def citations(self, answer: Answer) -> tuple[Citation[_D], ...]:
        """The pages that an answer about these documents cites, in its order."""
        return tuple(
            Citation(self.originals[place], self._name(place), source.page, source.start, source.end)
            for source in answer.sources
            for place in [self._place(source.document)]
        )

    def of_page(self, page: Page) -> Citation[_D]:
        """Where a page of these documents is from."""
        place = self._place(page.document)
        return Citation(self.originals[place], self._name(place), page.number, page.start, page.end)

    def _place(self, name: str | None) -> int:
        return next((place for place, document in enumerate(self.documents) if document.id == name), 0)  # one alone may have no name

    def _name(self, place: int) -> str:
        return self.documents[place].id or f"document {place + 1}"


@dataclass(frozen=True, slots=True)
class RetrievedAnswer(Answer, Generic[_D]):
    """An :class:`Answer` about retrieved documents; ``citations`` are its ``sources`` with the documents they are from."""

    citations: tuple[Citation[_D], ...] = ()

    @classmethod
    def of(cls, answer: Answer, retrieved: Retrieved[_D]) -> RetrievedAnswer[_D]:
        """The answer, with its citations."""
        return cls(**{field.name: getattr(answer, field.name) for field in fields(Answer)}, citations=retrieved.citations(answer))

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON types; the documents are left out, their names are in ``sources``."""
        return Answer(**{field.name: getattr(self, field.name) for field in fields(Answer)}).to_dict()


def account(answer: Answer) -> dict[str, Any]:
    """What an answer cost and how it came about, as plain JSON types: for the metadata that frameworks pass on."""
    report = answer.report
    return {
        "reader": answer.reader,
        "finish_reason": answer.finish_reason,
        "truncated": answer.truncated,
        "reasoning": answer.reasoning,
        "ratio": round(report.ratio, 4),
        "text_tokens": report.text_tokens,
        "tokenizer": report.tokenizer,
        "vision_tokens": report.vision_tokens,
        "pages": report.pages,
        "prompt_tokens": answer.usage.prompt_tokens,
        "completion_tokens": answer.usage.completion_tokens,
        "sent": None if report.sent is None else report.sent.to_dict(),
        "checks": [asdict(check) for check in answer.checks],
    }


def cited(citation: Citation[Any], id: str | None, metadata: Mapping[Any, Any]) -> dict[str, Any]:
    """A citation for such metadata: the document by name, id and its own metadata."""
    return {
        "document": citation.name,
        "id": id,
        "page": citation.page,
        "start": citation.start,
        "end": citation.end,
        "metadata": dict(metadata),
    }


def _name(document: Document) -> str:
    for key in _NAMING_KEYS:
        value = document.metadata.get(key)
        if isinstance(value, (str, PurePath)) and str(value).strip():
            # A folder of this machine is no part of a name, and nothing to tell a server.
            return str(value) if "://" in str(value) else PurePath(value).name or str(value)
    return "" if _MACHINE_MADE.fullmatch(document.id) else document.id
