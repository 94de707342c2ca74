"""GlyphAtlas: the bitmaps of glyphs at one size, each in four horizontal quarter-pixel phases. Knows no text and no pages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glyph_pipeline.errors import FontError
from glyph_pipeline.rendering.fonts import Font

PHASES = 4  # poppler's Splash draws glyphs at quarter pixels (splashFontFraction)
_F26DOT6 = 64
_F16DOT16 = 0x10000


@dataclass(frozen=True, slots=True)
class GlyphBitmap:
    """Coverage of one glyph in one phase: the inked pixels only.

    ``rows`` and ``columns`` are offsets in px from the pen's pixel (down and right are positive), ``coverage`` is 1..255;
    all of shape (inked pixels,). ``width`` is the extent in px between the outermost inked columns.
    """

    rows: npt.NDArray[np.int32]
    columns: npt.NDArray[np.int32]
    coverage: npt.NDArray[np.uint8]

    @property
    def width(self) -> int:
        """Extent in px from the first to the last inked column; 0 for a blank."""
        return int(self.columns.max() - self.columns.min()) + 1 if self.columns.size else 0


class GlyphAtlas:
    """Bitmaps of a font at ``size`` px an em, made on demand by FreeType: unhinted outlines, 256 grey levels."""

    def __init__(self, font: Font, size: float) -> None:
        import freetype

        self.size = size
        self._freetype = freetype
        try:
            self._face = freetype.Face(str(font.path))
            # As Splash does: the nearest whole size, and a matrix for what is left.
            whole = max(1, int(size + 0.5))
            self._face.set_pixel_sizes(0, whole)
        except freetype.FT_Exception as e:
            raise FontError(f"FreeType can't use {str(font.path)!r} at {size:g} px: {e}.", hint="Choose another font with --font.") from e
        scale = int(size / whole * _F16DOT16)
        self._matrix = freetype.Matrix(scale, 0, 0, scale)
        self._bitmaps: dict[int, GlyphBitmap] = {}

    def bitmap(self, key: int) -> GlyphBitmap:
        """The bitmap of ``key`` = glyph id * PHASES + phase; phase p is shifted right by p/4 px."""
        found = self._bitmaps.get(key)
        if found is None:
            found = self._bitmaps[key] = self._rasterise(*divmod(key, PHASES))
        return found

    def _rasterise(self, glyph_id: int, phase: int) -> GlyphBitmap:
        freetype = self._freetype
        self._face.set_transform(self._matrix, freetype.Vector(phase * _F26DOT6 // PHASES, 0))
        self._face.load_glyph(glyph_id, freetype.FT_LOAD_NO_HINTING | freetype.FT_LOAD_NO_BITMAP)
        slot = self._face.glyph
        slot.render(freetype.FT_RENDER_MODE_NORMAL)
        bitmap = slot.bitmap
        pixels = (
            np.array(bitmap.buffer, np.uint8).reshape(bitmap.rows, -1)[:, : bitmap.width] if bitmap.rows else np.zeros((0, 0), np.uint8)
        )
        rows, columns = np.nonzero(pixels)
        return GlyphBitmap(
            rows=(rows - slot.bitmap_top).astype(np.int32),
            columns=(columns + slot.bitmap_left).astype(np.int32),
            coverage=pixels[rows, columns],
        )
