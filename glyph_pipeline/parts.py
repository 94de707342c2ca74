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


def goes_on(before: Part | None, part: Part) -> bool:
    """Whether a text follows another of its document as it does in the source, so that in a message the two are one."""
    return (
        isinstance(before, PageText)
        and isinstance(part, PageText)
        and before.document == part.document
        and before.end == part.start
        and not part.heading
    )


def content(parts: Sequence[Part], question: str) -> list[Page | str]:
    """What a chat message holds: pictures and texts in order, the question last. Texts side by side are one.

    Pieces of one document follow each other as they do in the source; an empty line sets everything else apart.
    """
    items: list[Page | str] = []
    texts: list[str] = []  # those since the last picture; joined once, as there may be thousands
    before: Part | None = None
    for part in parts:
        if isinstance(part, Page):
            if texts:
                items.append("".join(texts))
                texts = []
            items.append(part)
        else:
            if texts and not goes_on(before, part):
                texts.append("\n\n")
            texts.append(part.heading + part.text if isinstance(part, PageText) else part.text)
        before = part
    return [*items, "".join([*texts, "\n\n" if texts else "", question])]
