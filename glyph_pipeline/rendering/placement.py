"""Placement: the pen of every glyph of a slab of lines, in points on its page. Knows no pixels and no bitmaps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.config import Alignment, RenderConfig
from glyph_pipeline.rendering.layout import Slab

if TYPE_CHECKING:
    from glyph_pipeline.rendering.clusters import Clusters

_NOTHING_PT = 1e-8  # ReportLab's tolerance for "nothing to spare"
_SPACE, _NO_BREAK_SPACE = 0x20, 0xA0

Points = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PlacedGlyphs:
    """Glyphs of a slab, line by line and from left to right: number, pen ``x`` in pt from ``frame``, and line, all (n,).

    ``frame`` is the left edge of the text's frame in pt from the page's. The baseline of line i is ``above_foot[i]`` (lines,)
    over the slab's lower edge, which is ``foot`` over the page's lower edge, in pt: apart, because that is how the PDF of the
    official renderer adds them up. ``rise`` (n,) lifts glyphs off their baseline, in pt; ``marked`` (n,) are those of newline marks; None where there
    are none.
    """

    numbers: npt.NDArray[np.int32]
    x: Points
    line: Indices
    above_foot: Points
    foot: float
    frame: float
    rise: Points | None
    marked: npt.NDArray[np.bool_] | None


def place(slab: Slab, config: RenderConfig, chain: FontChain) -> PlacedGlyphs:
    """Where every glyph of a slab stands."""
    lines, shaped, text = slab.block.lines, slab.block.shaped, slab.block.text
    pen, clusters = shaped.pen, shaped.clusters
    starts, ends = lines.starts[slab.first : slab.last], lines.ends[slab.first : slab.last]
    begin, end = int(starts[0]), int(ends[-1])
    line_of = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, end)))
    points = config.font_size / chain.units_per_em
    # Multiplied first: whole quarters of a pixel, which Chinese advances give, stay whole.
    x: Points = ((pen[begin:end] - pen[starts][line_of]) * config.font_size / chain.units_per_em).astype(np.float64, copy=False)

    indent = np.zeros(len(starts))
    indent[0] = config.first_line_indent if slab.begins_paragraph else 0.0
    spare = config.line_width - indent - lines.widths[slab.first : slab.last] * points
    stretched = _stretched(slab, config, spare)
    if stretched.any():
        spacing, stretched = _word_spacing(slab, np.where(stretched, spare, 0.0))
        x += spacing
    room = np.where(stretched, 0.0, spare)
    if config.alignment is Alignment.RIGHT:
        indent += room
    elif config.alignment is Alignment.CENTER:
        indent += room / 2
    elif clusters is not None and clusters.base is not None:
        # "Left" is where lines begin: a right-to-left paragraph begins at the right.
        indent += room * (np.append(clusters.base, 0)[starts] & 1)
    left = printed(indent) + printed_length(config.left_indent)
    height = slab.count * config.leading
    # One line down at a time, as a PDF's T* goes.
    down = np.full(slab.count, -printed_length(config.leading))
    down[0] = 0.0
    above_foot = printed_length(height - config.font_size) + np.add.accumulate(down)[slab.blank :]
    foot = printed_length(config.page_size[1] - slab.top - height)
    frame = printed_length(slab.left - config.left_indent)
    marked = None if text.marked is None else text.marked[begin:end]
    if clusters is None:
        return PlacedGlyphs(shaped.numbers[begin:end], left[line_of] + x, line_of, above_foot, foot, frame, None, marked)

    advances = np.diff(pen[begin : end + 1]) * points
    if clusters.levels is not None:
        for line in range(len(starts)):
            here = slice(int(starts[line]), int(ends[line]))
            if clusters.levels[here].any() or clusters.base[here].any():  # type: ignore[index]
                _reorder(x, advances, clusters, text.codepoints, here, begin)
    first, last = int(clusters.first[begin]), int(clusters.first[end])
    at = clusters.at[first:last] - begin
    glyph_x = left[line_of][at] + x[at] + clusters.dx[first:last] * points
    numbers, glyph_line, rise = shaped.numbers[first:last], line_of[at], clusters.rise[first:last] * points
    marked = None if marked is None else marked[at]
    order = np.lexsort((glyph_x, glyph_line))
    return PlacedGlyphs(
        numbers[order], glyph_x[order], glyph_line[order], above_foot, foot, frame, rise[order], None if marked is None else marked[order]
    )


def printed(values: npt.ArrayLike) -> Points:
    """Lengths as ReportLab prints them into a PDF (fp_str): six decimals, one less for each digit before the point but the first.

    Where a glyph would stand on a whole quarter of a pixel, or a baseline on a whole one, these decimals decide.
    """
    exact = np.asarray(values, np.float64)
    size = np.abs(exact)
    decimals = np.clip(6 - np.log10(np.maximum(size, 1.0)).astype(np.int64), 0, 6)
    scale = 10.0**decimals
    return np.where(size <= 1e-7, 0.0, np.rint(exact * scale) / scale)


@lru_cache(1024)
def printed_length(length: float) -> float:
    """:func:`printed` of one length; pages of one configuration have few different ones."""
    return float(printed(length))


def _stretched(slab: Slab, config: RenderConfig, spare: Points) -> npt.NDArray[np.bool_]:
    """The lines whose spaces share what is ``spare``: over-full ones, and with JUSTIFY those that a paragraph goes on behind."""
    lines = slab.block.lines
    over_full: npt.NDArray[np.bool_] = spare < -_NOTHING_PT
    if config.alignment is not Alignment.JUSTIFY:
        return over_full
    at_break = lines.at_break[slab.first : slab.last].copy()
    if not slab.block.chinese and slab.last < len(lines.paragraph) and lines.paragraph[slab.last] == lines.paragraph[slab.last - 1]:
        at_break[-1] = False  # above a page split ReportLab sees the end of a paragraph there
    stretched: npt.NDArray[np.bool_] = (over_full | ~lines.hard[slab.first : slab.last]) & ~at_break
    return stretched


def _reorder(x: Points, advances: Points, clusters: Clusters, codepoints: npt.NDArray[np.uint32], line: slice, begin: int) -> None:
    """Move the characters of one line to where they stand in visual order, in place; ``x`` and ``advances`` begin at ``begin``."""
    from glyph_pipeline.rendering.bidi import bidi_classes, reset_trailing, visual_runs

    assert clusters.levels is not None
    assert clusters.base is not None
    levels = reset_trailing(clusters.levels[line], bidi_classes(codepoints[line]), int(clusters.base[line][0]))
    start, end = line.start - begin, line.stop - begin
    # The room of each character includes what justification gives it.
    room = np.append(np.diff(x[start:end]), advances[end - 1])
    reach = float(x[start])
    for run_start, run_end, right_to_left in visual_runs(levels):
        widths = room[run_start:run_end]
        edges = np.concatenate(([0.0], np.cumsum(widths)))
        target = slice(start + run_start, start + run_end)
        x[target] = reach + (edges[-1] - edges[1:] if right_to_left else edges[:-1])
        reach += float(edges[-1])


def _word_spacing(slab: Slab, spare: Points) -> tuple[Points, npt.NDArray[np.bool_]]:
    """How far each glyph moves right, in pt, when the spaces of line i share ``spare[i]`` (left if that is negative).

    Also, for each line, whether it has spaces to share that. In a Chinese line only no-break spaces count, though all are
    drawn wider: ReportLab takes the line for one word.
    """
    lines = slab.block.lines
    starts, ends = lines.starts[slab.first : slab.last], lines.ends[slab.first : slab.last]
    begin, end = int(starts[0]), int(ends[-1])
    codepoints = slab.block.text.codepoints[begin:end]
    no_break = codepoints == 0xA0
    before = np.concatenate(([0], np.cumsum(no_break | (codepoints == 0x20))))
    counted = np.concatenate(([0], np.cumsum(no_break))) if slab.block.chinese else before
    uncounted = slab.block.text.uncounted
    if uncounted is not None and uncounted.size:
        spaces = no_break | (codepoints == 0x20)
        spaces[uncounted[(uncounted >= begin) & (uncounted < end)] - begin] = False
        counted = np.concatenate(([0], np.cumsum(spaces)))
    count = counted[ends - begin] - counted[starts - begin]
    shared = (count > 0) & (spare != 0)
    share = printed(np.where(shared, spare / np.maximum(count, 1), 0.0))
    lengths = np.diff(np.append(starts, end))
    shifted: Points = (before[:-1] - np.repeat(before[starts - begin], lengths)) * np.repeat(share, lengths)
    return shifted, shared
