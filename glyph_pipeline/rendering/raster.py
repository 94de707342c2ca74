"""Raster: laid-out pages into pixel arrays, many at a time: boxes, ink, colours, crops. Knows no text and no files."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.atlas import PHASES, WORD, GlyphAtlas
from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.config import RenderConfig, Rgb
from glyph_pipeline.rendering.coverage import Canvas, PlacedInk, Words, div255
from glyph_pipeline.rendering.layout import PageLayout, Slab
from glyph_pipeline.rendering.placement import PlacedGlyphs, place

Pixels = npt.NDArray[np.uint8]

# Splash works on grey levels; below this difference the official renderer's crop takes a pixel for background.
_CROP_TOLERANCE = 5
# ITU-R 601 luma in 16-bit fixed point, as Pillow converts RGB to grey.
_LUMA = (19595, 38470, 7471)
_STRIP = 64  # columns or rows of a coloured page looked at in one go for its last ink


class Rasteriser:
    """Draws pages of one configuration and font chain. Grey where all colours are grey, else RGB."""

    def __init__(self, config: RenderConfig, chain: FontChain) -> None:
        self.config = config
        self.chain = chain
        self.scale = config.dpi / 72.0  # px a pt
        self.width, self.height = config.pixel_size
        mark = config.newline_mark
        self.inks: tuple[Rgb, ...] = (config.font_color, mark.colour or config.font_color)
        colours = (*self.inks, config.page_bg_color, config.para_bg_color, config.para_border_color)
        self.channels = 1 if all(red == green == blue for red, green, blue in colours) else 3
        # Without boxes of another colour a pixel's colour depends on its coverage alone.
        self._plain = (
            config.page_bg_color == config.para_bg_color == (config.para_border_color if config.border_width else config.page_bg_color)
        )
        # Glyphs may hang over the page's edge; the canvas has room for that, and the margin is cut off afterwards.
        size = config.font_size * self.scale
        bleed = math.ceil(2 * size) + 2
        self._canvas = Canvas(self.width, self.height, bleed)
        self.atlas = GlyphAtlas(chain.fonts, size, self._canvas.row_words, largest=bleed // 2)

    def draw(self, pages: Sequence[PageLayout]) -> list[Pixels]:
        """Pixels of each page, uncropped: shape (height, width) or (height, width, 3)."""
        placed = [(index, place(slab, self.config, self.chain)) for index, page in enumerate(pages) for slab in page.slabs]
        # The official renderer fills a paragraph's background after it has drawn the paragraph above: descenders of that
        # one's last line that reach into it are cut off.
        erased = [(index, *self._background(slab)) for index, page in enumerate(pages) for slab in page.slabs[1:]]
        drawn = []
        for ink, colour in enumerate(self.inks):
            every = self._ink(placed, ink)
            if every is not None:
                drawn.append((self._canvas.cover(len(pages), every, self.atlas, self.chain.glyphs, erased, ink), colour))
        return [self._scaled(page) for page in self._coloured(pages, drawn)]

    def crop(self, pixels: Pixels, last: bool) -> Pixels:
        """Cut at the right of the ink (auto-crop-width) and, on the ``last`` page, below it (auto-crop-last-page)."""
        config = self.config
        corner = pixels[:2, :2] if pixels.ndim == 2 else _luma(pixels[:2, :2])
        ordered = sorted(corner.reshape(-1).tolist())
        background = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2  # the median; numpy's loads numpy.ma
        height, width = pixels.shape[:2]
        multiple = config.crop_multiple
        if config.auto_crop_width:
            column = _last_ink(pixels.swapaxes(0, 1), background)
            if column is not None:
                width = min(width, _up(round(column + 1 + config.margin_x), multiple))
        if config.auto_crop_last_page and last:
            row = _last_ink(pixels, background)
            if row is not None:
                height = min(height, _up(round(row + config.margin_y), multiple))
        return pixels[: max(height, 1), : max(width, 1)]

    def _ink(self, placed: Sequence[tuple[int, PlacedGlyphs]], ink: int) -> PlacedInk | None:
        """The glyphs (page index, glyphs) that are drawn in one ink, in pixels; None if there are none."""
        numbers, quarters, lines, rows, rises, early = [], [], [], [], [], []
        count = 0
        any_rise = any(glyphs.rise is not None for _, glyphs in placed)
        page_height = self.scale * self.config.page_size[1]
        for place_in_order, (index, glyphs) in enumerate(placed):
            keep: slice | npt.NDArray[np.bool_] = slice(None)
            if glyphs.marked is not None:
                keep = glyphs.marked if ink else ~glyphs.marked
            elif ink:
                continue
            numbers.append(glyphs.numbers[keep])
            quarters.append(np.floor((glyphs.x[keep] + glyphs.frame) * (self.scale * PHASES)).astype(np.int32))
            lines.append((glyphs.line[keep] + count).astype(np.int32))
            count += len(glyphs.above_foot)
            # In the order of poppler's transformations: at 96 dpi every third baseline falls on a whole pixel but for
            # float noise, and the noise decides the row.
            y = -self.scale * glyphs.above_foot + (-self.scale * glyphs.foot + page_height)
            rows.append((np.floor(y) + index * self._canvas.rows).astype(np.int32))
            closing = np.zeros(len(rows[-1]), np.bool_)
            closing[-1] = place_in_order + 1 < len(placed) and placed[place_in_order + 1][0] == index
            early.append(closing)
            if any_rise:
                rise = np.zeros(len(glyphs.numbers)) if glyphs.rise is None else glyphs.rise
                rises.append(np.floor(rise[keep] * self.scale + 0.5).astype(np.int32))
        if not any(len(part) for part in numbers):
            return None
        return PlacedInk(
            np.concatenate(numbers),
            np.concatenate(quarters),
            np.concatenate(lines),
            np.concatenate(rows),
            np.concatenate(rises) if rises else None,
            np.concatenate(early),
        )

    def _coloured(self, pages: Sequence[PageLayout], drawn: Sequence[tuple[Words, Rgb]]) -> list[Pixels]:
        """The inks over backgrounds and boxes."""
        config, count = self.config, len(pages)
        if self._plain and len(drawn) == 1:
            words, ink = drawn[0]
            coverage = self._canvas.visible(words, count)
            if self.channels == 1 and ink[0] == 0 and config.page_bg_color[0] == 255:
                return list(~coverage)
            tables = [_mixed(np.uint8(config.page_bg_color[c]), ink[c], np.arange(256, dtype=np.uint8)) for c in range(self.channels)]
            if self.channels == 1:
                return list(tables[0][coverage])
            return list(np.stack(tables, axis=1)[coverage])
        bleed = self._canvas.bleed
        canvas = np.empty((count, self._canvas.rows, self._canvas.row_words * WORD, self.channels), np.uint8)
        canvas[...] = config.page_bg_color[: self.channels]
        if not self._plain:
            for index, page in enumerate(pages):
                for slab in page.slabs:
                    self._box(canvas[index], slab)
        for words, ink in drawn:
            coverage = self._canvas.pixels(words, count)
            inked = np.nonzero(coverage)
            for channel in range(self.channels):
                plane = canvas[..., channel]
                plane[inked] = _mixed(plane[inked], ink[channel], coverage[inked])
        view = canvas[:, bleed : bleed + self.height, bleed : bleed + self.width]
        return [page[..., 0] if self.channels == 1 else page for page in view]

    def _scaled(self, pixels: Pixels) -> Pixels:
        if self.config.horizontal_scale == 1.0:
            return pixels
        from PIL import Image

        width = max(1, int(self.width * self.config.horizontal_scale))
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, self.height)))

    def _box(self, page: Pixels, slab: Slab) -> None:
        """Fill background and border of a slab."""
        config = self.config
        left, top, right, bottom = self._edges(slab)
        page[self._area(left, top, right, bottom)] = config.para_bg_color[: self.channels]
        half = config.border_width / 2
        if not half:
            return
        # Four strokes; each is at least one pixel wide, as Splash adjusts them.
        for edge in (
            (left - half, top - half, left + half, bottom + half),
            (right - half, top - half, right + half, bottom + half),
            (left - half, top - half, right + half, top + half),
            (left - half, bottom - half, right + half, bottom + half),
        ):
            page[self._area(*edge)] = config.para_border_color[: self.channels]

    def _background(self, slab: Slab) -> tuple[slice, slice]:
        """(rows, columns) on the canvas of what a slab's background may clear of the paragraph above: down to its first baseline."""
        half = self.config.border_width / 2
        left, top, right, bottom = self._edges(slab)
        return self._area(left + half, top + half, right - half, min(bottom - half, slab.top + self.config.font_size))

    def _edges(self, slab: Slab) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of a slab's box in pt from the page's upper left corner."""
        config, padding = self.config, self.config.border_padding
        right, bottom = slab.left + config.line_width, slab.top + slab.count * config.leading
        return slab.left - padding, slab.top - padding, right + padding, bottom + padding

    def _area(self, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        """(rows, columns) on the canvas, edges at the nearest whole pixels as Splash's stroke adjustment has them."""

        def snapped(begin: float, end: float) -> slice:
            first, last = math.floor(begin * self.scale + 0.5), math.floor(end * self.scale + 0.5)
            return slice(max(0, first + self._canvas.bleed), max(0, max(last, first + 1) + self._canvas.bleed))

        return snapped(top, bottom), snapped(left, right)


def _mixed(under: npt.NDArray[np.uint8] | np.uint8, ink: int, coverage: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Ink over a background by coverage, as Splash mixes."""
    wide = coverage.astype(np.uint16)
    return div255(np.uint16(under) * (255 - wide) + np.uint16(ink) * wide)


def _last_ink(pixels: Pixels, background: float) -> int | None:
    """The last index along the first axis at which some grey level is not the background; None if there is none."""
    if pixels.ndim == 2:
        differs = (pixels.max(axis=1) > background + _CROP_TOLERANCE) | (pixels.min(axis=1) < background - _CROP_TOLERANCE)
        places = np.flatnonzero(differs)
        return int(places[-1]) if places.size else None
    for end in range(len(pixels), 0, -_STRIP):
        begin = max(0, end - _STRIP)
        found = _last_ink(_luma(pixels[begin:end]), background)
        if found is not None:
            return begin + found
    return None


def _luma(pixels: Pixels) -> npt.NDArray[np.uint8]:
    red, green, blue = (pixels[..., channel].astype(np.uint32) * weight for channel, weight in enumerate(_LUMA))
    return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
