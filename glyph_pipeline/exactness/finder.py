"""Finds the strings of a text that have to be read to the letter. Knows no pages and no questions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from glyph_pipeline.exactness.kinds import ANY, LATIN, LONGEST, LOOKS, Kind

# Every kind has a digit, an @ or a scheme in it, or opens with www.
_SIGN = re.compile(r"[0-9@]|://|www\.")
_BLANK = re.compile(r"\s")
# Where a token begins; words of letters alone, with a blank or the like behind them, are passed over.
_BEGIN = re.compile(rf"(?<![{LATIN}])(?:\+(?=[1-9])|\((?=[0-9]{{2}})|(?![^\W\d_]{{1,40}}(?![{LATIN}@:/.+%_-]))[{LATIN}])")
_WORD = re.compile(rf"[{LATIN}]*")
_COMPOUND = re.compile(rf"[{LATIN}+/=_.-]*")
# Strings with spaces in them (IBANs, phone numbers) have a digit in every second group at least.
_REACH = 8


@dataclass(frozen=True, slots=True)
class ExactString:
    """A string that has to be read to the letter: ``text`` is ``source[start:end]``, offsets in characters."""

    kind: Kind
    text: str
    start: int
    end: int


def find_exact(text: str) -> tuple[ExactString, ...]:
    """The exact strings of a text in order, none overlapping another. Takes time in proportion to the text, whatever it holds."""
    found: list[ExactString] = []
    for start, end in _regions(text):
        found += _in_region(text, start, end)
    return tuple(found)


def looks_exact(token: str) -> bool:
    """Whether the whole of a token is one exact string."""
    found = find_exact(token)
    return len(found) == 1 and found[0].text == token


def _regions(text: str) -> Iterator[tuple[int, int]]:
    """The stretches of a text that may hold exact strings: words with a sign of one in them, joined where they stand near."""
    first = last = -1
    sign = _SIGN.search(text)
    while sign is not None:
        start = sign.start()
        before = text[max(0, start - LONGEST) : start]
        back = len(before) - len(before.rstrip()) if before[-1:].isspace() else 0
        if not back:
            start -= len(before.split()[-1]) if before.split() else 0
        blank = _BLANK.search(text, sign.end())
        end = blank.start() if blank else len(text)
        if first >= 0 and start - last <= _REACH and "\n" not in text[last:start]:
            last = end
        else:
            if first >= 0:
                yield first, last
            first, last = max(start, last), end
        sign = _SIGN.search(text, end)
    if first >= 0:
        yield first, last


def _in_region(text: str, start: int, end: int) -> Iterator[ExactString]:
    at = start
    while (begin := _BEGIN.search(text, at, end)) is not None:
        at = begin.start()
        if text[at - 1 : at] == "\\" and text[at] in "ntrbfuxN":
            # An escape of a string literal: \n, \u4e2d.
            at += {"u": 5, "x": 3}.get(text[at], 1)
            continue
        compound = _COMPOUND.match(text, at, end)
        if compound is not None and compound.end() - at > LONGEST:
            at = compound.end()
            continue
        for look in LOOKS if ANY.match(text, at, end) else ():
            match = look.pattern.match(text, at, end)
            if match is None:
                continue
            string = look.holds(match.group())
            if string is None:
                continue
            if look.kind is not None:
                yield ExactString(look.kind, string, at, at + len(string))
            at += len(string)
            break
        else:
            word = _WORD.match(text, at, end)
            at = max(at + 1, word.end() if word else 0)
