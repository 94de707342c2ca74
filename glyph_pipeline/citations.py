"""Citations: the pages an answer names, as places in the source. Knows no model, only the form ``[id, page 3]`` and its likes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

from glyph_pipeline.answer import Source
from glyph_pipeline.page import Page
from glyph_pipeline.prompts import name_of

# "page 3", "pages 3-5", "p. 3", "pp. 3, 5 and 7", "第3页"
_PAGES = r"(?:\bpages?|\bpp?\.|第)\s*(?P<pages>\d+(?:\s*(?:[-\u2013\u2014,;&]|and|to)\s*\d+)*)"
_NUMBERS = re.compile(r"(\d+)(?:\s*(?:[-\u2013\u2014]|to)\s*(\d+))?")
# More pages than this in one range are no citation.
_LONGEST_RANGE = 50
# What may stand between a name and its pages; any other word there is a name that no document has.
_JOINING = re.compile(r"(?:\W|_|页|\b(?:and|or|on|in|of|at|the|also|see|cf|document|file|from)\b)*", re.IGNORECASE)
_OF = re.compile(r"\W*\bof\b\W*", re.IGNORECASE)


def sources_of(text: str, pages: Sequence[Page]) -> tuple[Source, ...]:
    """The pages that ``text`` cites in square brackets, each once, in the order of their first citation.

    ``[page 3]`` is a page of the only document. With several documents the name stands before the pages, or behind them
    (``[page 3 of ferry.txt]``): id, file name, or that without its suffix, where no other document is called so; pages
    without a name follow the one before. What names no page that there is, is no source.
    """
    places = {(page.document, page.number): page for page in pages}
    found: dict[tuple[str | None, int], Source] = {}
    for place in _cited(" ".join(text.split()), list(dict.fromkeys(page.document for page in pages))):
        page = places.get(place)
        if page is not None:
            found.setdefault(place, source_of(page))
    return tuple(found.values())


def source_of(page: Page) -> Source:
    """The place of a page in its document."""
    return Source(page.document, page.number, page.start, page.end)


def _cited(text: str, documents: Sequence[str | None]) -> Iterator[tuple[str | None, int]]:
    only = len(documents) == 1
    names = _names(text, documents)
    # Names first, the longest first: they may hold brackets, and "page 3".
    literal = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    token = re.compile(rf"(?P<name>{literal or '(?!)'})|(?P<open>[\[【])|(?P<close>[\]】])|{_PAGES}", re.IGNORECASE)
    tokens = list(token.finditer(text))
    inside, document, known, end = False, None, False, 0
    for index, match in enumerate(tokens):
        gap = text[end : match.start()]
        end = match.end()
        if match["open"] or match["close"]:
            inside, document, known = bool(match["open"]), documents[0] if only else None, only
        elif not inside:
            continue
        elif match["name"]:
            document, known = _meant(match["name"], names, only)
        else:
            if not only and not _JOINING.fullmatch(gap):
                known = False
            following = tokens[index + 1] if index + 1 < len(tokens) else None
            if following is not None and following["name"] and _OF.fullmatch(text[match.end() : following.start()]):
                document, known = _meant(following["name"], names, only)
            if known:
                for number in _expanded(match["pages"]):
                    yield document, number


def _meant(name: str, names: Mapping[str, set[str | None]], only: bool) -> tuple[str | None, bool]:
    """The document that is called so, and whether there is one and no other."""
    meant = names.get(name) or {document for known, called in names.items() if known.lower() == name.lower() for document in called}
    return (next(iter(meant)), True) if len(meant) == 1 else (None, only)


def _names(text: str, documents: Iterable[str | None]) -> dict[str, set[str | None]]:
    """Of all that documents may be called, what stands in the text in upper or lower case, and who is called so.

    An id counts before a file name, a file name before its stem.
    """
    folded = text.lower()
    names: dict[str, set[str | None]] = {}
    for variant in (name_of, lambda document: name_of(PurePath(document).name), lambda document: name_of(PurePath(document).stem)):
        called: dict[str, set[str | None]] = {}
        for document in filter(None, documents):
            name = variant(document)
            if name.lower() in folded:
                called.setdefault(name, set()).add(document)
        names = called | names
    names.pop("", None)
    return names


def _expanded(numbers: str) -> Iterator[int]:
    for match in _NUMBERS.finditer(numbers):
        first, last = int(match.group(1)), int(match.group(2) or match.group(1))
        if first <= last < first + _LONGEST_RANGE:
            yield from range(first, last + 1)
