"""The words around a question: which pages these are, how to cite them, how to merge partial answers. Counts no tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from glyph_pipeline.document import Document
from glyph_pipeline.exactness.controls import harmless
from glyph_pipeline.page import Page
from glyph_pipeline.parts import PagePart, PageText
from glyph_pipeline.tokens.text import encodable

NOTHING_FOUND = "NOTHING FOUND"
# As it was told to say it, or with a few words more: "Nothing found on these pages."
_NOTHING = re.compile(r"(?:<[^>]*>|\W)*nothing found\b[^\[\]]{0,80}", re.IGNORECASE)
# A label names every document up to this many; more are told by their number.
_NAMED = 12
_NAME_HEAD, _NAME_TAIL = 50, 30


def name_of(document: str) -> str:
    """What a document is called on its pages, to the model and in citations: its id on one line, cut in the middle if it is long."""
    name = harmless(" ".join(encodable(document).split()))
    return name if len(name) <= _NAME_HEAD + _NAME_TAIL + 3 else f"{name[:_NAME_HEAD]}...{name[-_NAME_TAIL:]}"


def page_label(pages: Sequence[PagePart], several: bool) -> str:
    """How pages are called: ``pages 3-9``, or with ``several`` documents in all ``ferry.txt pages 1-2, mill.txt page 1``."""
    ranges = []
    for document, group in groupby(pages, key=lambda page: page.document):
        numbers = [page.number for page in group]  # a page's text may be in several pieces
        span = f"page {numbers[0]}" if numbers[0] == numbers[-1] else f"pages {numbers[0]}-{numbers[-1]}"
        ranges.append(f"{name_of(document)} {span}" if several and document else span)
    if len(ranges) <= _NAMED:
        return ", ".join(ranges)
    return f"{ranges[0]}, {len(ranges) - 2} more documents, {ranges[-1]}"


def _shown(pages: Sequence[PagePart], several: bool) -> str:
    """What stands before the question, in its order."""
    label = page_label(pages, several)
    if all(isinstance(page, Page) for page in pages):
        return f"The images are, in this order: {label}."
    if all(isinstance(page, PageText) for page in pages):
        return f"The text is that of {label}."
    runs = [(is_picture, page_label(list(run), several)) for is_picture, run in groupby(pages, key=lambda page: isinstance(page, Page))]
    named = "; ".join(f"{label} as {'images' if is_picture else 'text'}" for is_picture, label in runs)
    return f"Images and texts are, in this order: {named}."


def window_question(question: str, pages: Sequence[PagePart], *, several: bool, part: tuple[int, int] | None, cite: bool) -> str:
    """The question as it stands behind the pages of one request.

    As it is, as Glyph was trained, where one document is read at once and ``cite`` is not asked for; else with what the
    pages are, and for ``part`` (k of n) of a longer text how to say that nothing was found.
    """
    notes = []
    if several or part is not None:
        notes.append(_shown(pages, several))
    if part is not None:
        notes.append(
            f"They are part {part[0]} of {part[1]} of a longer text, and only they are to be looked at now. "
            f"If nothing on them helps to answer the question, answer only: {NOTHING_FOUND}"
        )
    if cite:
        first = pages[0]
        example = f"[{name_of(first.document)}, page {first.number}]" if several and first.document else f"[page {first.number}]"
        notes.append(f"Name the page of each statement in square brackets, like this: {example}")
    return "\n\n".join([question, *notes])


def found_nothing(text: str) -> bool:
    """Whether a window's answer says that its pages hold nothing that helps."""
    return bool(_NOTHING.fullmatch(text))


def joined(partials: Sequence[tuple[str, str]]) -> str:
    """Partial answers under their labels, one after the other."""
    return "\n\n".join(f"[{label}]\n{text}" for label, text in partials)


def merge_question(question: str, partials: Sequence[tuple[str, str]]) -> str:
    """The request that makes one answer of several; ``partials`` are (label of the pages, answer)."""
    return (
        f"{question}\n\nThe text was read in parts. This is what was answered from those that had something to say, under their pages:\n\n"
        f"{joined(partials)}\n\n"
        "Make one answer to the question of these. Leave out nothing that helps, keep the pages named in square brackets, "
        "and where the parts contradict each other, say so."
    )


def title_of(document: Document, documents: Sequence[Document]) -> str | None:
    """The line above a document's pages that tells them from those of the others, if there are any: its name, and its title."""
    if len(documents) == 1:
        return None
    title = document.metadata.get("title")
    named = isinstance(title, str) and title.strip() and title != document.id
    return f"=== {name_of(document.id)}{f': {name_of(str(title))}' if named else ''} ==="
