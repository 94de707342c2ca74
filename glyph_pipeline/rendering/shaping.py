"""Shaping: characters to glyph ids and pen positions along a line. Knows no line width and no pages.

Plain scripts (Latin, Greek, Cyrillic) go by the character map and the advance table alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.canonical import CodePoints
from glyph_pipeline.rendering.fonts import Font

_NEWLINE = 0x0A


@dataclass(frozen=True, slots=True)
class ShapedText:
    """Glyph ids (n,) and the pen before each glyph, ``pen`` (n + 1,), in font units, running on over line ends.

    The pen is integer, so the width of any piece, pen[end] - pen[start], is exact however long the text.
    """

    glyph_ids: npt.NDArray[np.uint16]
    pen: npt.NDArray[np.int64]


def shape(codepoints: CodePoints, font: Font) -> ShapedText:
    """Glyphs and pen positions of a canonical block; line feeds take no room."""
    glyph_ids = font.glyph_ids(codepoints)
    advances = font.advances(glyph_ids)
    advances[codepoints == _NEWLINE] = 0
    pen = np.zeros(len(codepoints) + 1, np.int64)
    np.cumsum(advances, out=pen[1:])
    return ShapedText(glyph_ids, pen)
