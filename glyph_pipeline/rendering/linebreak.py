"""Line breaking: greedy, as ReportLab's paragraphs break, on exact integer widths. Knows no pages and no pixels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.canonical import CanonicalBlock, Mask, Offsets
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
    ``hard`` is True where a line ends because its unit ends (it is not justified), ``at_break`` where a line break of the
    source ends it (False also at the paragraph's end). ``widths`` are font units, with white space that counts but is not
    drawn. ``paragraph`` counts the block's paragraphs.
    """

    starts: Offsets
    ends: Offsets
    source: Offsets
    hard: Mask
    at_break: Mask
    widths: Offsets
    paragraph: Offsets


@dataclass(frozen=True, slots=True)
class Units:
    """The units of a block, all of shape (units,): positions in its code points, paragraph, room for the first line."""

    starts: Offsets
    ends: Offsets
    paragraph: Offsets
    first: Mask
    room: npt.NDArray[np.float64]

    @classmethod
    def of(cls, block: CanonicalBlock, width: float, first_width: float) -> Units:
        """The units of ``block``; lines have ``width`` font units, the first line of each paragraph ``first_width``."""
        newlines = np.flatnonzero(block.codepoints == _NEWLINE)
        first = np.concatenate(([True], block.paragraph_ends[:-1]))
        return cls(
            starts=np.concatenate(([0], newlines + 1)),
            ends=np.concatenate((newlines, [len(block.codepoints)])),
            paragraph=np.concatenate(([0], np.cumsum(block.paragraph_ends)[:-1])),
            first=first,
            room=np.where(first, first_width, width),
        )


def break_lines(block: CanonicalBlock, shaped: ShapedText, width: float, first_width: float) -> VisualLines:
    """Break every unit of the block to ``width`` font units, the first line of each paragraph to ``first_width``.

    A word goes to the next line if it does not fit; a word wider than a whole line fills up the line it begins on and is
    split between characters. An empty last unit of a paragraph has no line, nor has a paragraph of two empty units (to
    ReportLab it is blank); any other empty unit has one.
    """
    units = Units.of(block, width, first_width)
    # The pen with every space at its narrowest, in 1/SHRINK font units so that it stays integer and exact.
    is_space = block.codepoints == _SPACE
    pen = shaped.pen
    shrinkage = np.where(is_space, np.diff(pen), 0)
    if block.uncounted is not None and block.uncounted.size:
        shrinkage[block.uncounted + 1] *= 2  # it gives way as well, for the words behind the counted space
        advances = np.diff(pen)
        advances[block.uncounted] = 0
        pen = np.append(0, np.cumsum(advances))
    narrow = pen * SHRINK
    narrow[1:] -= np.cumsum(shrinkage)
    loose = block.loose if block.loose is not None and block.loose.size else None
    fits = narrow[units.ends] - narrow[units.starts] <= units.room * SHRINK + _SLACK

    def break_unit(unit: int) -> list[tuple[int, int]]:
        start, end = int(units.starts[unit]), int(units.ends[unit])
        return _break_unit(is_space, pen, narrow, loose, start, end, float(units.room[unit]), width)

    return visual_lines(block, pen, units, *break_unfit(units, fits, break_unit))


def break_unfit(units: Units, fits: Mask, break_unit: Callable[[int], list[tuple[int, int]]]) -> tuple[Offsets, Offsets, Offsets]:
    """(starts, ends, unit) of all visual lines: one for a unit that ``fits``, what ``break_unit`` makes of any other."""
    counts = np.ones(len(units.starts), np.int64)
    broken: list[tuple[int, int]] = []
    for unit in np.flatnonzero(~fits).tolist():
        lines = break_unit(unit)
        counts[unit] = len(lines)
        broken += lines
    unit_of = np.repeat(np.arange(len(counts)), counts)
    starts, ends = units.starts[unit_of], units.ends[unit_of]
    if broken:
        starts[~fits[unit_of]], ends[~fits[unit_of]] = np.array(broken, np.int64).T
    return starts, ends, unit_of


def visual_lines(
    block: CanonicalBlock, pen: Offsets, units: Units, line_starts: Offsets, line_ends: Offsets, unit_of: Offsets
) -> VisualLines:
    """The lines with all that follows from where they start and end; without those of units that have none."""
    hard = np.append(unit_of[1:] != unit_of[:-1], True)
    begins_unit = np.append(True, hard[:-1])
    padded_source = np.append(block.source, block.unit_source[-1])
    source = np.where(begins_unit, block.unit_source[unit_of], padded_source[line_starts])
    empty = units.starts == units.ends
    lineless = empty & block.paragraph_ends
    lineless[:-1] |= lineless[1:] & empty[:-1] & units.first[:-1]
    keep = ~lineless[unit_of]
    lines = VisualLines(
        starts=line_starts,
        ends=line_ends,
        source=source,
        hard=hard,
        at_break=hard & ~block.paragraph_ends[unit_of],
        widths=pen[line_ends] - pen[line_starts],
        paragraph=units.paragraph[unit_of],
    )
    return lines if keep.all() else VisualLines(*(getattr(lines, name)[keep] for name in VisualLines.__dataclass_fields__))


def _break_unit(
    is_space: Mask, pen: Offsets, narrow: Offsets, loose: Offsets | None, start: int, end: int, first_room: float, later_room: float
) -> list[tuple[int, int]]:
    """(start, end) of each visual line of the unit [start, end); ``narrow`` is the pen with shrunk spaces, times SHRINK.

    The word behind a ``loose`` space may over-fill its line by one more space's shrinkage.
    """
    spaces = np.flatnonzero(is_space[start:end]) + start
    word_ends = np.append(spaces, end)
    narrow_ends = narrow[word_ends]
    if loose is not None:
        behind = np.flatnonzero(np.isin(spaces, loose))
        narrow_ends[behind + 1] -= pen[spaces[behind] + 1] - pen[spaces[behind]]
    # Plain lists: bisect on them beats numpy's call overhead for single look-ups.
    ends: list[int] = word_ends.tolist()
    narrow_at_ends: list[int] = narrow_ends.tolist()
    lines: list[tuple[int, int]] = []
    # ``placed``: the word that went over to this line stands on it, even if it is wider than this line (not than the one before).
    position, next_word, placed, room = start, 0, 0, first_room
    while position < end:
        if loose is not None:  # the space before the line's first word is not on it
            narrow_at_ends[next_word] = int(narrow[ends[next_word]])
        limit = int(narrow[position]) + room * SHRINK + _SLACK
        fitting = max(bisect_right(narrow_at_ends, limit, next_word), placed)  # words next_word..fitting-1 fit
        if fitting == len(ends):
            lines.append((position, end))
            break
        some_fit = fitting > next_word
        line_end = ends[fitting - 1] if some_fit else position
        word_start = line_end + 1 if some_fit else position
        too_wide = int(pen[ends[fitting]]) - int(pen[word_start]) > room
        if too_wide:
            # Its characters fill up this line; at least one goes on an empty line.
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
        placed = fitting + (not too_wide)
    return lines
