"""The list of exact strings that goes with a request's pages: which strings, in what order, in what words. Finds none and sends nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

from glyph_pipeline.exactness.controls import harmless, has_control_marks
from glyph_pipeline.exactness.entropy import unguessable
from glyph_pipeline.exactness.finder import ExactString
from glyph_pipeline.page import Page
from glyph_pipeline.parts import ExactList, ExactStrings
from glyph_pipeline.ranking import bm25_around
from glyph_pipeline.tokens.text import encodable

HEADING = "Exact spellings on these pages:"

CONTEXT = 200
"""Characters before and behind a string that tell what it is about."""

# No tokenizer makes less than a token of so many characters of such strings: a bound on how many to try.
_CHARACTERS_PER_TOKEN = 5
_SKIPPED = 3
_UNCLEAR = re.compile(r"[,\"\n\r\t]|^\s|\s$|: ")
_EASY_BITS = 8.0
_NAME_HEAD, _NAME_TAIL = 50, 30

_Entry: TypeAlias = "tuple[int, ExactString]"


def exact_list(
    pages: Sequence[Page],
    strings: Mapping[tuple[str | None, int], Sequence[ExactString]],
    texts: Mapping[str | None, str],
    question: str,
    budget: int | None,
    count: Callable[[str], int],
    *,
    several: bool,
    least: int = 0,
) -> ExactList | None:
    """The exact strings of the pages, as many as ``budget`` tokens (``count`` says how many a text has) have room for; None if there are none.

    ``strings`` are those that begin on each page (document, number), ``texts`` the documents' sources. A string that occurs on several
    pages is listed with the first. Those whose surroundings match the question best (BM25) are taken first, at a tie the earlier ones;
    addresses made of words, which a reader hardly misreads, are taken last. Without a budget (None) all are taken. Strings with
    control marks of chat templates are left out. Where ``least`` is more than the budget, those whose surroundings share a word with the
    question may take so many tokens, and the others none. ``count`` is called about as often as the number of strings has bits. ``several``:
    the list names each page's document.
    """
    entries: list[_Entry] = []
    seen: set[str] = set()
    for place, page in enumerate(pages):
        for string in strings.get((page.document, page.number), ()):
            if string.text not in seen and not has_control_marks(string.text):
                seen.add(string.text)
                entries.append((place, string))
    if budget is None:
        if not entries:
            return None
        made = _made(pages, entries, several)
        return ExactList(made.pages, made.text, count(made.text))
    rated = list(zip(entries, _scores(pages, entries, texts, question), strict=True))
    if budget < least and any(score for _, score in rated):
        # Of a short document a share of the tokens is room for nothing: then for what is asked for.
        budget, rated = least, [(entry, score) for entry, score in rated if score]
    # One that takes most of the room alone leaves none for those that are asked for.
    rated = [(entry, score) for entry, score in rated if len(entry[1].text) <= budget]
    entries = [entry for entry, _ in rated]
    ranked = sorted(range(len(rated)), key=lambda number: (_easy(entries[number][1]), -rated[number][1], number))
    for skipped in range(_SKIPPED + 1):
        # Where the first alone is too much, the next may fit.
        best = _fitting(pages, entries, ranked[skipped:], budget, several, count)
        if best is not None:
            return best
    return None


def _fitting(
    pages: Sequence[Page], entries: Sequence[_Entry], ranked: Sequence[int], budget: int, several: bool, count: Callable[[str], int]
) -> ExactList | None:
    """As many of the first as fit."""
    if not ranked:
        return None
    most = _most(entries, ranked, budget)
    whole = None if most < len(ranked) else _counted(pages, entries, ranked, most, several, count)
    if whole is not None and whole.tokens <= budget:
        return whole
    best: ExactList | None = None
    fits, fails = 0, most + 1 if whole is None else most
    while fails - fits > 1:
        middle = (fits + fails) // 2
        tried = _counted(pages, entries, ranked, middle, several, count)
        if tried.tokens <= budget:
            best, fits = tried, middle
        else:
            fails = middle
    return best


def _counted(
    pages: Sequence[Page], entries: Sequence[_Entry], ranked: Sequence[int], take: int, several: bool, count: Callable[[str], int]
) -> ExactList:
    made = _made(pages, [entries[number] for number in sorted(ranked[:take])], several)
    return ExactList(made.pages, made.text, count(made.text))


def _most(entries: Sequence[_Entry], ranked: Sequence[int], budget: int) -> int:
    """How many, taken in this order, could fit at most."""
    room = budget * _CHARACTERS_PER_TOKEN
    for taken, number in enumerate(ranked):
        room -= len(entries[number][1].text)
        if room < 0:
            return taken
    return len(ranked)


def _scores(pages: Sequence[Page], entries: Sequence[_Entry], texts: Mapping[str | None, str], question: str) -> list[float]:
    """How well what stands around each entry matches the question."""
    scores: list[float] = []
    for document, group in groupby(entries, key=lambda entry: pages[entry[0]].document):
        spans = [(string.start, string.end) for _, string in group]
        first, last = max(0, spans[0][0] - 2 * CONTEXT), spans[-1][1] + 2 * CONTEXT
        text = texts.get(document, "")[first:last]
        scores += bm25_around(text, [(start - first, end - first) for start, end in spans], question, CONTEXT)
    return scores


def _easy(string: ExactString) -> bool:
    """Whether a string is made of words, which a reader guesses right."""
    return string.kind in ("url", "email") and unguessable(string.text) < _EASY_BITS


def _made(pages: Sequence[Page], entries: Sequence[_Entry], several: bool) -> ExactList:
    lines = [HEADING]
    made: list[ExactStrings] = []
    for place, group in groupby(entries, key=lambda entry: entry[0]):
        page = pages[place]
        of_page = tuple(string.text for _, string in group)
        label = f"{_name(page.document)} p{page.number}" if several and page.document else f"p{page.number}"
        lines.append(f"{label}: {', '.join(map(_plain, of_page))}")
        made.append(ExactStrings(page.document, page.number, of_page))
    return ExactList(tuple(made), encodable("\n".join(lines)), 0)


def _plain(string: str) -> str:
    """The string itself, in quotation marks (as JSON has them) where it would not be clear how far it goes."""
    return json.dumps(string, ensure_ascii=False) if _UNCLEAR.search(string) else string


def _name(document: str) -> str:
    name = harmless(" ".join(encodable(document).split()))
    return name if len(name) <= _NAME_HEAD + _NAME_TAIL + 3 else f"{name[:_NAME_HEAD]}...{name[-_NAME_TAIL:]}"
