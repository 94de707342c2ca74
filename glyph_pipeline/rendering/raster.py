"""Raster: positioned glyphs into pixel arrays, many pages at a time, one blit for all places of a bitmap. Knows no text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.atlas import PHASES, GlyphAtlas, GlyphBitmap
from glyph_pipeline.rendering.config import FRAME_PADDING_PT, RenderConfig, Rgb
from glyph_pipeline.rendering.fonts import Font
from glyph_pipeline.rendering.layout import PageLayout, Slab, position

Pixels = npt.NDArray[np.uint8]

# Splash works on grey levels; below this difference the official renderer's crop takes a pixel for background.
_CROP_TOLERANCE = 5
# ITU-R 601 luma in 16-bit fixed point, as Pillow converts RGB to grey.
_LUMA = (19595, 38470, 7471)


class Rasteriser:
    """Draws pages of one configuration and font. Grey where all colours are grey, else RGB."""

    def __init__(self, config: RenderConfig, font: Font) -> None:
        self.config = config
        self.font = font
        self.scale = config.dpi / 72.0  # px a pt
        self.atlas = GlyphAtlas(font, config.font_size * self.scale)
        self.width, self.height = config.pixel_size
        mark = config.newline_mark
        self.inks: tuple[Rgb, ...] = (config.font_color, mark.colour or config.font_color)
        colours = (*self.inks, config.page_bg_color, config.para_bg_color, config.para_border_color)
        self.channels = 1 if all(red == green == blue for red, green, blue in colours) else 3
        # Glyphs may hang over the page's edge; the canvas has room for that, and the margin is cut off afterwards.
        self._bleed = math.ceil(2 * self.atlas.size) + 2

    def draw(self, pages: Sequence[PageLayout]) -> list[Pixels]:
        """Pixels of each page, uncropped: shape (height, width) or (height, width, 3)."""
        bleed = self._bleed
        canvas = np.empty((len(pages), self.height + 2 * bleed, self.width + 2 * bleed, self.channels), np.uint8)
        canvas[...] = self.config.page_bg_color[: self.channels]
        closing: list[tuple[int, Slab]] = []
        others: list[tuple[int, Slab]] = []
        for index, page in enumerate(pages):
            for slab in page.slabs:
                self._box(canvas[index], slab)
            for slab in page.slabs[:-1]:
                body, last_line = _split_last_line(slab, self.config.leading)
                closing.append((index, last_line))
                if body:
                    others.append((index, body))
            others += [(index, slab) for slab in page.slabs[-1:]]
        if closing:
            # The official renderer fills a paragraph's background after it has drawn the paragraph above: descenders
            # that reach into it are cut off. At this point only those stand where the lower box is.
            self._blit(canvas, closing)
            for index, page in enumerate(pages):
                for slab in page.slabs[1:]:
                    self._box(canvas[index], slab, depth=self.config.font_size)
        self._blit(canvas, others)
        view = canvas[:, bleed : bleed + self.height, bleed : bleed + self.width]
        return [self._scaled(page[..., 0] if self.channels == 1 else page) for page in view]

    def crop(self, pixels: Pixels, last: bool) -> Pixels:
        """Cut at the right of the ink (auto-crop-width) and, on the ``last`` page, below it (auto-crop-last-page)."""
        config = self.config
        grey = pixels if pixels.ndim == 2 else _luma(pixels)
        background = float(np.median(grey[:2, :2]))
        ink = np.abs(grey.astype(np.float32) - background) > _CROP_TOLERANCE
        height, width = grey.shape
        if config.auto_crop_width:
            columns = np.flatnonzero(ink.any(axis=0))
            if columns.size:
                width = min(width, round(int(columns[-1]) + 1 + config.margin_x))
        if config.auto_crop_last_page and last:
            rows = np.flatnonzero(ink.any(axis=1))
            if rows.size:
                height = min(height, round(int(rows[-1]) + config.margin_y))
        return pixels[: max(height, 1), : max(width, 1)]

    def _scaled(self, pixels: Pixels) -> Pixels:
        if self.config.horizontal_scale == 1.0:
            return pixels
        from PIL import Image

        width = max(1, int(self.width * self.config.horizontal_scale))
        return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize((width, self.height)))

    def _box(self, page: Pixels, slab: Slab, depth: float | None = None) -> None:
        """Fill background and border of a slab, or only the upper ``depth`` pt of its background."""
        config, bleed = self.config, self._bleed
        left = config.margin_x + FRAME_PADDING_PT + config.left_indent - config.border_padding
        right = config.page_size[0] - config.margin_x - FRAME_PADDING_PT - config.right_indent + config.border_padding
        top = slab.top - config.border_padding
        bottom = slab.top + slab.count * config.leading + config.border_padding

        def fill(grow: float, colour: Rgb, down_to: float) -> None:
            rows = slice(bleed + round((top - grow) * self.scale), bleed + round((down_to + grow) * self.scale))
            columns = slice(bleed + round((left - grow) * self.scale), bleed + round((right + grow) * self.scale))
            page[rows, columns] = colour[: self.channels]

        half = config.border_width / 2
        if depth is None and half:
            fill(half, config.para_border_color, bottom)
        fill(-half, config.para_bg_color, bottom if depth is None else min(bottom, top + config.border_padding + depth))

    def _blit(self, canvas: Pixels, slabs: Sequence[tuple[int, Slab]]) -> None:
        """Blend the glyphs of ``slabs`` (canvas page, slab) into the canvas, all places of one bitmap in one go."""
        _, height, width, _ = canvas.shape
        keys, places = [], []
        for index, slab in slabs:
            glyphs = position(slab, self.config, self.font)
            x = glyphs.x * self.scale
            # In the order of poppler's transformations: at 96 dpi every third baseline falls on a whole pixel but for
            # float noise, and the noise decides the row.
            y = -self.scale * glyphs.above_foot + (-self.scale * glyphs.foot + self.scale * self.config.page_size[1])
            column = np.floor(x)
            phase = np.floor((x - column) * PHASES).astype(np.int64)
            key = glyphs.glyph_ids * PHASES + phase
            if glyphs.marked is not None:
                key += glyphs.marked * _MARKED
            keys.append(key)
            # A line that is wider than its page (no glyph may be split) must not run on into the row below.
            inside = np.clip(column, -self._bleed // 2, self.width + self._bleed // 2).astype(np.int64)
            row = np.floor(y).astype(np.int64)
            places.append((index * height + row + self._bleed) * width + inside + self._bleed)
        key, place = np.concatenate([np.zeros(0, np.int64), *keys]), np.concatenate([np.zeros(0, np.int64), *places])
        if not key.size:  # empty lines only
            return
        order = np.argsort(key, kind="stable")
        key, place = key[order], place[order]
        bounds = [0, *(np.flatnonzero(np.diff(key)) + 1).tolist(), len(key)]
        flat = canvas.reshape(-1, self.channels)
        for begin, end in pairwise(bounds):
            marked, glyph = divmod(int(key[begin]), _MARKED)
            bitmap = self.atlas.bitmap(glyph)
            if bitmap.coverage.size:
                # Two neighbours of one bitmap may share a column; drawn in turns, no pixel is written twice in one assignment.
                for turn in (place[begin:end:2], place[begin + 1 : end : 2]):
                    _blend(flat, turn, bitmap, width, self.inks[marked])


_MARKED = 1 << 20  # above every glyph id * PHASES


def _blend(flat: Pixels, places: npt.NDArray[np.int64], bitmap: GlyphBitmap, width: int, ink: Rgb) -> None:
    """Alpha-blend one bitmap at many places of ``flat``, shape (pixels, channels), as Splash does: div255 with rounding."""
    where = places[:, None] + (bitmap.rows * width + bitmap.columns)[None, :]
    coverage = bitmap.coverage.astype(np.uint16)
    for channel in range(flat.shape[1]):
        plane = flat[:, channel]
        mixed = plane[where] * (255 - coverage) + np.uint16(ink[channel]) * coverage
        plane[where] = (mixed + (mixed >> 8) + 128) >> 8


def _split_last_line(slab: Slab, leading: float) -> tuple[Slab | None, Slab]:
    if slab.last - slab.first == 1:
        return None, slab
    body = Slab(slab.block, slab.first, slab.last - 1, slab.top, slab.blank, slab.begins_paragraph)
    return body, Slab(slab.block, slab.last - 1, slab.last, slab.top + (slab.count - 1) * leading, 0, False)


def _luma(pixels: Pixels) -> npt.NDArray[np.uint8]:
    red, green, blue = (pixels[..., channel].astype(np.uint32) * weight for channel, weight in enumerate(_LUMA))
    return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)
