"""Shaping: characters to glyphs and pen positions along a line. Knows no line width and no pages.

Plain characters go by the character map and the advance table alone, as in the official renderer: no kerning, no ligatures.
What needs more (see chain.Kind) is done by clusters.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from glyph_pipeline.rendering.canonical import CodePoints
from glyph_pipeline.rendering.chain import FontChain, Kind

if TYPE_CHECKING:
    from glyph_pipeline.rendering.clusters import Clusters, Shaper


@dataclass(frozen=True, slots=True)
class ShapedText:
    """Glyph numbers (g,) and the pen before each character, ``pen`` (n + 1,), in font units, running on over line ends.

    The pen is integer, so the width of any piece, pen[end] - pen[start], is exact however long the text. Without ``clusters``
    there is one glyph for each character; with them they tell which glyphs belong to which, and the whole advance of a
    cluster stands at its first character.
    """

    numbers: npt.NDArray[np.int32]
    pen: npt.NDArray[np.int64]
    clusters: Clusters | None = None


class TextShaper:
    """Shapes block after block with one font chain; keeps the shapes of words it has met."""

    def __init__(self, chain: FontChain) -> None:
        self.chain = chain
        self._shaper: Shaper | None = None

    def shape(self, codepoints: CodePoints) -> ShapedText:
        """Glyphs and pen positions of a canonical block; line feeds take no room."""
        chain = self.chain
        kinds = chain.learn(codepoints)
        numbers, advances = chain.numbers[codepoints], chain.advances[codepoints]
        clusters = None
        if codepoints.size and kinds.max() >= Kind.SHAPED:
            if self._shaper is None:
                from glyph_pipeline.rendering.clusters import Shaper

                self._shaper = Shaper(chain)
            numbers, advances, clusters = self._shaper.shape(codepoints, kinds, numbers, advances)
        pen = np.zeros(len(codepoints) + 1, np.int64)
        np.cumsum(advances, out=pen[1:])
        return ShapedText(numbers, pen, clusters)
