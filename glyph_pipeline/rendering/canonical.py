"""Canonical text: what is drawn for a piece of source, with the source offset of every drawn character. Knows no lines and no pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.config import NewlineMark
from glyph_pipeline.rendering.fonts import Font

# The official renderer makes one paragraph of every 30 source lines.
LINES_PER_PARAGRAPH = 30
# Source characters worked on at a time: large enough to spread numpy's call overhead, small enough for the caches.
BLOCK_CHARACTERS = 1 << 16

# ReportLab's white space: where a line may break, and what collapses to one space. U+00A0 is not in it.
_WHITE_SPACE = (
    "\t\v\f\r\x1c\x1d\x1e\x1f \x85\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)
# Removed by the official renderer before anything else: soft hyphen and zero-width space.
_REMOVED = (0x00AD, 0x200B)
_NEWLINE, _SPACE, _NO_BREAK_SPACE = 0x0A, 0x20, 0xA0

CodePoints = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Losses:
    """What is drawn otherwise than it stands in the source: characters no font has, and characters that are removed."""

    missing: Counter[str] = field(default_factory=Counter)
    removed: int = 0


@dataclass(frozen=True, slots=True)
class CanonicalBlock:
    """Whole paragraphs as they are drawn: units separated by line feeds; a unit is broken into visual lines by itself.

    ``codepoints`` (n,) are the drawn characters, ``source`` (n,) the offset of each in the document's text, ``marked``
    (n,) is True where the newline mark is drawn (None if there is none). ``unit_source`` (units,) is the offset at which
    each unit's source begins. ``paragraph_ends`` (units,) is True for the last unit of a paragraph.
    """

    codepoints: CodePoints
    source: Offsets
    marked: Mask | None
    unit_source: Offsets
    paragraph_ends: Mask


def blocks(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of consecutive pieces of ``text`` of whole paragraphs; the line feed between two pieces is in neither."""
    start = 0
    while True:
        end = start - 1
        while end < start + BLOCK_CHARACTERS:
            for _ in range(LINES_PER_PARAGRAPH):
                end = text.find("\n", end + 1)
                if end < 0:
                    yield start, len(text)
                    return
        yield start, end
        start = end + 1


def canonical_block(text: str, start: int, end: int, font: Font, mark: NewlineMark, losses: Losses) -> CanonicalBlock:
    """What is drawn for text[start:end], which :func:`blocks` gave; adds to ``losses`` what could not be drawn as it is."""
    codepoints = np.frombuffer(text[start:end].encode("utf-32-le", "surrogatepass"), np.uint32)
    source = np.arange(start, end, dtype=np.int64)
    newlines = np.flatnonzero(codepoints == _NEWLINE)
    line_source = np.concatenate(([start], newlines + (start + 1)))
    in_paragraph = np.arange(len(line_source)) % LINES_PER_PARAGRAPH
    marked = None
    if mark.text is None:
        unit_source = line_source
        paragraph_ends = in_paragraph == LINES_PER_PARAGRAPH - 1
        paragraph_ends[-1] = True
    else:
        joined = newlines[in_paragraph[1:] != 0]
        codepoints, source, marked = _with_marks(codepoints, source, joined, mark.text)
        unit_source = line_source[in_paragraph == 0]
        paragraph_ends = np.ones(len(unit_source), np.bool_)

    dropped = (codepoints == _REMOVED[0]) | (codepoints == _REMOVED[1])
    if dropped.any():
        losses.removed += int(dropped.sum())
        codepoints, source, marked = _select(~dropped, codepoints, source, marked)
    codepoints, source, marked = _collapse_spaces(codepoints, source, marked)
    lacking = ~font.has[codepoints] & (codepoints != _NEWLINE)
    if lacking.any():
        codepoints, source, marked = _with_escapes(codepoints, source, marked, np.flatnonzero(lacking), losses)
    return CanonicalBlock(codepoints, source, marked, unit_source, paragraph_ends)


def escape(char: str) -> str:
    """The visible stand-in for a character that no font has: ``[U+1F525]``."""
    return f"[U+{ord(char):04X}]"


def to_text(codepoints: CodePoints) -> str:
    """The characters as a str."""
    return codepoints.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")


def _select(keep: Mask, codepoints: CodePoints, source: Offsets, marked: Mask | None) -> tuple[CodePoints, Offsets, Mask | None]:
    return codepoints[keep], source[keep], None if marked is None else marked[keep]


def _with_marks(codepoints: CodePoints, source: Offsets, newlines: Offsets, mark: str) -> tuple[CodePoints, Offsets, Mask]:
    """Each of the ``newlines`` (positions) replaced by the characters of ``mark``, which keep its source offset."""
    characters = np.frombuffer(mark.encode("utf-32-le"), np.uint32)
    counts = np.ones(len(codepoints), np.int64)
    counts[newlines] = len(characters)
    origin = np.repeat(np.arange(len(codepoints)), counts)
    is_mark = np.zeros(len(codepoints), np.bool_)
    is_mark[newlines] = True
    marked = is_mark[origin]
    drawn = codepoints[origin]
    drawn[marked] = np.tile(characters, len(newlines))
    return drawn, source[origin], marked


@cache
def _white_space_table() -> Mask:
    table = np.zeros(0x110000, np.bool_)
    table[[ord(char) for char in _WHITE_SPACE]] = True
    return table


def _collapse_spaces(codepoints: CodePoints, source: Offsets, marked: Mask | None) -> tuple[CodePoints, Offsets, Mask | None]:
    """Runs of spaces become no-break spaces; other white space becomes one space between words and nothing around a unit."""
    if not codepoints.size:
        return codepoints, source, marked
    is_space = codepoints == _SPACE
    if marked is not None:
        is_space &= ~marked  # the official renderer puts the marks in after this
    pairs = is_space[1:] & is_space[:-1]
    if pairs.any():
        in_run = np.zeros(len(codepoints), np.bool_)
        in_run[1:] |= pairs
        in_run[:-1] |= pairs
        codepoints = np.where(in_run, np.uint32(_NO_BREAK_SPACE), codepoints)
    white = _white_space_table()[codepoints]
    if not white.any():
        return codepoints, source, marked
    edges = np.diff(np.concatenate(([False], white, [False])).astype(np.int8))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    fenced = np.concatenate(([_NEWLINE], codepoints, [_NEWLINE]))  # fenced[i + 1] is codepoints[i]
    between_words = (fenced[starts] != _NEWLINE) & (fenced[ends + 1] != _NEWLINE)
    keep = ~white
    keep[starts[between_words]] = True
    codepoints = np.where(white, np.uint32(_SPACE), codepoints)
    return _select(keep, codepoints, source, marked)


def _with_escapes(
    codepoints: CodePoints, source: Offsets, marked: Mask | None, lacking: Offsets, losses: Losses
) -> tuple[CodePoints, Offsets, Mask | None]:
    """Each character at the positions ``lacking`` replaced by its visible escape, which keeps its source offset."""
    escapes = [escape(chr(code)) for code in codepoints[lacking].tolist()]
    losses.missing.update(chr(code) for code in codepoints[lacking].tolist())
    lengths = np.fromiter(map(len, escapes), np.int64)
    counts = np.ones(len(codepoints), np.int64)
    counts[lacking] = lengths
    origin = np.repeat(np.arange(len(codepoints)), counts)
    is_lacking = np.zeros(len(codepoints), np.bool_)
    is_lacking[lacking] = True
    drawn = codepoints[origin]
    drawn[is_lacking[origin]] = np.frombuffer("".join(escapes).encode("utf-32-le"), np.uint32)
    return drawn, source[origin], None if marked is None else marked[origin]
