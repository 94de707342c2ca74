"""Parts: what a request holds, in reading order: pages, text sent in a page's place, exact strings. Plain values; counts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from glyph_pipeline.page import Page


@dataclass(frozen=True, slots=True)
class PageText:
    """The text of a page, or of a piece of one, sent in the picture's place.

    ``number`` and ``document`` are the page's; ``text`` is ``source[start:end]`` of the document, offsets in characters.
    ``heading`` is a line that goes before it, as the title is drawn on a page. ``tokens`` are those of heading and text.
    """

    number: int
    document: str | None
    start: int
    end: int
    text: str
    tokens: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class ExactStrings:
    """Strings of one page that have to be read to the letter, as the source spells them."""

    document: str | None
    number: int
    strings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExactList:
    """The exact strings of a request's pages: ``text`` is how a language model is told them, ``tokens`` what that costs."""

    pages: tuple[ExactStrings, ...]
    text: str
    tokens: int


PagePart: TypeAlias = "Page | PageText"
"""A page, as a picture or as text. Both have ``number``, ``document``, ``start`` and ``end``."""

Part: TypeAlias = "Page | PageText | ExactList"
"""What a request may hold."""


def content(parts: Sequence[Part], question: str) -> list[Page | str]:
    """What a chat message holds: pictures and texts in order, the question last. Texts side by side are one.

    Pieces of one document follow each other as they do in the source; an empty line sets everything else apart.
    """
    items: list[Page | str] = []
    before: PageText | None = None  # the text that the last item ends with
    for part in parts:
        if isinstance(part, Page):
            items.append(part)
            before = None
            continue
        if isinstance(part, PageText):
            goes_on = before is not None and before.document == part.document and before.end == part.start and not part.heading
            _append(items, part.heading + part.text, "" if goes_on else "\n\n")
            before = part
        else:
            _append(items, part.text, "\n\n")
            before = None
    _append(items, question, "\n\n")
    return items


def _append(items: list[Page | str], text: str, space: str) -> None:
    if items and isinstance(items[-1], str):
        items[-1] += space + text
    else:
        items.append(text)
