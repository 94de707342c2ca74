"""Citations: the pages an answer names, as places in the source. Knows no model and no prompt but the form ``[id, page 3]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from glyph_pipeline.answer import Source
from glyph_pipeline.page import Page

_BRACKET = re.compile(r"\[([^\[\]]{1,400})\]")
# "page 3", "pages 3-5", "p. 3", "pp. 3, 5 and 7", "第3页"
_PAGES = re.compile(r"(?:\bpages?|\bpp?\.|第)\s*(\d+(?:\s*(?:[-\u2013\u2014,;&]|and|to)\s*\d+)*)", re.IGNORECASE)
_NUMBERS = re.compile(r"(\d+)(?:\s*(?:[-\u2013\u2014]|to)\s*(\d+))?")
# More pages than this in one range are no citation.
_LONGEST_RANGE = 50


def sources_of(text: str, pages: Sequence[Page]) -> tuple[Source, ...]:
    """The pages that ``text`` cites, each once, in the order of their first citation.

    ``[page 3]`` is a page of the only document; with several documents one is named before it, by its id or file name, or
    by the citation before it in the same brackets. What names no page that there is, is no source.
    """
    places = {(page.document, page.number): page for page in pages}
    names = _names({page.document for page in pages})
    found: dict[tuple[str | None, int], Source] = {}
    for document, number in _cited(text, names, only=next(iter(names.values())) if len(set(names.values())) == 1 else None):
        page = places.get((document, number))
        if page is not None:
            found.setdefault((document, number), source_of(page))
    return tuple(found.values())


def source_of(page: Page) -> Source:
    """The place of a page in its document."""
    return Source(page.document, page.number, page.start, page.end)


def _names(documents: set[str | None]) -> dict[str, str | None]:
    """Documents by what an answer may call them: id, file name, and that without its suffix, where no other is called so."""
    names: dict[str, str | None] = {}
    for variant in (lambda name: name, lambda name: PurePath(name).name, lambda name: PurePath(name).stem):
        called: dict[str, set[str | None]] = {}
        for document in documents:
            called.setdefault(_plain(variant(document or "")), set()).add(document)
        for name, meant in called.items():
            if name not in names and len(meant) == 1:
                names[name] = next(iter(meant))
    return names


def _cited(text: str, names: Mapping[str, str | None], only: str | None) -> Iterator[tuple[str | None, int]]:
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    single = len(set(names.values())) == 1
    for bracket in _BRACKET.finditer(text):
        inside = bracket.group(1)
        document, known, position = only, single, 0
        while True:
            rest = inside[position:].lstrip(" ,;")
            position = len(inside) - len(rest)
            # A name first: it may itself have "page 3" in it.
            name = next((name for name in longest_first if rest.lower().startswith(name)), None)
            if name is not None:
                document, known, position = names[name], True, position + len(name)
            match = _PAGES.search(inside, position)
            if match is None:
                break
            if _plain(inside[position : match.start()]) and not single:
                known = False  # a document that there isn't
            position = match.end()
            if known:
                for number in _expanded(match.group(1)):
                    yield document, number


def _expanded(numbers: str) -> Iterator[int]:
    for match in _NUMBERS.finditer(numbers):
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if first <= last < first + _LONGEST_RANGE:
            yield from range(first, last + 1)


def _plain(name: str) -> str:
    return " ".join(name.split()).strip(" ,;:.\"'\u201c\u201d()").casefold()
