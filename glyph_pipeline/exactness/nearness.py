"""Nearness: how far two spellings may lie apart to be one string misread, and where in a text a string stands misread. Knows no sources."""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from glyph_pipeline.exactness.kinds import LATIN

SHORTEST = 8
"""Characters of the shortest string that is looked for in running text; shorter ones resemble too much by chance."""

# Characters of the pieces that are looked up; a misread string has at least one piece unharmed.
_GRAM = 4
# Places of one piece that are tried; a piece that occurs everywhere tells nothing.
_PLACES = 64
# Choices that are compared with at a time: a bound on memory (a byte for each pair).
_BATCH = 20_000
_SIGN = re.compile(rf"[{LATIN}]")


@dataclass(frozen=True, slots=True)
class Span:
    """Where a string stands misread: ``text[start:end]``, and by how many insertions, deletions and replacements (``distance``)."""

    start: int
    end: int
    distance: int


def allowed(string: str) -> int:
    """By how many edits a string may differ from its source's spelling to count as misread.

    One under six characters, two above, for long strings one in twelve. Digits alone: one up to nine, since by then every second
    number lies near another by chance.
    """
    if len(string) < 6 or (len(string) < 10 and not any(one.isalpha() for one in string)):
        return 1
    return max(2, len(string) // 12)


def osa_distance() -> Callable[..., int]:
    """RapidFuzz's optimal string alignment distance: edits, with the swap of two neighbours as one."""
    module: Any = importlib.import_module("rapidfuzz.distance.OSA")
    distance: Callable[..., int] = module.distance
    return distance


def pieces(string: str, most: int, shortest: int = 1) -> list[tuple[int, str]]:
    """Pieces of a string with their offsets, of which at least one stands unharmed in whatever differs from it by ``most`` edits."""
    length = len(string) // (most + 1)
    if length < shortest:
        return []
    size = min(_GRAM, length)
    return [(place * length, string[place * length : place * length + size]) for place in range(most + 1)]


def nearest(strings: Sequence[str], choices: Sequence[str]) -> list[list[int]]:
    """For each of the strings the places of the choices nearest to it, all equally near; none where none is near enough."""
    import numpy as np

    process: Any = importlib.import_module("rapidfuzz.process")
    limits = [allowed(string) for string in strings]
    best: list[tuple[int, list[int]]] = [(limit, []) for limit in limits]
    for begin in range(0, len(choices) if strings else 0, _BATCH):
        batch = choices[begin : begin + _BATCH]
        table = process.cdist(strings, batch, scorer=osa_distance(), score_cutoff=max(limits), dtype=np.uint8)
        for number, row in enumerate(table):
            least, places = best[number]
            here = int(row.min())
            if here <= least:
                found = [begin + int(place) for place in np.flatnonzero(row == here)]
                best[number] = (here, found if here < least else places + found)
    return [places for _, places in best]


class Haystack:
    """A text in which strings are looked for that may stand there misread. White space in it counts nothing.

    ``taken`` are ranges (start, end) that are known to be something else.
    """

    def __init__(self, text: str, taken: Collection[tuple[int, int]] = ()) -> None:
        self._text = text
        covered = bytearray(len(text))
        for start, end in taken:
            covered[start:end] = b"\1" * (end - start)
        # A range that is taken parts what is before it from what is behind it.
        self._offsets = [place for place, one in enumerate(text) if not one.isspace()]
        self._plain = "".join("\0" if covered[place] else text[place] for place in self._offsets)
        self._lower = "".join(one.lower() if len(one.lower()) == 1 else one for one in self._plain)
        self._grams: dict[str, list[int]] = defaultdict(list)
        for size in range(2, _GRAM + 1):
            for place in range(len(self._lower) - size + 1):
                self._grams[self._lower[place : place + size]].append(place)
        self._distance = osa_distance()

    def nearest(self, string: str, *, fold: bool = False) -> list[Span]:
        """The places nearest to a string (its spelling without white space), all equally near and none overlapping another.

        None where nothing is near enough. A distance of 0 means that only white space was put in. ``fold``: case means nothing.
        """
        plain = "".join(string.split())
        most = allowed(plain)
        if len(plain) < SHORTEST:
            return []
        spans: set[tuple[int, int, int]] = set()
        wanted, text = (plain.lower(), self._lower) if fold else (plain, self._plain)
        for start in self._candidates(plain.lower(), most):
            spans.update(self._best(wanted, text, start, most))
        if not spans:
            return []
        least = min(distance for distance, _, _ in spans)
        found: list[Span] = []
        for distance, start, end in sorted(spans):
            if distance > least:
                break
            if all(end <= one.start or start >= one.end for one in found):
                found.append(Span(start, end, distance))
        return found

    def _candidates(self, wanted: str, most: int) -> set[int]:
        """Where in the text without white space the string may begin, by a piece that stands there unharmed."""
        starts: set[int] = set()
        for offset, piece in pieces(wanted, most, 2):
            places = self._grams.get(piece)
            if places is not None and len(places) <= _PLACES:
                starts.update(place - offset for place in places)
        return starts

    def _best(self, wanted: str, text: str, start: int, most: int) -> Iterator[tuple[int, int, int]]:
        size = len(wanted)
        if self._distance(wanted, text[max(0, start) : max(0, start + size)], score_cutoff=2 * most) > 2 * most:
            return
        best: tuple[int, int, int, int] | None = None
        for first in range(max(0, start - most), min(len(text), start + most) + 1):
            for last in range(max(first + 1, first + size - most), min(len(text), first + size + most) + 1):
                piece = text[first:last]
                if "\0" in piece:
                    continue
                distance = self._distance(wanted, piece, score_cutoff=most)
                if distance <= most and (best is None or (distance, abs(last - first - size)) < best[:2]):
                    best = (distance, abs(last - first - size), first, last)
        if best is None:
            return
        begin, end = self._offsets[best[2]], self._offsets[best[3] - 1] + 1
        # A token is misread as a whole: what hangs on to the piece belongs to it.
        while begin > 0 and _SIGN.match(self._text[begin - 1]) and _SIGN.match(self._text[begin]):
            begin -= 1
        while end < len(self._text) and _SIGN.match(self._text[end]) and _SIGN.match(self._text[end - 1]):
            end += 1
        whole = "".join(self._text[begin:end].split())
        if len(whole) > size + most:
            return
        whole = whole if text is self._plain else whole.lower()
        distance = self._distance(wanted, whole, score_cutoff=most)
        if distance <= most:
            yield distance, begin, end


def corrected(lines: Sequence[str], strings: Sequence[str]) -> list[str]:
    """Lines of text as read, with strings that are known to stand in them put in where they were misread, one place each.

    A string that already stands there, or lies near several places, changes nothing. One that was cut over line ends goes whole
    into the line where it begins.
    """
    text = "\n".join(lines)
    missing: list[str] = []
    taken: list[tuple[int, int]] = []
    for string in strings:
        places = [(match.start(), match.end()) for match in re.finditer(_whole(string), text)]
        taken += places
        if not places:
            missing.append(string)
    if not missing:
        return list(lines)
    haystack = Haystack(text, taken)
    chosen: list[tuple[int, int, int, str]] = []
    for string in missing:
        spans = haystack.nearest(string)
        if len(spans) == 1:
            chosen.append((spans[0].distance, spans[0].start, spans[0].end, string))
    kept: list[tuple[int, int, str]] = []
    for distance, start, end, string in sorted(chosen):
        rivals = [one for one in chosen if one[1] < end and start < one[2] and one[3] != string]
        if all(one[0] > distance for one in rivals):
            kept.append((start, end, string))
    for start, end, string in sorted(kept, reverse=True):
        breaks = text[start:end].count("\n")
        text = text[:start] + string + "\n" * breaks + text[end:]
    return text.split("\n")


def _whole(string: str) -> str:
    return rf"(?<![{LATIN}]){re.escape(string)}(?![{LATIN}])"
