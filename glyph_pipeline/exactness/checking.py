"""Checks the exact strings of an answer against the source text: found, probably misread, or unknown. Knows no model and no pictures."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

from glyph_pipeline.exactness.finder import ExactString, find_exact
from glyph_pipeline.exactness.kinds import LATIN, Kind
from glyph_pipeline.exactness.nearness import SHORTEST, Haystack, nearest
from glyph_pipeline.exactness.spelling import CASELESS, folded, same

Status: TypeAlias = Literal["found", "misread", "unknown"]

# What makes a place a piece of a longer token.
_BEFORE, _BEHIND = re.compile(rf"[{LATIN}]$"), re.compile(rf"[{LATIN}]")
_NUMBER_BEFORE, _NUMBER_BEHIND = re.compile(rf"[{LATIN}]$|[0-9][.,]$"), re.compile(rf"[{LATIN}]|[.,][0-9]")
# A page in square brackets is a citation: [ferry.txt, page 3], [pp. 3-5], [第3页].
_CITATION = re.compile(r"[\[【][^\[\]【】\n]{0,240}?(?:\bpages?|\bpp?\.|第)\s*[0-9][^\[\]【】\n]{0,120}[\]】]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Check:
    """What became of one exact string of an answer: ``string`` is ``answer[start:end]``.

    ``found``: it stands in the source, spelled ``source``, which may differ in white space, hyphens, or case where that means nothing.
    ``misread``: it does not, but ``source`` is within a few characters; ``candidates`` counts the spellings that are equally near.
    ``unknown``: nothing like it is there. ``document``, ``page`` and ``offset`` (characters) are those of the first place in the
    source, ``places`` how many there are. ``repaired``: the answer was changed to the source's spelling, ``string`` is what stood there.
    """

    string: str
    start: int
    end: int
    kind: Kind
    status: Status
    document: str | None = None
    page: int | None = None
    offset: int | None = None
    source: str | None = None
    places: int = 0
    candidates: int = 0
    repaired: bool = False

    @property
    def differs(self) -> bool:
        """Whether the source spells it otherwise."""
        return self.source is not None and self.source != self.string


@dataclass(frozen=True)
class SourceText:
    """A document's text as it was drawn: ``pages`` are (start in characters, number) of its pages in order, ``strings`` its exact strings."""

    document: str | None
    text: str
    pages: tuple[tuple[int, int], ...]
    strings: tuple[ExactString, ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.pages]

    def page_at(self, offset: int) -> int | None:
        """The number of the page that a character is on; None without pages."""
        return self.pages[max(0, bisect_right(self._starts, offset) - 1)][1] if self.pages else None

    @cached_property
    def _string_starts(self) -> list[int]:
        return [string.start for string in self.strings]

    def has_around(self, start: int, end: int) -> bool:
        """Whether ``text[start:end]`` is only a piece of an exact string."""
        place = bisect_right(self._string_starts, start) - 1
        return place >= 0 and self.strings[place].end >= end and self.strings[place].end - self.strings[place].start > end - start


@dataclass(frozen=True, slots=True)
class _Place:
    source: SourceText
    string: ExactString


def check_answer(answer: str, sources: Sequence[SourceText]) -> tuple[Check, ...]:
    """The exact strings of an answer, looked up in all sources, in the answer's order. Citations in square brackets are none.

    Also looked for is what the finder does not see as exact: a string of the source that stands in the answer with a blank or a
    bracket in it. Where a string stands in several sources, the first names the place.
    """
    cited = [match.span() for match in _CITATION.finditer(answer)]
    asked = [string for string in find_exact(answer) if all(string.end <= start or string.start >= end for start, end in cited)]
    if not asked and not any(one.isdigit() for one in answer):
        return ()
    table = _Table(sources)
    checks: list[Check] = []
    pieces: list[Check] = []
    rest: list[ExactString] = []
    for string in asked:
        check, piece = _found(string, sources, table)
        if check is None:
            rest.append(string)
        else:
            (pieces if piece else checks).append(check)
    near = _nearest(rest, table)
    loose = _loose(answer, cited, checks, near, sources, table)
    # A piece of a longer string may be all that the finder saw of it: of a UUID with a blank in it, say, the last group.
    for check in [*pieces, *near]:
        covered = any(check.start < other.end and other.start < check.end for other in loose)
        if check.status == "misread" or not covered:
            checks.append(check)
    return tuple(sorted([*checks, *loose], key=lambda check: check.start))


def repaired(answer: str, checks: Iterable[Check]) -> tuple[str, tuple[Check, ...]]:
    """The answer with the source's spelling for each string that is spelled otherwise, or was misread, and is near one spelling alone.

    The offsets of the checks returned are those of the new text; ``string`` remains what the reader answered.
    """
    pieces: list[str] = []
    moved: list[Check] = []
    last = shift = 0
    for check in sorted(checks, key=lambda check: check.start):
        if check.differs and check.candidates == 1 and not check.repaired:
            assert check.source is not None
            pieces += [answer[last : check.start], check.source]
            start = check.start + shift
            last = check.end
            shift += len(check.source) - (check.end - check.start)
            moved.append(replace(check, start=start, end=start + len(check.source), repaired=True))
        else:
            moved.append(replace(check, start=check.start + shift, end=check.end + shift))
    return "".join([*pieces, answer[last:]]), tuple(moved)


class _Table:
    """The exact strings of all sources: by spelling, and by spelling as far as it means something."""

    def __init__(self, sources: Sequence[SourceText]) -> None:
        self.spelled: dict[str, list[_Place]] = {}
        for source in sources:
            for string in source.strings:
                self.spelled.setdefault(string.text, []).append(_Place(source, string))

    @cached_property
    def same(self) -> dict[str, str]:
        """The first spelling of each meaning."""
        table: dict[str, str] = {}
        for text, places in self.spelled.items():
            table.setdefault(same(text, places[0].string.kind), text)
        return table

    @cached_property
    def folded(self) -> dict[str, str]:
        """The first spelling by what is compared in search of near ones."""
        table: dict[str, str] = {}
        for text, places in self.spelled.items():
            table.setdefault(folded(text, places[0].string.kind), text)
        return table


def _found(string: ExactString, sources: Sequence[SourceText], table: _Table) -> tuple[Check | None, bool]:
    """The check of a string that is there, and whether it is there only as a piece of longer ones."""
    places = table.spelled.get(string.text)
    spelling = string.text
    if places is None:
        offsets = [(source, offset) for source in sources for offset in _occurrences(string, source.text)]
        if offsets:
            source, offset = offsets[0]
            check = Check(
                *_head(string), "found", source.document, source.page_at(offset), offset, string.text, places=len(offsets), candidates=1
            )
            return check, all(source.has_around(offset, offset + len(string.text)) for source, offset in offsets)
        known = table.same.get(same(string.text, string.kind))
        if known is None:
            return None, False
        spelling, places = known, table.spelled[known]
    return _placed(string, "found", spelling, places, 1), False


def _occurrences(string: ExactString, text: str) -> Iterator[int]:
    """Where a string stands in a text, not as a piece of a longer one."""
    before, behind = (_NUMBER_BEFORE, _NUMBER_BEHIND) if string.kind == "number" else (_BEFORE, _BEHIND)
    # Much faster than a regular expression that opens with a look behind.
    at = text.find(string.text)
    while at >= 0:
        end = at + len(string.text)
        if not before.search(text, max(0, at - 2), at) and not behind.match(text, end):
            yield at
        at = text.find(string.text, end)


def _nearest(strings: Sequence[ExactString], table: _Table) -> list[Check]:
    """For each string the check that says what it was misread for, or that it is unknown."""
    if not strings or not table.spelled:
        return [Check(*_head(string), "unknown") for string in strings]
    choices = list(table.folded)
    checks: list[Check] = []
    for string, places in zip(strings, nearest([folded(string.text, string.kind) for string in strings], choices), strict=True):
        spellings = [table.folded[choices[place]] for place in places]
        if spellings:
            checks.append(_placed(string, "misread", spellings[0], table.spelled[spellings[0]], len(spellings)))
        else:
            checks.append(Check(*_head(string), "unknown"))
    return checks


def _loose(
    answer: str,
    cited: Sequence[tuple[int, int]],
    found: Sequence[Check],
    near: Sequence[Check],
    sources: Sequence[SourceText],
    table: _Table,
) -> list[Check]:
    """Strings of the source that stand in the answer in a form that does not look exact, or not whole."""
    there = {check.source for check in [*found, *near] if check.source is not None}
    taken = [*cited, *((check.start, check.end) for check in [*found, *near] if check.status != "unknown")]
    haystack = Haystack(answer, taken)
    hits: list[tuple[int, int, int, str]] = []
    for text, places in table.spelled.items():
        if len(text) >= SHORTEST and text not in there:
            for span in haystack.nearest(text, fold=places[0].string.kind in CASELESS):
                hits.append((span.distance, span.start, span.end, text))
    hits.sort(key=lambda hit: hit[0])
    checks: list[Check] = []
    for distance, start, end, text in hits:
        if any(start < check.end and check.start < end for check in checks):
            continue
        rivals = {other for least, first, last, other in hits if least == distance and first < end and start < last}
        places = table.spelled[text]
        string = ExactString(places[0].string.kind, answer[start:end], start, end)
        meant = distance == 0 or same(string.text, string.kind) == same(text, string.kind)
        checks.append(_placed(string, "found" if meant else "misread", text, places, 1 if meant else len(rivals)))
    return checks


def _placed(string: ExactString, status: Status, spelling: str, places: Sequence[_Place], candidates: int) -> Check:
    first = places[0]
    offset = first.string.start
    return Check(
        *_head(string),
        status,
        first.source.document,
        first.source.page_at(offset),
        offset,
        spelling,
        places=len(places),
        candidates=candidates,
    )


def _head(string: ExactString) -> tuple[str, int, int, Kind]:
    return string.text, string.start, string.end, string.kind
