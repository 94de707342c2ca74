"""Layout: visual lines onto the columns of pages. Knows no bitmaps and no pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from glyph_pipeline.rendering.canonical import CanonicalBlock, Losses, blocks, canonical_block, is_chinese, to_text
from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.config import FRAME_PADDING_PT, RenderConfig
from glyph_pipeline.rendering.linebreak import VisualLines, break_lines
from glyph_pipeline.rendering.linebreak_cjk import break_chinese, plain_rest, spaced_rest, with_break_spaces
from glyph_pipeline.rendering.shaping import ShapedText, TextShaper

_FUZZ_PT = 1e-6  # ReportLab's tolerance for "fits the frame"
# ReportLab breaks what is left of a Chinese paragraph anew on every page, with more spaces each time: quadratic, and in the end
# nothing but spaces. So do we on as many pages; then what is left goes on without them.
_BROKEN_ANEW = 8
# Lines are broken anew for this many pages ahead. Any line is at least an eighth full, so the next page can't run out of them.
_PAGES_AHEAD = 8


@dataclass(frozen=True, slots=True)
class LaidBlock:
    """A block of text, shaped and broken into visual lines; ``chinese`` by the CJK rule."""

    text: CanonicalBlock
    shaped: ShapedText
    lines: VisualLines
    chinese: bool


@dataclass(frozen=True, slots=True)
class Slab:
    """Lines first..last-1 of one paragraph that stand on one page, below ``blank`` empty ones.

    ``top`` is its upper edge in pt below the page's edge, ``left`` the left edge of its lines (without first-line-indent).
    """

    block: LaidBlock
    first: int
    last: int
    top: float
    left: float
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


def lay_out(text: str, config: RenderConfig, chain: FontChain, losses: Losses) -> Iterator[PageLayout]:
    """Pages of ``text``, in order, one at a time; their start..end tile it. No page if nothing in it is drawn."""
    number, start, slabs = 1, 0, list[Slab]()
    y, at_top, space_after = 0.0, True, 0.0
    leading, height = config.leading, config.frame_height
    origin = config.margin_y + FRAME_PADDING_PT
    shaper = TextShaper(chain)
    column, lefts = 0, column_lefts(config)
    for laid in _laid_blocks(text, config, shaper, losses):
        for first, last in _paragraphs(laid.lines):
            block, begins, blank, splits = laid, True, 0, 0
            while True:
                before = 0.0 if at_top else max(config.space_before - space_after, 0.0)
                room = height - y - before
                count = blank + last - first
                if count * leading > room + _FUZZ_PT:
                    count = int(room / leading + _FUZZ_PT)
                    if count <= 1:  # ReportLab leaves no first line alone at the foot of a page
                        count = 0
                if count:
                    slab = Slab(block, first, first + count - blank, origin + y + before, lefts[column], blank, begins)
                    if slab.last != last and not block.chinese:
                        slab = _split_foot(slab, config, chain)
                    slabs.append(slab)
                    y += before + count * leading
                    first += count - blank
                    at_top, begins = False, False
                if first == last:
                    y += config.space_after
                    space_after = config.space_after
                    at_top = at_top and not space_after
                    break
                end = int(block.lines.source[first])
                # Split behind a line break, ReportLab draws that break once more on the next page: an empty line.
                blank = int(block.lines.hard[first - 1]) if count and not block.chinese else 0
                if block.chinese and count and splits <= _BROKEN_ANEW:
                    block, first, last, splits = _broken_anew(laid, block, first, last, splits, config, shaper)
                    # Of a last empty line nothing is left. ReportLab puts that on this page if there is any room.
                    y += config.space_after
                    space_after = config.space_after
                    if first == last and height - y - max(config.space_before - space_after, 0.0) > 0:
                        break
                column += 1
                if column == len(lefts):
                    yield PageLayout(number, start, end, tuple(slabs))
                    number, start, slabs, column = number + 1, end, [], 0
                y, at_top, space_after = 0.0, True, 0.0
    if slabs or number > 1:  # after a split, there may be nothing left to draw but the page
        yield PageLayout(number, start, len(text), tuple(slabs))


def column_lefts(config: RenderConfig) -> tuple[float, ...]:
    """Left edge of the lines of each column, in pt from the page's left edge."""
    first = config.margin_x + FRAME_PADDING_PT + config.left_indent
    return tuple(first + column * (config.column_width + config.column_gap) for column in range(config.columns))


def column_edges(config: RenderConfig, width: int) -> tuple[tuple[int, int], ...]:
    """Left and right edge in px of each column on a page picture ``width`` px wide, parted in the middle of the gaps; none for one column."""
    if config.columns == 1:
        return ()
    scale = config.dpi / 72 * config.horizontal_scale
    parts = [round((left - config.left_indent - config.column_gap / 2) * scale) for left in column_lefts(config)[1:]]
    return tuple((left, right) for left, right in pairwise([0, *(min(part, width) for part in parts), width]) if left < right)


def line_texts(page: PageLayout) -> tuple[str, ...]:
    """The visual lines of a page, top to bottom, no-break spaces shown as the spaces they look like."""
    texts = []
    for slab in page.slabs:
        starts, ends = slab.block.lines.starts[slab.first : slab.last].tolist(), slab.block.lines.ends[slab.first : slab.last].tolist()
        drawn = to_text(slab.block.text.codepoints[starts[0] : ends[-1]]).replace("\xa0", " ")
        texts += [""] * slab.blank
        texts += [drawn[start - starts[0] : end - starts[0]] for start, end in zip(starts, ends, strict=True)]
    return tuple(texts)


def _laid_blocks(text: str, config: RenderConfig, shaper: TextShaper, losses: Losses) -> Iterator[LaidBlock]:
    mark, chinese = config.newline_mark, is_chinese(text)
    for start, end in blocks(text):
        yield _laid(canonical_block(text, start, end, shaper.chain, mark, losses, chinese), config, shaper, chinese)


def _laid(block: CanonicalBlock, config: RenderConfig, shaper: TextShaper, chinese: bool, begun: bool = False) -> LaidBlock:
    """The block shaped and broken; ``begun`` if it is the rest of a paragraph, with no first line to indent."""
    shaped = shaper.shape(block.codepoints)
    units = shaper.chain.units_per_em / config.font_size
    indent = 0.0 if begun else config.first_line_indent
    # The CJK rule has a tolerance of its own, that of words has none.
    width = config.line_width + (_FUZZ_PT if chinese else 0.0)
    lines = (break_chinese if chinese else break_lines)(block, shaped, width * units, (width - indent) * units)
    return LaidBlock(block, shaped, lines, chinese)


def _paragraphs(lines: VisualLines) -> Iterator[tuple[int, int]]:
    """(first, last) visual line of each paragraph that has any."""
    if not len(lines.starts):
        return
    cuts = np.flatnonzero(np.diff(lines.paragraph)) + 1
    bounds = [0, *cuts.tolist(), len(lines.starts)]
    yield from pairwise(bounds)


def _split_foot(slab: Slab, config: RenderConfig, chain: FontChain) -> Slab:
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
        if word < start and (pen[end] - pen[word]) * config.font_size / chain.units_per_em <= config.line_width - indent:
            lines.ends[foot - 1], lines.starts[foot] = word - 1, word
    return slab


def _broken_anew(
    laid: LaidBlock, block: LaidBlock, first: int, last: int, splits: int, config: RenderConfig, shaper: TextShaper
) -> tuple[LaidBlock, int, int, int]:
    """(block, first, last, splits): what is left of a Chinese paragraph behind a page end, as ReportLab breaks that by itself.

    ``laid`` is where the paragraph comes from, ``block`` what was left of it after ``splits`` page ends.
    """
    text, lines = block.text, block.lines
    if text.one_fragment is None or text.one_fragment[lines.paragraph[first]]:
        return block, first, last, splits
    page = int(config.frame_height / config.leading) + 1
    whole = text.origin is None or bool(text.paragraph_ends[-1])
    if splits < _BROKEN_ANEW and (whole or last - first > (_PAGES_AHEAD + 1) * page):
        rest = spaced_rest(text, lines, first, last, at_most=(_BROKEN_ANEW + _PAGES_AHEAD + 1) * page)
        block = _laid(rest, config, shaper, chinese=True, begun=True)
        space = shaper.shape(np.array([0x20], np.uint32))
        block = replace(block, lines=with_break_spaces(block.lines, int(space.pen[-1])))
        return block, 0, len(block.lines.starts), splits + 1
    assert text.origin is not None
    rest = plain_rest(laid.text, int(np.append(text.origin, text.origin[-1] + 1)[lines.starts[first]]))
    block = _laid(rest, config, shaper, chinese=True, begun=True)
    return block, 0, len(block.lines.starts), _BROKEN_ANEW + 1
