"""Line breaking: greedy, as ReportLab's paragraphs break, on exact integer widths. Knows no pages and no pixels."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.canonical import CanonicalBlock, Offsets
from glyph_pipeline.rendering.shaping import ShapedText

_NEWLINE, _SPACE = 0x0A, 0x20

# ReportLab's spaceShrinkage: a line may be over-full by a twentieth of its spaces, which are then drawn narrower.
SHRINK = 20
# Float noise in the width, in 1/SHRINK font units; far below the finest advance.
_SLACK = 0.01


@dataclass(frozen=True, slots=True)
class VisualLines:
    """The visual lines of a block, all of shape (lines,).

    ``starts`` and ``ends`` are positions in the block's code points, ``source`` where the line begins in the document.
    ``hard`` is True where a line ends because its unit ends (it is not justified), ``paragraph`` counts the block's paragraphs.
    """

    starts: Offsets
    ends: Offsets
    source: Offsets
    hard: npt.NDArray[np.bool_]
    paragraph: Offsets


def break_lines(block: CanonicalBlock, shaped: ShapedText, width: float, first_width: float) -> VisualLines:
    """Break every unit of the block to ``width`` font units, the first line of each paragraph to ``first_width``.

    A word goes to the next line if it does not fit; a word wider than a whole line fills up the line it begins on and is
    split between characters. An empty last unit of a paragraph has no line, nor has a paragraph of two empty units (to
    ReportLab it is blank); any other empty unit has one.
    """
    newlines = np.flatnonzero(block.codepoints == _NEWLINE)
    unit_starts = np.concatenate(([0], newlines + 1))
    unit_ends = np.concatenate((newlines, [len(block.codepoints)]))
    paragraph = np.concatenate(([0], np.cumsum(block.paragraph_ends)[:-1]))
    first = np.concatenate(([True], block.paragraph_ends[:-1]))
    room = np.where(first, first_width, width)
    # The pen with every space at its narrowest, in 1/SHRINK font units so that it stays integer and exact.
    is_space = block.codepoints == _SPACE
    narrow = shaped.pen * SHRINK
    narrow[1:] -= np.cumsum(np.where(is_space, np.diff(shaped.pen), 0))
    fits = narrow[unit_ends] - narrow[unit_starts] <= room * SHRINK + _SLACK

    starts: list[npt.NDArray[np.int64]] = []
    ends: list[npt.NDArray[np.int64]] = []
    unit_of: list[npt.NDArray[np.int64]] = []
    run_from = 0
    for unit in [*np.flatnonzero(~fits).tolist(), len(unit_starts)]:
        if unit > run_from:  # a run of units that need no breaking
            starts.append(unit_starts[run_from:unit])
            ends.append(unit_ends[run_from:unit])
            unit_of.append(np.arange(run_from, unit))
        if unit < len(unit_starts):
            cuts = _break_unit(is_space, shaped.pen, narrow, int(unit_starts[unit]), int(unit_ends[unit]), float(room[unit]), width)
            starts.append(np.array([start for start, _ in cuts], np.int64))
            ends.append(np.array([end for _, end in cuts], np.int64))
            unit_of.append(np.full(len(cuts), unit, np.int64))
        run_from = unit + 1
    line_starts, line_ends, units = np.concatenate(starts), np.concatenate(ends), np.concatenate(unit_of)

    hard = line_ends == unit_ends[units]
    begins_unit = line_starts == unit_starts[units]
    padded_source = np.append(block.source, block.unit_source[-1])
    source = np.where(begins_unit, block.unit_source[units], padded_source[line_starts])
    empty = unit_starts == unit_ends
    lineless = empty & block.paragraph_ends
    lineless[:-1] |= lineless[1:] & empty[:-1] & first[:-1]
    keep = ~lineless[units]
    return VisualLines(line_starts[keep], line_ends[keep], source[keep], hard[keep], paragraph[units][keep])


def _break_unit(
    is_space: npt.NDArray[np.bool_], pen: Offsets, narrow: Offsets, start: int, end: int, first_room: float, later_room: float
) -> list[tuple[int, int]]:
    """(start, end) of each visual line of the unit [start, end); ``narrow`` is the pen with shrunk spaces, times SHRINK."""
    spaces = np.flatnonzero(is_space[start:end]) + start
    word_ends = np.append(spaces, end)
    # Plain lists: bisect on them beats numpy's call overhead for single look-ups.
    ends: list[int] = word_ends.tolist()
    narrow_at_ends: list[int] = narrow[word_ends].tolist()
    lines: list[tuple[int, int]] = []
    position, next_word, room = start, 0, first_room
    while position < end:
        fitting = bisect_right(narrow_at_ends, int(narrow[position]) + room * SHRINK + _SLACK, next_word)  # words next_word..fitting-1 fit
        if fitting == len(ends):
            lines.append((position, end))
            break
        some_fit = fitting > next_word
        line_end = ends[fitting - 1] if some_fit else position
        word_start = line_end + 1 if some_fit else position
        if int(pen[ends[fitting]]) - int(pen[word_start]) > room:
            # Wider than a line: its characters fill up this one; at least one goes on an empty line.
            cut = position + int(np.searchsorted(pen[position : end + 1], int(pen[position]) + room + _SLACK, "right")) - 1
            if not some_fit:
                cut = max(cut, position + 1)
            if cut > word_start:
                lines.append((position, cut))
                whole = cut == ends[fitting]  # one character that is wider than the line
                position, next_word, room = (cut + 1, fitting + 1, later_room) if whole else (cut, fitting, later_room)
                continue
        lines.append((position, line_end))
        position, next_word, room = line_end + 1, fitting, later_room
    return lines
