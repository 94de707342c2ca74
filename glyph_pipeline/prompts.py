"""The words around a question: which pages these are, how to cite them, how to merge partial answers. Knows no tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from glyph_pipeline.page import Page

NOTHING_FOUND = "NOTHING FOUND"
_NOTHING = re.compile(r"\W*nothing found\W*", re.IGNORECASE)
# A label names every document up to this many; more are told by their number.
_NAMED = 12


def page_label(pages: Sequence[Page], several: bool) -> str:
    """How pages are called: ``pages 3-9``, or with several documents ``ferry.txt pages 1-2, mill.txt page 1``."""
    ranges = []
    for document, group in groupby(pages, key=lambda page: page.document):
        numbers = [page.number for page in group]
        span = f"page {numbers[0]}" if len(numbers) == 1 else f"pages {numbers[0]}-{numbers[-1]}"
        ranges.append(f"{document} {span}" if several and document else span)
    if len(ranges) <= _NAMED:
        return ", ".join(ranges)
    return f"{ranges[0]}, {len(ranges) - 2} more documents, {ranges[-1]}"


def window_question(question: str, pages: Sequence[Page], *, several: bool, part: tuple[int, int] | None, cite: bool) -> str:
    """The question as it stands behind the pages of one request.

    As it is, as Glyph was trained, where one document is read at once and ``cite`` is not asked for; else with what the
    pages are, and for ``part`` (k of n) of a longer text how to say that nothing was found.
    """
    notes = []
    if several or part is not None:
        are = "These pages are" if len(pages) > 1 else "This page is"
        notes.append(f"{are}, in this order: {page_label(pages, several)}.")
    if part is not None:
        notes.append(
            f"They are part {part[0]} of {part[1]} of a longer text, and only they are to be looked at now. "
            f"If nothing on them helps to answer the question, answer only: {NOTHING_FOUND}"
        )
    if cite:
        example = f"[{pages[0].document}, page {pages[0].number}]" if several and pages[0].document else f"[page {pages[0].number}]"
        notes.append(f"Name the page of each statement in square brackets, like this: {example}")
    return "\n\n".join([question, *notes])


def found_nothing(text: str) -> bool:
    """Whether a window's answer says that its pages hold nothing that helps."""
    return bool(_NOTHING.fullmatch(text))


def merge_question(question: str, partials: Sequence[tuple[str, str]]) -> str:
    """The request that makes one answer of several; ``partials`` are (label of the pages, answer)."""
    parts = "\n\n".join(f"[{label}]\n{text}" for label, text in partials)
    return (
        f"{question}\n\nThe text was read in {len(partials)} parts. This is what was answered from each part, under the pages it is from:\n\n"
        f"{parts}\n\n"
        "Make one answer to the question of these. Leave out nothing that helps, keep the pages named in square brackets, "
        "and where the parts contradict each other, say so."
    )


def title_line(document: str, title: object = None) -> str:
    """The line that tells a document's pages from another's: its id, and its title if it has one of its own."""
    named = f"{document}: {title}" if isinstance(title, str) and title.strip() and title != document else document
    return f"=== {' '.join(named.split())[:200]} ==="
