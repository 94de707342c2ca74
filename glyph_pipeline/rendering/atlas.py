"""GlyphAtlas: the coverage of glyphs at one size, cut into 8-pixel words for every place a glyph can take. Knows no text and no pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from glyph_pipeline.errors import FontError
from glyph_pipeline.rendering.fonts import Font, open_face

PHASES = 4  # poppler's Splash draws glyphs at quarter pixels (splashFontFraction)
WORD = 8  # pixels in a word: one byte of coverage each in a uint64
PLACES = PHASES * WORD  # horizontal places within a word

_UNKNOWN, BLANK = 0, 1  # the first two slots
_SPLASH_LARGE = 50
_F26DOT6 = 64
_F16DOT16 = 0x10000


@dataclass(slots=True)
class Shape:
    """All glyph pictures of one size in words: ``words`` (pictures, rows * columns) and each word's ``offsets`` in the canvas."""

    offsets: npt.NDArray[np.intp]
    words: npt.NDArray[np.uint64]
    count: int = 0


@dataclass(slots=True)
class _Slots:
    """What is known of each slot; parallel arrays, grown by doubling. Extents are in px from the pen's pixel, right and bottom exclusive."""

    shape: npt.NDArray[np.uint16] = field(default_factory=lambda: np.zeros(256, np.uint16))
    picture: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(256, np.int32))
    origin: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(256, np.int32))
    left: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(256, np.int32))
    right: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(256, np.int32))
    top: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(256, np.int32))
    bottom: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(256, np.int32))

    def grow(self) -> None:
        for name in self.__slots__:
            setattr(self, name, np.concatenate([getattr(self, name)] * 2))


class GlyphAtlas:
    """Pictures of glyphs at ``size`` px an em, made on demand by FreeType: unhinted outlines, 256 grey levels.

    A *slot* is one glyph in one of the PLACES horizontal places of its pen: quarter pixel and pixel within a word. ``fonts``
    may grow while the atlas is used; ``row_words`` is the width of the canvas in words. Glyphs that are wider or higher than
    ``largest`` px have shape 0 and are drawn one by one, see :meth:`bitmap`; so are, trivially, blanks.
    """

    def __init__(self, fonts: Sequence[Font], size: float, row_words: int, largest: int) -> None:
        import freetype

        self.size = size
        self._freetype = freetype
        self._fonts = fonts
        self._faces: dict[int, tuple[freetype.Face, freetype.Matrix]] = {}
        self._row_words = row_words
        self._largest = largest
        self._slot_of = np.zeros(1 << 12, np.int32)
        self._count = 2
        self._bitmaps: dict[int, tuple[npt.NDArray[np.uint8], int, int]] = {}
        self._shape_of: dict[tuple[int, int], int] = {}
        self._key_of: list[int] = [-1, -1]
        self.slots = _Slots()
        self.shapes: list[Shape] = [Shape(np.zeros(0, np.intp), np.zeros((0, 0), np.uint64))]
        face, _ = self._face(0)  # an unusable font is found at once
        # Splash gives up quarter pixels for large glyphs (SplashFTFont, splashFontFraction): when the font's box is over 50 px high.
        box, em = face.bbox, face.units_per_EM  # type: ignore[attr-defined]
        self.whole_pixels = int(size * box.yMax / em) - int(size * box.yMin / em) + 3 > _SPLASH_LARGE

    def find(self, glyphs: Sequence[tuple[int, int]], places: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """Slot of each place, shape (n,): places = glyph number * PLACES + pixel in word * PHASES + quarter.

        ``glyphs`` gives (font, glyph id) by glyph number.
        """
        if len(glyphs) * PLACES > len(self._slot_of):
            grown = np.zeros(max(len(glyphs) * PLACES, 2 * len(self._slot_of)), np.int32)
            grown[: len(self._slot_of)] = self._slot_of
            self._slot_of = grown
        slots = self._slot_of[places]
        unknown = slots == _UNKNOWN
        if unknown.any():
            for place in np.flatnonzero(np.bincount(places[unknown])).tolist():
                number, within = divmod(place, PLACES)
                pixel, quarter = divmod(within, PHASES)
                self._slot_of[place] = self._make(glyphs[number], pixel, quarter)
            slots = self._slot_of[places]
        return slots

    def bitmap(self, slot: int) -> tuple[npt.NDArray[np.uint8], int, int]:
        """Coverage (rows, columns) of a slot's glyph, and the (left, top) of it in px from the pen's pixel, down positive."""
        coverage, left, top = self._bitmaps[self._key_of[slot]]
        return coverage, left, -top

    def _make(self, glyph: tuple[int, int], pixel: int, quarter: int) -> int:
        font, glyph_id = glyph
        key = ((font << 16) + glyph_id) * PHASES + quarter
        found = self._bitmaps.get(key)
        if found is None:
            found = self._bitmaps[key] = self._rasterise(font, glyph_id, quarter)
        coverage, left, top = found
        rows, columns = coverage.shape
        if not rows:
            return BLANK
        slot = self._count
        self._count += 1
        self._key_of.append(key)
        slots = self.slots
        if slot == len(slots.shape):
            slots.grow()
        slots.left[slot], slots.right[slot] = left, left + columns
        slots.top[slot], slots.bottom[slot] = -top, rows - top
        word, shift = divmod(pixel + left, WORD)
        if rows > self._largest or columns > self._largest or abs(top) > self._largest or abs(left) > self._largest:
            slots.shape[slot] = 0
            return slot
        across = -(-(shift + columns) // WORD)
        step = max(2, 1 << max(0, rows.bit_length() - 3))
        down = -(-rows // step) * step  # rounded up, so that glyphs of nearly the same height are added together
        picture = np.zeros((down, across * WORD), np.uint8)
        picture[:rows, shift : shift + columns] = coverage
        slots.shape[slot], slots.picture[slot] = self._add(down, across, picture)
        slots.origin[slot] = word - top * self._row_words
        return slot

    def _add(self, down: int, across: int, picture: npt.NDArray[np.uint8]) -> tuple[int, int]:
        """(shape, picture) under which the words of a picture are kept."""
        number = self._shape_of.get((down, across))
        if number is None:
            offsets = (np.arange(down)[:, None] * self._row_words + np.arange(across)).reshape(-1)
            number = self._shape_of[(down, across)] = len(self.shapes)
            self.shapes.append(Shape(offsets, np.zeros((64, offsets.size), np.uint64)))
        shape = self.shapes[number]
        if shape.count == len(shape.words):
            shape.words = np.concatenate([shape.words] * 2)
        shape.words[shape.count] = picture.view(np.uint64).reshape(-1)
        shape.count += 1
        return number, shape.count - 1

    def _face(self, font: int) -> tuple[object, object]:
        found = self._faces.get(font)
        if found is None:
            freetype, used = self._freetype, self._fonts[font]
            face = open_face(used.path, used.index)
            try:
                # As Splash does: the nearest whole size, and a matrix for what is left.
                whole = max(1, int(self.size + 0.5))
                face.set_pixel_sizes(0, whole)
            except freetype.FT_Exception as e:
                raise FontError(
                    f"FreeType can't use {str(used.path)!r} at {self.size:g} px: {e}.", hint="Choose another font with --font."
                ) from e
            scale = int(self.size / whole * _F16DOT16)
            found = self._faces[font] = (face, freetype.Matrix(scale, 0, 0, scale))
        return found

    def _rasterise(self, font: int, glyph_id: int, quarter: int) -> tuple[npt.NDArray[np.uint8], int, int]:
        """(coverage cut to its ink, left, top): the outline moved right by quarter/PHASES px; ``top`` counts upwards from the baseline."""
        freetype = self._freetype
        face, matrix = self._face(font)
        face.set_transform(matrix, freetype.Vector(quarter * _F26DOT6 // PHASES, 0))  # type: ignore[attr-defined]
        try:
            face.load_glyph(glyph_id, freetype.FT_LOAD_NO_HINTING | freetype.FT_LOAD_NO_BITMAP)  # type: ignore[attr-defined]
            slot = face.glyph  # type: ignore[attr-defined]
            slot.render(freetype.FT_RENDER_MODE_NORMAL)
        except freetype.FT_Exception:
            return np.zeros((0, 0), np.uint8), 0, 0  # a damaged outline: nothing to draw, as poppler does
        bitmap = slot.bitmap
        if not bitmap.rows or not bitmap.width:
            return np.zeros((0, 0), np.uint8), 0, 0
        coverage = np.array(bitmap.buffer, np.uint8).reshape(bitmap.rows, -1)[:, : bitmap.width]
        rows, columns = np.flatnonzero(coverage.any(axis=1)), np.flatnonzero(coverage.any(axis=0))
        if not rows.size:
            return np.zeros((0, 0), np.uint8), 0, 0
        cut = coverage[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return cut, int(slot.bitmap_left + columns[0]), int(slot.bitmap_top - rows[0])
