"""FontChain: which font draws which character, by the order configured, bundled, installed. Knows no lines and draws nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering import system_fonts
from glyph_pipeline.rendering.bundled import EMOJI, bundled_faces
from glyph_pipeline.rendering.faces import Face
from glyph_pipeline.rendering.fonts import Font, find_font
from glyph_pipeline.report import FontUse

_UNICODE_SIZE = 0x110000
_NEWLINE, _SPACE = 0x0A, 0x20


class Kind(IntEnum):
    """How a character is drawn. From SHAPED on, a block needs more than a character map and advances."""

    UNKNOWN = 0
    PLAIN = 1  # one glyph, its advance
    INVISIBLE = 2  # nothing, by its nature
    MISSING = 3  # no font has it
    SHAPED = 4  # a letter of a script that HarfBuzz has to shape, or that runs from right to left
    JOINING = 5  # belongs to the character before it
    DIRECTING = 6  # a formatting character of the bidirectional algorithm


# Scripts whose letters join, stack, reorder or run from right to left (Unicode blocks; first, last).
_SHAPED = (
    (0x0590, 0x08FF), (0x0900, 0x0DFF), (0x0E00, 0x0EFF), (0x0F00, 0x0FFF), (0x1000, 0x109F), (0x1100, 0x11FF),
    (0x1700, 0x18AF), (0x1900, 0x1CFF), (0xA800, 0xA82F), (0xA840, 0xA8FF), (0xA900, 0xABFF), (0xD7B0, 0xD7FF),
    (0xFB1D, 0xFDCF), (0xFDF0, 0xFDFF), (0xFE70, 0xFEFE), (0x10800, 0x11FFF), (0x16100, 0x1613F), (0x16D40, 0x16D7F),
    (0x1E100, 0x1E14F), (0x1E290, 0x1E2FF), (0x1E4D0, 0x1E5FF), (0x1E800, 0x1EFFF), (0x1F1E6, 0x1F1FF),
)  # fmt: skip
_JOINERS = ((0x200C, 0x200D), (0xFE00, 0xFE0F), (0x1F3FB, 0x1F3FF), (0xE0020, 0xE007F), (0xE0100, 0xE01EF), (0x034F, 0x034F))
_DIRECTING = ((0x061C, 0x061C), (0x200E, 0x200F), (0x202A, 0x202E), (0x2066, 0x2069))
# Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties): by their nature without a picture.
_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip


class FontChain:
    """The fonts that draw a document, and what is known of each character; learnt when a character is first met.

    ``fonts`` are those in use, the configured one first; ``glyphs`` is (font, glyph id) by glyph number. The tables are by
    code point: ``kinds``, ``numbers`` (glyph number) and ``advances`` (in units of the first font, 1/``units_per_em`` em).
    Not for two threads at a time.
    """

    def __init__(self, font: str, installed: bool = True) -> None:
        primary = find_font(font, installed)
        self.fonts: list[Font] = [primary]
        self.units_per_em = primary.units_per_em
        self.glyphs: list[tuple[int, int]] = []
        self.installed = installed
        self._number_of: dict[tuple[int, int], int] = {}
        self._opened: dict[tuple[Path, int], Font] = {(primary.path, primary.index): primary}
        # Zeroed lazily by the system: only the pages of scripts that occur are ever touched.
        self.kinds = np.zeros(_UNICODE_SIZE, np.uint8)
        self.numbers = np.zeros(_UNICODE_SIZE, np.int32)
        self.advances = np.zeros(_UNICODE_SIZE, np.int64)
        self.blank = self.number(primary, primary.glyph_id(_SPACE))
        self.kinds[_NEWLINE] = Kind.PLAIN
        self.numbers[_NEWLINE] = self.blank

    @property
    def uses(self) -> tuple[FontUse, ...]:
        """What the report says of each font in use."""
        return tuple(font.use for font in self.fonts)

    def learn(self, codepoints: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint8]:
        """The kind of each code point, shape (n,); the tables hold all of them afterwards."""
        kinds: npt.NDArray[np.uint8] = self.kinds[codepoints]
        unknown = kinds == Kind.UNKNOWN
        if unknown.any():
            # Not np.unique, which loads numpy.ma: 8 ms of the first page's 190.
            for codepoint in np.flatnonzero(np.bincount(codepoints[unknown])).tolist():
                self._learn(codepoint)
            kinds = self.kinds[codepoints]
        return kinds

    def number(self, font: Font, glyph_id: int) -> int:
        """The number of a glyph; takes its font into use."""
        if font not in self.fonts:
            self.fonts.append(font)
        index = self.fonts.index(font)
        key = (index, glyph_id)
        found = self._number_of.get(key)
        if found is None:
            found = self._number_of[key] = len(self.glyphs)
            self.glyphs.append(key)
        return found

    def scale(self, font: Font) -> float:
        """Units of the first font for each unit of this one."""
        return self.units_per_em / font.units_per_em

    def font_with(self, text: str) -> Font | None:
        """The first font that has all characters of a cluster (those without a picture aside), emoji fonts first for emoji sequences."""
        needed = [code for code in map(ord, text) if not _within(code, _IGNORABLE)] or [ord(text[0])]
        fonts = self._candidates(needed[0])
        if _is_emoji_sequence(text):
            fonts = self._emoji_first(fonts)
        return next((font for font in fonts if all(font.glyph_id(code) for code in needed)), None)

    def _emoji_first(self, fonts: Iterator[Font]) -> Iterator[Font]:
        yield from (self._open(face) for face in bundled_faces() if face.path.name == EMOJI)
        yield from fonts

    def _learn(self, codepoint: int) -> None:
        category = unicodedata.category(chr(codepoint))
        if _within(codepoint, _DIRECTING):
            kind = Kind.DIRECTING
        elif _within(codepoint, _JOINERS) or category in {"Mn", "Mc", "Me"}:
            kind = Kind.JOINING
        elif _within(codepoint, _IGNORABLE):
            kind = Kind.INVISIBLE
        elif _within(codepoint, _SHAPED):
            kind = Kind.SHAPED
        else:
            kind = Kind.PLAIN
        self.numbers[codepoint] = self.blank
        invisible = _within(codepoint, _IGNORABLE)
        if not invisible:
            found = (
                next(((font, gid) for font in self._candidates(codepoint) if (gid := font.glyph_id(codepoint))), None)
                if drawable(codepoint)
                else None
            )
            if found is None:
                kind = Kind.MISSING
            else:
                font, glyph_id = found
                self.numbers[codepoint] = self.number(font, glyph_id)
                self.advances[codepoint] = round(font.advance(glyph_id) * self.scale(font))
        self.kinds[codepoint] = kind

    def _candidates(self, codepoint: int) -> Iterator[Font]:
        """All fonts that may have a code point, in the order of the chain."""
        yield self.fonts[0]
        yield from (self._open(face) for face in bundled_faces() if face.has(codepoint))
        if self.installed:
            yield from (self._open(face) for face in system_fonts.faces_with(codepoint))

    def _open(self, face: Face) -> Font:
        key = (face.path, face.index)
        found = self._opened.get(key)
        if found is None:
            found = self._opened[key] = Font(face.path, face.path.name, index=face.index)
        return found


def drawable(codepoint: int) -> bool:
    """False for control characters, surrogates and noncharacters: they have no picture of their own, whatever a font says."""
    category = unicodedata.category(chr(codepoint))
    return category not in {"Cc", "Cs"} and codepoint & 0xFFFE != 0xFFFE and not 0xFDD0 <= codepoint <= 0xFDEF


def _is_emoji_sequence(text: str) -> bool:
    """A joiner, an emoji presentation selector, a skin tone, a keycap or a flag makes an emoji of what stands before it."""
    return any(char in "\u200d\ufe0f\u20e3" or 0x1F3FB <= ord(char) <= 0x1F3FF or 0x1F1E6 <= ord(char) <= 0x1F1FF for char in text)


def _within(codepoint: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= codepoint <= last for first, last in ranges)
