"""Line breaking of Chinese text, as ReportLab's CJK rule breaks, on exact integer widths. Knows no pages and no pixels.

The rule: a line takes characters until one does not fit. Where that one is below U+3000, the line ends behind the last space
or Asian character instead, if that stands in the line's second half. What may not begin a line hangs over the margin.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace

import numpy as np

from glyph_pipeline.rendering.canonical import CanonicalBlock, Mask
from glyph_pipeline.rendering.linebreak import Units, VisualLines, break_unfit, visual_lines
from glyph_pipeline.rendering.shaping import ShapedText

_NEWLINE, _SPACE, _NO_BREAK_SPACE = 0x0A, 0x20, 0xA0

# From here on a character is Asian to ReportLab (reportlab.lib.textsplit.is_multi_byte).
_ASIAN = 0x3000
# ReportLab's kinsoku (reportlab.lib.textsplit.ALL_CANNOT_START): closing marks, small kana, iteration marks, units.
NO_LINE_START = (
    "!',.:;?\")]、。」』】〕］）々―ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮーヵヶ"
    "\u309b\u309c\u30fb\u30fd\u30fe\u309d\u309e\u2010\xb0\u2032\u2033\u2103\uffe0\uff05\u2030"
)
_NO_LINE_START = np.array([ord(char) for char in NO_LINE_START], np.uint32)


def break_chinese(block: CanonicalBlock, shaped: ShapedText, width: float, first_width: float) -> VisualLines:
    """Break every unit of the block to ``width`` font units, the first line of each paragraph to ``first_width``.

    Empty units have lines as in :func:`~glyph_pipeline.rendering.linebreak.break_lines`. Where the last character before a
    line break hangs, an empty line follows. A paragraph of one fragment has its broken lines stripped of outer spaces,
    whose room stays taken.
    """
    units = Units.of(block, width, first_width)
    pen = shaped.pen
    fits = pen[units.ends] - pen[units.starts] <= units.room
    if fits.all():
        return visual_lines(block, pen, units, units.starts, units.ends, np.arange(len(units.starts)))
    below_asian = block.codepoints < _ASIAN
    no_start = np.isin(block.codepoints, _NO_LINE_START)
    blank = _blank(block)
    # For each position the last one, up to it, behind which a line may be cut; -1 for none.
    last_cut = np.maximum.accumulate(np.where(blank | ~below_asian, np.arange(len(blank)), -1))

    def break_unit(unit: int) -> list[tuple[int, int]]:
        start, end, room = int(units.starts[unit]), int(units.ends[unit]), float(units.room[unit])
        cuts = _cuts(
            pen[start : end + 1].tolist(),
            below_asian[start:end].tobytes(),
            no_start[start:end].tobytes(),
            (last_cut[start:end] - start).tolist(),
            room,
            width,
        )
        lines = [(start + cut, start + following) for cut, following in zip([0, *cuts[:-1]], cuts, strict=True)]
        hangs = pen[end] - pen[lines[-1][0]] > (room if len(lines) == 1 else width)
        if hangs and not block.paragraph_ends[unit]:
            lines.append((end, end))
        return lines

    lines = visual_lines(block, pen, units, *break_unfit(units, fits, break_unit))
    return _stripped(lines, block, blank, width, first_width)


def spaced_rest(block: CanonicalBlock, lines: VisualLines, first: int, last: int, at_most: int) -> CanonicalBlock:
    """Lines first..last-1 of a paragraph as ReportLab sets them once more when a page end parts them from those above.

    It puts a space behind every line but the last that doesn't end with one. The lines lie in one paragraph, of several
    fragments. A break's own space is not in the text, because it never wraps: see :func:`with_break_spaces`.
    Of more than ``at_most`` lines the rest is left out, and the last of ``paragraph_ends`` is False; more is left out
    when that is done once more.
    """
    whole = bool(block.paragraph_ends[-1]) or int(lines.paragraph[first]) < int(lines.paragraph[-1])
    # The last line of a text that is cut off would be longer.
    until = min(last if whole else last - 1, first + at_most)
    whole &= until == last
    start, end = int(lines.starts[first]), int(lines.ends[until - 1])
    hard, at_break = lines.hard[first : until - 1], bool(lines.at_break[until - 1])
    unit_source = lines.source[first:until][np.append(True, hard)]
    if at_break:
        end += 1
        unit_source = np.append(unit_source, block.source[end - 1] + 1)
    soft_ends = lines.ends[first : until - 1][~hard]
    behind = soft_ends[block.codepoints[soft_ends - 1] != _SPACE] - start
    source, marked = block.source[start:end], None if block.marked is None else block.marked[start:end]
    origin = np.arange(start, end) if block.origin is None else block.origin[start:end]
    one_colour = marked is None or bool(marked.all() or not marked.any())
    return CanonicalBlock(
        codepoints=np.insert(block.codepoints[start:end], behind, _SPACE),
        source=np.insert(source, behind, source[behind]),
        marked=None if marked is None else np.insert(marked, behind, marked[behind - 1]),
        unit_source=unit_source,
        paragraph_ends=np.append(np.zeros(len(unit_source) - 1, np.bool_), whole),
        one_fragment=np.array([whole and until - first == 1 and not at_break and one_colour]),
        origin=np.insert(origin, behind, origin[behind]),
    )


def plain_rest(block: CanonicalBlock, start: int) -> CanonicalBlock:
    """What is left of a paragraph of the block, of several fragments, from position ``start`` on."""
    newlines = np.flatnonzero(block.codepoints == _NEWLINE)
    unit = int(np.searchsorted(newlines, start))
    last = unit + int(np.argmax(block.paragraph_ends[unit:]))
    end = int(newlines[last]) if last < len(newlines) else len(block.codepoints)
    begin = np.append(block.source, block.unit_source[-1])[start : start + 1]
    return CanonicalBlock(
        codepoints=block.codepoints[start:end],
        source=block.source[start:end],
        marked=None if block.marked is None else block.marked[start:end],
        unit_source=np.append(begin, block.unit_source[unit + 1 : last + 1]),
        paragraph_ends=block.paragraph_ends[unit : last + 1],
        one_fragment=np.array([False]),
    )


def with_break_spaces(lines: VisualLines, space: int) -> VisualLines:
    """The lines of :func:`spaced_rest` with the space, ``space`` font units wide, that every break but the last has."""
    widths = lines.widths.copy()
    widths[:-1][lines.hard[:-1]] += space
    return replace(lines, widths=widths)


def _cuts(pen: list[int], below_asian: bytes, no_start: bytes, last_cut: list[int], first_room: float, later_room: float) -> list[int]:
    """Where the lines of a unit of n > 0 characters end; ``pen`` has n + 1 entries, the others n. The last one is n."""
    cuts: list[int] = []
    start, end, room = 0, len(pen) - 1, first_room
    while start < end:
        over = bisect_right(pen, pen[start] + room, start) - 1  # the first character that doesn't fit
        if over == end:
            cuts.append(end)
            break
        following = over
        if below_asian[over] and over > start:
            cut = last_cut[over - 1]
            if cut > (start + over + 1) >> 1:
                following = cut + 1
        # At least one character stands on a line, and all without an advance that follow it.
        start = following + 1 if no_start[following] or following == start else following
        while start < end and pen[start + 1] == pen[start]:
            start += 1
        cuts.append(start)
        room = later_room
    return cuts


def _blank(block: CanonicalBlock) -> Mask:
    """The characters of category Zs that are left when white space has been collapsed."""
    blank: Mask = (block.codepoints == _SPACE) | (block.codepoints == _NO_BREAK_SPACE)
    return blank


def _stripped(lines: VisualLines, block: CanonicalBlock, blank: Mask, width: float, first_width: float) -> VisualLines:
    """The lines without the outer spaces of those that were cut in paragraphs of one fragment; ``widths`` stay."""
    assert block.one_fragment is not None
    if not (block.one_fragment.any() and blank.any()):
        return lines
    begins_paragraph = np.append(True, lines.paragraph[1:] != lines.paragraph[:-1])
    # The rest of a unit, which is not cut, always fits.
    cut = ~lines.hard | (lines.widths > np.where(begins_paragraph, first_width, width))
    cut &= block.one_fragment[lines.paragraph]
    inked = np.flatnonzero(~blank)
    first_inked = np.append(inked, len(blank))[np.searchsorted(inked, lines.starts)]
    behind_inked = np.append(0, inked + 1)[np.searchsorted(inked, lines.ends)]
    starts = np.where(cut, np.minimum(first_inked, lines.ends), lines.starts)
    ends = np.where(cut, np.maximum(behind_inked, starts), lines.ends)
    return replace(lines, starts=starts, ends=ends)
