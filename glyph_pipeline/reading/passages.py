"""Rebuilds sentences from lines of text, groups them into passages, ranks those for a question. Knows no picture and no OCR engine."""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from glyph_pipeline.ranking import CJK, ONE_CJK, bm25, terms

LENGTH = 600
"""Characters that a passage is filled up to with whole sentences; a CJK character counts as three.

Measured on 26 questions over docs/sample.txt: the first quote answers 17 of them at 400, 21 at 500, 24 at 600 and 700.
"""

LONGEST = 400
"""Characters after which a sentence that does not end is ended at the next space."""


@dataclass(frozen=True, slots=True)
class TextLine:
    """One line as read: its page (1-based, counted over all pages), its document, its text, whether blank space sets it off above."""

    page: int
    document: str | None
    text: str
    set_off: bool = False


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence and where it begins; ``opens`` if it is the first of its paragraph."""

    page: int
    document: str | None
    text: str
    opens: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """Sentences ``first`` up to but not including ``last`` of the list it was made from, joined; the page is the one it begins on."""

    page: int
    document: str | None
    text: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage and how well it matches: BM25, above 0, comparable within one ranking only."""

    passage: Passage
    score: float


_MARK = re.compile(r"(?<!\S)(?:[\\＼(|/]n)+(?!\S)")
"""A drawn newline mark, as Glyph's English pages have it: a backslash and an n between spaces, the backslash at times misread."""

_END = re.compile(rf"[.!?…]+[\"'”’»)\]]*(?=\s+[\"'“‘«(\[¿¡]*[^\W_a-zß-ÿ{CJK}])|[。！？]+[”’」』）]*")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“‘])(?:[^\W\d_]\.(?=\s)|(?:Mrs?|Ms|Dr|Prof|Rev|Hon|Capt|Col|Gen|Lt|Sgt|Sr|Jr|St|vs|cf)\.|(?:Nos?|pp?|Figs?|Vol|Nr)\.(?=\s+\d))"
)
"""A full stop that ends no sentence."""


def sentences(lines: Iterable[TextLine]) -> list[Sentence]:
    """The sentences of the lines in order. They run over lines and pages, never over paragraphs or documents."""
    found: list[Sentence] = []
    paragraph = _Paragraph()
    for line in lines:
        if line.document != paragraph.document or line.set_off:
            found += paragraph.take()
        paragraph.document = line.document
        for number, piece in enumerate(_MARK.split(line.text)):
            if number:
                found += paragraph.take()
            paragraph.add(line.page, piece.strip())
    return found + paragraph.take()


def passages(parts: Sequence[Sentence], length: int = LENGTH) -> list[Passage]:
    """Overlapping runs of whole sentences of one paragraph each, one from each sentence on that gets further than the one before.

    A passage is at most ``length`` characters long unless it is a single sentence.
    """
    sizes = [len(part.text) + 2 * len(ONE_CJK.findall(part.text)) + 1 for part in parts]
    found: list[Passage] = []
    last = size = 0
    for first, part in enumerate(parts):
        reached = last
        if last <= first:
            last, size = first + 1, sizes[first]
        while last < len(parts) and not parts[last].opens and size + sizes[last] <= length + 1:
            size += sizes[last]
            last += 1
        if last > reached:
            text = functools.reduce(_joined, (one.text for one in parts[first:last]))
            found.append(Passage(part.page, part.document, text, first, last))
        size -= sizes[first]
    return found


def rank(candidates: Sequence[Passage], question: str, best: int = 3) -> list[Hit]:
    """At most ``best`` passages that share a term with the question, best first, no two sharing a sentence.

    A term of the question that occurs nowhere stands for the most similar one that does, so that a misread letter does
    not hide a name.
    """
    scores = bm25([terms(passage.text) for passage in candidates], question)
    order = sorted(range(len(candidates)), key=lambda number: (-scores[number], number))
    hits: list[Hit] = []
    for number in order:
        passage = candidates[number]
        if scores[number] <= 0 or len(hits) == best:
            break
        if all(passage.first >= hit.passage.last or passage.last <= hit.passage.first for hit in hits):
            hits.append(Hit(passage, scores[number]))
    return hits


class _Paragraph:
    """Collects the lines of one paragraph and remembers on which page each begins."""

    def __init__(self) -> None:
        self.document: str | None = None
        self._pieces: list[str] = []
        self._starts: list[int] = []
        self._pages: list[int] = []
        self._length = 0

    def add(self, page: int, piece: str) -> None:
        """Append a line's text."""
        if not piece:
            return
        if self._pieces:
            space = _space(self._pieces[-1], piece)
            self._pieces.append(space)
            self._length += len(space)
        self._starts.append(self._length)
        self._pages.append(page)
        self._pieces.append(piece)
        self._length += len(piece)

    def take(self) -> list[Sentence]:
        """Its sentences; it is empty afterwards."""
        text = "".join(self._pieces)
        found: list[Sentence] = []
        for start, stop in _cuts(text):
            page = self._pages[bisect.bisect_right(self._starts, start) - 1]
            found.append(Sentence(page, self.document, text[start:stop], not found))
        self._pieces, self._starts, self._pages, self._length = [], [], [], 0
        return found


def _space(left: str, right: str) -> str:
    """What parts two pieces of running text: nothing between CJK characters and after a hyphen that breaks a word."""
    if ONE_CJK.match(left[-1]) and ONE_CJK.match(right[0]):
        return ""
    if left[-1] == "-" and left[-2:-1].isalpha() and right[0].isalpha():
        return ""
    return " "


def _joined(left: str, right: str) -> str:
    return left + _space(left, right) + right


def _cuts(text: str) -> list[tuple[int, int]]:
    """Begin and end of each sentence in a paragraph, without the white space around it."""
    abbreviated = {match.end() for match in _ABBREVIATION.finditer(text)}
    ends = [match.end() for match in _END.finditer(text) if match.start() + 1 not in abbreviated]
    spans: list[tuple[int, int]] = []
    start = 0
    for end in [*ends, len(text)]:
        while start < end and text[start].isspace():
            start += 1
        while end - start > 1.5 * LONGEST:
            space = text.find(" ", start + LONGEST, end)
            stop = space if space >= 0 else start + LONGEST
            spans.append((start, stop))
            start = stop + (space >= 0)
        if start < end:
            spans.append((start, start + len(text[start:end].rstrip())))
        start = end
    return spans
