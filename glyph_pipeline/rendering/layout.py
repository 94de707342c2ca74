"""Layout: visual lines onto pages, with the pen position of every glyph in points. Knows no bitmaps and no pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.canonical import CanonicalBlock, Losses, blocks, canonical_block, to_text
from glyph_pipeline.rendering.config import FRAME_PADDING_PT, Alignment, RenderConfig
from glyph_pipeline.rendering.fonts import Font
from glyph_pipeline.rendering.linebreak import VisualLines, break_lines
from glyph_pipeline.rendering.shaping import ShapedText, shape

_FUZZ_PT = 1e-6  # ReportLab's tolerance for "fits the frame"
_NOTHING_PT = 1e-8  # and for "nothing to spare"


@dataclass(frozen=True, slots=True)
class LaidBlock:
    """A block of text, shaped and broken into visual lines."""

    text: CanonicalBlock
    shaped: ShapedText
    lines: VisualLines


@dataclass(frozen=True, slots=True)
class Slab:
    """Lines first..last-1 of one paragraph that stand on one page, below ``blank`` empty ones.

    ``top`` is its upper edge in pt below the page's edge.
    """

    block: LaidBlock
    first: int
    last: int
    top: float
    blank: int
    begins_paragraph: bool

    @property
    def count(self) -> int:
        """Lines it takes, the empty ones included."""
        return self.blank + self.last - self.first


@dataclass(frozen=True, slots=True)
class PageLayout:
    """One page: its slabs, top to bottom, and the piece of the document it shows, text[start:end]."""

    number: int
    start: int
    end: int
    slabs: tuple[Slab, ...]


@dataclass(frozen=True, slots=True)
class PositionedGlyphs:
    """Glyphs of a slab with their pen positions in pt, arrays of shape (n,).

    ``x`` counts from the page's left edge. The baseline is ``above_foot`` over the slab's lower edge, which is ``foot``
    over the page's lower edge: apart, because that is how the PDF of the official renderer adds them up.
    """

    glyph_ids: npt.NDArray[np.uint16]
    x: npt.NDArray[np.float64]
    above_foot: npt.NDArray[np.float64]
    foot: float
    marked: npt.NDArray[np.bool_] | None


def lay_out(text: str, config: RenderConfig, font: Font, losses: Losses) -> Iterator[PageLayout]:
    """Pages of ``text``, in order, one at a time; their start..end tile it. No page if nothing in it is drawn."""
    number, start, slabs = 1, 0, list[Slab]()
    y, at_top, space_after = 0.0, True, 0.0
    leading, height = config.leading, config.frame_height
    origin = config.margin_y + FRAME_PADDING_PT
    for block in _laid_blocks(text, config, font, losses):
        for first, last in _paragraphs(block.lines):
            begins, blank = True, 0
            while True:
                before = 0.0 if at_top else max(config.space_before - space_after, 0.0)
                room = height - y - before
                count = blank + last - first
                if count * leading > room + _FUZZ_PT:
                    count = int(room / leading + _FUZZ_PT)
                    if count <= 1:  # ReportLab leaves no first line alone at the foot of a page
                        count = 0
                if count:
                    slab = Slab(block, first, first + count - blank, origin + y + before, blank, begins)
                    if slab.last != last:
                        slab = _split_foot(slab, config, font)
                    slabs.append(slab)
                    y += before + count * leading
                    first += count - blank
                    at_top, begins = False, False
                if first == last:
                    y += config.space_after
                    space_after = config.space_after
                    break
                # Split behind a line break, ReportLab draws that break once more on the next page: an empty line.
                blank = int(block.lines.hard[first - 1]) if count else 0
                end = int(block.lines.source[first])
                yield PageLayout(number, start, end, tuple(slabs))
                number, start, slabs = number + 1, end, []
                y, at_top, space_after = 0.0, True, 0.0
    if slabs:
        yield PageLayout(number, start, len(text), tuple(slabs))


def position(slab: Slab, config: RenderConfig, font: Font) -> PositionedGlyphs:
    """Where every glyph of a slab stands."""
    lines, pen, text = slab.block.lines, slab.block.shaped.pen, slab.block.text
    starts, ends = lines.starts[slab.first : slab.last], lines.ends[slab.first : slab.last]
    begin, end = int(starts[0]), int(ends[-1])
    line_of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, end)))
    points = config.font_size / font.units_per_em
    x = (pen[begin:end] - pen[starts][line_of]) * points

    indent = np.zeros(len(starts))
    indent[0] = config.first_line_indent if slab.begins_paragraph else 0.0
    spare = config.line_width - indent - (pen[ends] - pen[starts]) * points
    left = config.margin_x + FRAME_PADDING_PT + config.left_indent + indent
    over_full = spare < -_NOTHING_PT
    stretched = over_full
    if config.alignment is Alignment.RIGHT:
        left = left + np.where(over_full, 0.0, spare)
    elif config.alignment is Alignment.CENTER:
        left = left + np.where(over_full, 0.0, spare / 2)
    elif config.alignment is Alignment.JUSTIFY:
        stretched = over_full | ~lines.hard[slab.first : slab.last]
    if stretched.any():
        x += _word_spacing(text.codepoints[begin:end], line_of, starts - begin, ends - begin, np.where(stretched, spare, 0.0))
    height = slab.count * config.leading
    below_top = config.font_size + (slab.blank + np.arange(len(starts), dtype=np.float64)) * config.leading
    return PositionedGlyphs(
        glyph_ids=slab.block.shaped.glyph_ids[begin:end],
        x=left[line_of] + x,
        above_foot=(height - below_top)[line_of],
        foot=config.page_size[1] - slab.top - height,
        marked=None if text.marked is None else text.marked[begin:end],
    )


def line_texts(page: PageLayout) -> tuple[str, ...]:
    """The visual lines of a page, top to bottom, no-break spaces shown as the spaces they look like."""
    texts = []
    for slab in page.slabs:
        starts, ends = slab.block.lines.starts[slab.first : slab.last].tolist(), slab.block.lines.ends[slab.first : slab.last].tolist()
        drawn = to_text(slab.block.text.codepoints[starts[0] : ends[-1]]).replace("\xa0", " ")
        texts += [""] * slab.blank
        texts += [drawn[start - starts[0] : end - starts[0]] for start, end in zip(starts, ends, strict=True)]
    return tuple(texts)


def _laid_blocks(text: str, config: RenderConfig, font: Font, losses: Losses) -> Iterator[LaidBlock]:
    mark = config.newline_mark
    units = font.units_per_em / config.font_size
    width, first_width = config.line_width * units, (config.line_width - config.first_line_indent) * units
    for start, end in blocks(text):
        block = canonical_block(text, start, end, font, mark, losses)
        shaped = shape(block.codepoints, font)
        yield LaidBlock(block, shaped, break_lines(block, shaped, width, first_width))


def _paragraphs(lines: VisualLines) -> Iterator[tuple[int, int]]:
    """(first, last) visual line of each paragraph that has any."""
    if not len(lines.starts):
        return
    cuts = np.flatnonzero(np.diff(lines.paragraph)) + 1
    bounds = [0, *cuts.tolist(), len(lines.starts)]
    yield from pairwise(bounds)


def _split_foot(slab: Slab, config: RenderConfig, font: Font) -> Slab:
    """The slab as ReportLab draws it above a page split: it breaks the lines of that part once more, by themselves."""
    lines, pen = slab.block.lines, slab.block.shaped.pen
    foot = slab.last - 1
    start, end = int(lines.starts[foot]), int(lines.ends[foot])
    if start == end:
        # The split stands before the break of an empty line: the line is gone, and its break begins the next page.
        # Of a blank and an empty line the blank goes, which looks the same: a slab has at least one line of the text.
        return replace(slab, blank=0) if foot == slab.first else replace(slab, last=foot)
    if foot > slab.first and lines.ends[foot - 1] == start and lines.starts[slab.last] == end:
        # What this page has of a split word may be short enough for a line by itself: then it is not split here.
        spaces = np.flatnonzero(slab.block.text.codepoints[lines.starts[foot - 1] : end] == 0x20)
        word = int(lines.starts[foot - 1] + spaces[-1]) + 1 if spaces.size else end
        indent = config.first_line_indent if slab.begins_paragraph and foot - 1 == slab.first else 0.0
        if word < start and (pen[end] - pen[word]) * config.font_size / font.units_per_em <= config.line_width - indent:
            lines.ends[foot - 1], lines.starts[foot] = word - 1, word
    return slab


def _word_spacing(
    codepoints: npt.NDArray[np.uint32],
    line_of: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    spare: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """How far each glyph moves right, in pt, when the spaces of line i share ``spare[i]`` (left if that is negative)."""
    spaces = (codepoints == 0x20) | (codepoints == 0xA0)
    before = np.concatenate(([0], np.cumsum(spaces)))
    count = before[ends] - before[starts]
    share = np.where(count > 0, spare / np.maximum(count, 1), 0.0)
    shifted: npt.NDArray[np.float64] = (before[:-1] - before[starts][line_of]) * share[line_of]
    return shifted
