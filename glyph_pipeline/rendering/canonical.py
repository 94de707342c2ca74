"""Canonical text: what is drawn for a piece of source, with the source offset of every drawn character. Knows no lines and no pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.chain import FontChain, Kind
from glyph_pipeline.rendering.config import NewlineMark

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
_HAN = re.compile("[\u4e00-\u9fff]")
# What XML writes as an entity, which to ReportLab is a fragment of its own: & < >, and the no-break spaces of a run of spaces.
_ENTITIES = (0x26, 0x3C, 0x3E)

CodePoints = npt.NDArray[np.uint32]
Offsets = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Losses:
    """What is drawn otherwise than it stands in the source: characters no font has, characters that are removed, and those without a picture."""

    missing: Counter[str] = field(default_factory=Counter)
    removed: int = 0
    invisible: int = 0


@dataclass(frozen=True, slots=True)
class CanonicalBlock:
    """Whole paragraphs as they are drawn: units separated by line feeds; a unit is broken into visual lines by itself.

    ``codepoints`` (n,) are the drawn characters, ``source`` (n,) the offset of each in the document's text, ``marked``
    (n,) is True where the newline mark is drawn (None if there is none). ``unit_source`` (units,) is the offset at which
    each unit's source begins. ``paragraph_ends`` (units,) is True for the last unit of a paragraph. ``one_fragment``
    (paragraphs,) is for Chinese only: True where ReportLab takes the paragraph in one piece, and so strips its broken lines.
    ``loose`` and ``uncounted`` are positions, None but for texts with no-break spaces: see :func:`_gaps_by_no_break_spaces`.
    ``origin`` (n,) is for a part of a Chinese paragraph that is broken anew: positions in the block it was taken from.
    """

    codepoints: CodePoints
    source: Offsets
    marked: Mask | None
    unit_source: Offsets
    paragraph_ends: Mask
    one_fragment: Mask | None = None
    loose: Offsets | None = None
    uncounted: Offsets | None = None
    origin: Offsets | None = None


def is_chinese(text: str) -> bool:
    """Whether the official renderer breaks the whole of ``text`` by ReportLab's CJK rule: any character of U+4E00-U+9FFF."""
    return not text.isascii() and _HAN.search(text) is not None


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


def canonical_block(
    text: str, start: int, end: int, chain: FontChain, mark: NewlineMark, losses: Losses, chinese: bool = False
) -> CanonicalBlock:
    """What is drawn for text[start:end], which :func:`blocks` gave; adds to ``losses`` what could not be drawn as it is.

    ``chinese`` keeps a space at either end of a line and beside a coloured mark, as ReportLab's CJK rule does.
    """
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
    one_fragment, gaps = None, None
    if chinese:
        paragraph_source = line_source[in_paragraph == 0]
        one_fragment = _entity_free(codepoints, source, marked, paragraph_source)
        if marked is None or mark.colour is not None:  # a line break, or a mark in a colour, is a fragment
            one_fragment &= np.append(in_paragraph[1:] == 0, True)[in_paragraph == 0]
        codepoints, source, marked = _collapse_spaces(codepoints, source, marked, paragraph_source[1:] - 1, apart=mark.colour is not None)
    else:
        if (codepoints == _NO_BREAK_SPACE).any():
            gaps = _gaps_by_no_break_spaces(codepoints, source, marked, apart=mark.colour is not None)
        codepoints, source, marked = _collapse_spaces(codepoints, source, marked)
    kinds = chain.learn(codepoints)
    losses.invisible += int(((kinds == Kind.INVISIBLE) | (kinds == Kind.DIRECTING)).sum())
    lacking = kinds == Kind.MISSING
    if (kinds == Kind.JOINING).any():
        lacking |= _stray_tags(codepoints)
    if lacking.any():
        codepoints, source, marked = _with_escapes(codepoints, source, marked, np.flatnonzero(lacking), losses)
        chain.learn(codepoints)  # the letters of the escapes
    block = CanonicalBlock(codepoints, source, marked, unit_source, paragraph_ends, one_fragment)
    return block if gaps is None else _with_gaps(block, *gaps)


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


# A flag of a region: a black flag, tag characters, and the tag that ends them. Tags anywhere else are a text that hides.
_FLAG = re.compile("\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f")


def _stray_tags(codepoints: CodePoints) -> Mask:
    """Which characters are tags outside a flag: they would be invisible."""
    stray: Mask = (codepoints >= 0xE0020) & (codepoints <= 0xE007F)
    if stray.any():
        for flag in _FLAG.finditer(to_text(codepoints)):
            stray[flag.start() : flag.end()] = False
    return stray


@cache
def _white_space_table() -> Mask:
    table = np.zeros(0x110000, np.bool_)
    table[[ord(char) for char in _WHITE_SPACE]] = True
    return table


def _gaps_by_no_break_spaces(codepoints: CodePoints, source: Offsets, marked: Mask | None, apart: bool) -> tuple[Offsets, Offsets]:
    """(loose, doubled): source offsets of gaps between words that ReportLab treats oddly, before white space collapses.

    It reads one more, empty word at either end of a fragment (of the text between entities, line breaks and, if they stand
    ``apart``, marks) that has a U+00A0 in it and white space at that end. The word behind such a loose gap may over-fill its
    line by one space's shrinkage more. Behind a mark that ends with a space, a second space is drawn, but not counted.
    """
    pairs = _space_pairs(codepoints, marked)
    entities = np.isin(codepoints, (*_ENTITIES, _NEWLINE))
    entities[1:] |= pairs
    entities[:-1] |= pairs
    white = _white_space_table()[codepoints] & ~entities
    begins = np.append(True, entities[1:] | entities[:-1])
    if marked is not None and apart:
        begins[1:] |= (marked[1:] != marked[:-1]) | (marked[1:] & (source[1:] != source[:-1]))
    firsts = np.flatnonzero(begins)
    lasts = np.append(firsts[1:], len(codepoints)) - 1
    having = np.unique(np.searchsorted(firsts, np.flatnonzero(codepoints == _NO_BREAK_SPACE), "right") - 1)
    leading = firsts[having][white[firsts[having]] & (having > 0)]
    trailing = lasts[having][white[lasts[having]]]
    doubled = np.zeros(len(leading), np.bool_)
    if marked is not None and apart:
        doubled = marked[leading - 1] & white[leading - 1]
    runs = np.flatnonzero(white & ~np.append(False, white[:-1]))
    trailing = runs[np.searchsorted(runs, trailing, "right") - 1]
    return source[np.union1d(leading[~doubled], trailing)], source[leading[doubled] - 1]


def _with_gaps(block: CanonicalBlock, loose: Offsets, doubled: Offsets) -> CanonicalBlock:
    """The block with the gaps of :func:`_gaps_by_no_break_spaces`; a second space is a no-break space before the first."""

    def spaces(offsets: Offsets) -> Offsets:
        # The last character from each offset: of a mark's, the one after it.
        positions = np.searchsorted(block.source, offsets, "right") - 1
        found = (positions >= 0) & (block.codepoints[positions] == _SPACE) & (block.source[positions] == offsets)
        kept: Offsets = positions[found]
        return kept

    behind = spaces(doubled)
    drawn = replace(
        block,
        codepoints=np.insert(block.codepoints, behind, _NO_BREAK_SPACE),
        source=np.insert(block.source, behind, block.source[behind]),
        marked=None if block.marked is None else np.insert(block.marked, behind, True),
    )
    at = spaces(loose)
    return replace(drawn, loose=at + np.searchsorted(behind, at, "right"), uncounted=behind + np.arange(len(behind)))


def _entity_free(codepoints: CodePoints, source: Offsets, marked: Mask | None, paragraph_source: Offsets) -> Mask:
    """(paragraphs,): True where XML writes nothing of a paragraph as an entity; each begins at its ``paragraph_source``."""
    entities = np.isin(codepoints, _ENTITIES)
    entities[1:] |= _space_pairs(codepoints, marked)
    if marked is not None:
        entities &= ~marked
    free = np.ones(len(paragraph_source), np.bool_)
    free[np.searchsorted(paragraph_source, source[entities], "right") - 1] = False
    return free


def _space_pairs(codepoints: CodePoints, marked: Mask | None) -> Mask:
    """(n - 1,): True where a space follows a space, both of the text: the official renderer puts the marks in later."""
    is_space = codepoints == _SPACE
    if marked is not None:
        is_space &= ~marked
    pairs: Mask = is_space[1:] & is_space[:-1]
    return pairs


def _collapse_spaces(
    codepoints: CodePoints, source: Offsets, marked: Mask | None, fences: Offsets | None = None, apart: bool = False
) -> tuple[CodePoints, Offsets, Mask | None]:
    """Runs of spaces become no-break spaces; other white space becomes one space between words and nothing around a unit.

    With ``fences``, source offsets of line feeds, white space vanishes beside these line feeds only, and stays one space
    beside any other. ``apart`` keeps the white space of a mark apart from that of the text beside it.
    """
    if not codepoints.size:
        return codepoints, source, marked
    pairs = _space_pairs(codepoints, marked)
    if pairs.any():
        in_run = np.zeros(len(codepoints), np.bool_)
        in_run[1:] |= pairs
        in_run[:-1] |= pairs
        codepoints = np.where(in_run, np.uint32(_NO_BREAK_SPACE), codepoints)
    white = _white_space_table()[codepoints]
    if not white.any():
        return codepoints, source, marked
    begins, finishes = white.copy(), white.copy()  # first and last characters of runs
    begins[1:] &= ~white[:-1]
    finishes[:-1] &= ~white[1:]
    if apart and marked is not None:
        tags = (marked[1:] != marked[:-1]) | (marked[1:] & (source[1:] != source[:-1]))
        begins[1:] |= white[1:] & tags
        finishes[:-1] |= white[:-1] & tags
    starts, lasts = np.flatnonzero(begins), np.flatnonzero(finishes)
    fence = codepoints == _NEWLINE
    if fences is not None:
        fence &= np.isin(source, fences)
    fence = np.concatenate(([True], fence, [True]))  # fence[i + 1] is of codepoints[i]
    between_words = ~fence[starts] & ~fence[lasts + 2]
    if apart and marked is not None:
        between_words |= marked[starts]
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
