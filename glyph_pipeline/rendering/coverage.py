"""Canvas: the ink of many glyphs on many pages, 8 pixels to a machine word. Knows coverage only: no colours, no text, no points.

Glyphs whose pictures do not touch may simply be added: each puts its own bytes into a word. Neighbours do touch, so the
glyphs of a line are dealt out to layers in turn (and lines too, where they reach into each other); within a layer all glyphs
of one shape are added by a single ``np.add.at``. Layers are then laid over each other with Splash's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.atlas import BLANK, PHASES, PLACES, WORD, GlyphAtlas

Words = npt.NDArray[np.uint64]
Area: TypeAlias = tuple[int, slice, slice]  # page, canvas rows, canvas columns
Indices = npt.NDArray[np.intp]
Numbers = npt.NDArray[np.int32]

# Layers tried for the glyphs of a line and for lines. With more than these, what still touches is drawn one by one.
_GLYPH_LAYERS = (2, 3, 4, 6)
_LINE_LAYERS = (1, 2, 3)
# One by one costs about a hundred times as much a glyph.
_FEW = 0.01
_ALONE = 0xFFFF
_CHUNK = 1 << 15  # words


@dataclass(frozen=True, slots=True)
class PlacedInk:
    """Glyphs on a canvas, line by line: their number, pen in quarter pixels and line, (n,); ``rows`` (lines,) is the canvas row of each baseline.

    ``rise`` (n,) lifts single glyphs off their baseline, in px, or is None. Lines come in order, top to bottom and page by page.
    ``early`` (lines,) are those drawn before areas are erased.
    """

    numbers: Numbers
    quarters: Numbers
    line: Numbers
    rows: Numbers
    rise: Numbers | None
    early: npt.NDArray[np.bool_]


class Canvas:
    """Coverage of a batch of pages, side by side in memory: ``pages`` of ``height`` x ``width`` px with ``bleed`` px around each."""

    def __init__(self, width: int, height: int, bleed: int) -> None:
        self.width, self.height, self.bleed = width, height, bleed
        self.rows = height + 2 * bleed
        self.row_words = -(-(width + 2 * bleed) // WORD) + 1
        # Pictures may begin above the first page and end below the last.
        self._slack = (2 * bleed + 16) * self.row_words
        # Kept from batch to batch, by purpose: fresh memory costs more than clearing it.
        self._kept: dict[object, Words] = {}

    def pixels(self, words: Words, pages: int) -> npt.NDArray[np.uint8]:
        """A view of the coverage, shape (pages, rows, row_words * WORD), the bleed included."""
        return words[self._slack : -self._slack].view(np.uint8).reshape(pages, self.rows, -1)

    def visible(self, words: Words, pages: int) -> npt.NDArray[np.uint8]:
        """A view of the coverage without the bleed: shape (pages, height, width)."""
        bleed = self.bleed
        return self.pixels(words, pages)[:, bleed : bleed + self.height, bleed : bleed + self.width]

    def cover(
        self, pages: int, ink: PlacedInk, atlas: GlyphAtlas, glyphs: Sequence[tuple[int, int]], erased: Sequence[Area], purpose: object
    ) -> Words:
        """The coverage of that many pages by these glyphs, as words with slack at both ends; ``glyphs`` is by glyph number.

        Early lines are drawn first, then the ``erased`` areas are cleared, then all others are drawn. The words are valid until
        the next call for the same ``purpose``.
        """
        words = self._cleared(purpose, pages)
        # A line that is wider than its page (no glyph may be split) must not run on into the row below.
        reach = self.bleed // 2
        pen = np.clip(ink.quarters, -reach * PHASES, (self.width + reach) * PHASES + PHASES - 1) + self.bleed * PHASES
        if atlas.whole_pixels:
            pen &= ~(PHASES - 1)
        slot = atlas.find(glyphs, ink.numbers * PLACES + (pen & (PLACES - 1)))
        inked = np.flatnonzero(slot != BLANK)
        if not inked.size:
            return words
        slot, pen, line = slot[inked], pen[inked], ink.line[inked]
        row = ink.rows[line]
        if ink.rise is not None:
            row = row - np.clip(ink.rise[inked], -reach, reach)
        slots = atlas.slots
        shape = slots.shape[slot]
        column = pen >> 2
        layer, crowded = _layers(
            line, column + slots.left[slot], column + slots.right[slot], row + slots.top[slot], row + slots.bottom[slot]
        )
        late = ~ink.early[line]
        alone = crowded | (shape == 0)
        base = (row + self.bleed) * np.intp(self.row_words) + ((pen >> 5) + slots.origin[slot] + self._slack)
        key = (layer * np.uint16(2) + late) * np.uint16(len(atlas.shapes)) + shape
        some_alone = bool(alone.any())
        if some_alone:
            key[alone] = _ALONE
        target, current, erase = words, 0, bool(erased)
        for those, first in _segments(key):
            if first == _ALONE:
                break
            turn, number = divmod(first, len(atlas.shapes))
            if turn >> 1 != current:
                self._finish(words, target, erased if erase else ())
                target, current, erase = self._cleared("layer", pages), turn >> 1, bool(erased)
            if turn & 1 and erase:
                self._erase(target, erased)
                erase = False
            picture = atlas.shapes[number]
            where = base[those][:, None] + picture.offsets
            np.add.at(target, where.reshape(-1), picture.words.take(slots.picture[slot[those]], 0).reshape(-1))
        self._finish(words, target, erased if erase else ())
        if some_alone:
            for now, areas in ((alone & ~late, erased), (alone & late, ())):
                if now.any():
                    target = self._cleared("layer", pages)
                    for index in np.flatnonzero(now).tolist():
                        self._draw_alone(target, atlas, int(slot[index]), int(column[index]), int(row[index]))
                    self._finish(words, target, areas)
        return words

    def _cleared(self, purpose: object, pages: int) -> Words:
        key = (purpose, pages)
        words = self._kept.get(key)
        if words is None:
            # Batches are of one size, but for a document's first and last: no need to keep more than the newest.
            self._kept = {other: kept for other, kept in self._kept.items() if other[0] != purpose}  # type: ignore[index]
            words = self._kept[key] = np.zeros(pages * self.rows * self.row_words + 2 * self._slack, np.uint64)
        else:
            words.fill(0)
        return words

    def _finish(self, words: Words, target: Words, erased: Sequence[Area]) -> None:
        """Erase what is still to be erased of a layer, and lay it over the others."""
        self._erase(target, erased)
        if target is not words:
            overlay(words, target)

    def _erase(self, words: Words, areas: Sequence[Area]) -> None:
        if areas:
            pixels = self.pixels(words, (len(words) - 2 * self._slack) // (self.rows * self.row_words))
            for area in areas:
                pixels[area] = 0

    def _draw_alone(self, words: Words, atlas: GlyphAtlas, slot: int, column: int, row: int) -> None:
        """One glyph, its pen at canvas pixel (column, row), row counted over all pages; what leaves its page is cut off."""
        coverage, left, top = atlas.bitmap(slot)
        page = row // self.rows
        plane = self.pixels(words, (len(words) - 2 * self._slack) // (self.rows * self.row_words))[page]
        y, x = row - page * self.rows + self.bleed + top, column + left
        upper, first = max(0, -y), max(0, -x)
        lower, last = min(coverage.shape[0], self.rows - y), min(coverage.shape[1], plane.shape[1] - x)
        if upper >= lower or first >= last:
            return
        under = plane[y + upper : y + lower, x + first : x + last]
        under[...] = united(under, coverage[upper:lower, first:last])


def united(under: npt.NDArray[np.uint8], over: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Coverage of one ink over another, as Splash mixes them: their transparencies multiplied."""
    clear = (255 - under.astype(np.uint16)) * (255 - over.astype(np.uint16))
    united_levels: npt.NDArray[np.uint8] = 255 - div255(clear)
    return united_levels


def div255(product: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Products of two levels, up to 255 * 255, divided by 255 and rounded down, as Splash's blending does."""
    quotient: npt.NDArray[np.uint8] = ((product + 1 + (product >> 8)) >> 8).astype(np.uint8)
    return quotient


def overlay(words: Words, over: Words) -> None:
    """Lay the ink of ``over`` onto ``words``, in place."""
    for begin in range(0, len(words), _CHUNK):  # in pieces that stay in the processor's cache
        below, above = words[begin : begin + _CHUNK], over[begin : begin + _CHUNK]
        both = np.flatnonzero(np.minimum(below.view(np.uint8), above.view(np.uint8)).view(np.uint64))
        mixed = united(below[both].view(np.uint8), above[both].view(np.uint8)).view(np.uint64)
        np.bitwise_or(below, above, out=below)
        below[both] = mixed


def _segments(key: npt.NDArray[np.uint16]) -> Iterator[tuple[Indices, int]]:
    """(indices, key) of all equal keys together, in ascending order of key; 16-bit keys are radix-sorted."""
    order = np.argsort(key, kind="stable")
    bounds = [0, *(np.flatnonzero(np.diff(key[order])) + 1).tolist(), len(key)]
    for begin, end in pairwise(bounds):
        yield order[begin:end], int(key[order[begin]])


def _layers(
    line: Numbers, left: Numbers, right: Numbers, top: Numbers, bottom: Numbers
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """The layer of each inked glyph, and which glyphs still touch another of their layer; arrays of shape (n,), in line order."""
    # By columns: glyphs of one line. A line's number outweighs all columns, so that lines do not mix.
    apart = line.astype(np.int64) << 32
    begins, ends = apart + left, apart + right
    for turns in _GLYPH_LAYERS:
        crowded = _touching(begins, ends, turns)
        if crowded.sum() <= _FEW * len(line):
            break
    layer = (np.arange(len(line)) % turns).astype(np.uint16)
    # By rows: whole lines, page after page.
    firsts = np.flatnonzero(np.diff(line, prepend=line[0] - 1))
    tops, bottoms = np.minimum.reduceat(top, firsts), np.maximum.reduceat(bottom, firsts)
    for rows in _LINE_LAYERS:
        lines_touch = _touching(tops, bottoms, rows)
        if not lines_touch.any():
            break
    if rows > 1:
        ordinal = np.repeat(np.arange(len(firsts)), np.diff(np.append(firsts, len(line))))
        crowded = crowded | lines_touch[ordinal]
        layer = layer + (turns * (ordinal % rows)).astype(np.uint16)
    return layer, crowded


def _touching(begins: npt.NDArray[np.integer[Any]], ends: npt.NDArray[np.integer[Any]], turns: int) -> npt.NDArray[np.bool_]:
    """Which of the extents begin before all earlier ones of the same turn (index modulo ``turns``) have ended."""
    touching = np.zeros(len(begins), np.bool_)
    for turn in range(turns):
        reached = np.maximum.accumulate(ends[turn::turns])
        touching[turn + turns :: turns] = begins[turn + turns :: turns] < reached[:-1]
    return touching
