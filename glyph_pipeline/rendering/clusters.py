"""Clusters: text that needs more than a character map: scripts that join or reorder, marks, emoji sequences, right-to-left lines.

Fonts and scripts are chosen cluster by cluster, HarfBuzz shapes, and words are remembered. Knows no line width and no pages.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import regex
import uharfbuzz
from fontTools.unicodedata import script as script_of

from glyph_pipeline.rendering.bidi import embedding_levels, needs_bidi
from glyph_pipeline.rendering.canonical import CodePoints, to_text
from glyph_pipeline.rendering.chain import FontChain, Kind
from glyph_pipeline.rendering.fonts import Font

_CLUSTER = regex.compile(r"\X")
_BREAKS = (0x0A, 0x20, 0xA0)
# Words kept with their shapes; a text of any size has fewer different ones in use at a time.
_WORDS_KEPT = 1 << 16

Levels: TypeAlias = npt.NDArray[np.uint8]
# Of one cluster: its first character in the word, its advance, and (glyph number, dx, rise) of each glyph; in font units.
ClusterShape: TypeAlias = tuple[int, int, tuple[tuple[int, float, float], ...]]


@dataclass(frozen=True, slots=True)
class Clusters:
    """How the glyphs of a block belong to its n characters.

    ``at`` (g,) is the character each glyph stands at, ascending; ``first`` (n + 1,) the first glyph of each character.
    ``dx`` and ``rise`` (g,) move a glyph from the left edge of its cluster and off the baseline, in font units. ``levels``
    and ``base`` (n,) are the embedding levels of the characters and of their paragraphs; None where all lines run left to right.
    """

    at: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    dx: npt.NDArray[np.float64]
    rise: npt.NDArray[np.float64]
    levels: Levels | None
    base: Levels | None


class _Piece(NamedTuple):
    """Characters of one cluster, where they start in their word, and the font that has them all; None where they are plain."""

    start: int
    text: str
    font: Font | None
    script: str


class Shaper:
    """Shapes what is not plain, with the fonts of one chain."""

    def __init__(self, chain: FontChain) -> None:
        self._chain = chain
        self._words: dict[tuple[str, bool], tuple[ClusterShape, ...]] = {}
        self._script_of: dict[str, str] = {}

    def shape(
        self, codepoints: CodePoints, kinds: npt.NDArray[np.uint8], numbers: npt.NDArray[np.int32], advances: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], Clusters]:
        """(glyph numbers, advances, clusters) of a block, given the plain ones of each character."""
        text = to_text(codepoints)
        levels, base = self._levels(text, codepoints)
        count = len(codepoints)
        glyphs_at = np.ones(count, np.int64)
        shaped = np.zeros(count, np.bool_)
        drawn: list[tuple[int, float, float]] = []
        starts: list[int] = []
        glyph_counts: list[int] = []
        widths: list[int] = []
        for start, end in self._words_to_shape(codepoints, kinds, levels):
            shaped[start:end] = True
            for begin, until, odd in _level_runs(levels, start, end):
                for at_word, advance, glyphs in self._word(text[begin:until], odd):
                    starts.append(begin + at_word)
                    glyph_counts.append(len(glyphs))
                    widths.append(advance)
                    drawn += glyphs
        glyphs_at[shaped] = 0
        glyphs_at[starts] = glyph_counts
        advances = np.where(shaped, 0, advances)
        advances[starts] = widths
        at = np.repeat(np.arange(count), glyphs_at)
        of_cluster = shaped[at]
        all_numbers = numbers[at]
        dx, rise = np.zeros(len(at)), np.zeros(len(at))
        if drawn:
            columns = np.array(drawn, np.float64)
            all_numbers[of_cluster] = columns[:, 0].astype(np.int32)
            dx[of_cluster], rise[of_cluster] = columns[:, 1], columns[:, 2]
        first = np.concatenate(([0], np.cumsum(glyphs_at)))
        return all_numbers, advances, Clusters(at, first, dx, rise, levels, base)

    def _levels(self, text: str, codepoints: CodePoints) -> tuple[Levels | None, Levels | None]:
        """Embedding levels of each character and of its paragraph; None if all is left to right."""
        turning = np.flatnonzero(needs_bidi(codepoints))
        if not turning.size:
            return None, None
        levels, base = np.zeros(len(codepoints), np.uint8), np.zeros(len(codepoints), np.uint8)
        ends = np.append(np.flatnonzero(codepoints == 0x0A), len(codepoints))
        for unit in np.unique(np.searchsorted(ends, turning)).tolist():
            start, end = int(ends[unit - 1]) + 1 if unit else 0, int(ends[unit])
            paragraph_level, levels[start:end] = embedding_levels(text[start:end])
            base[start:end] = paragraph_level
        return levels, base

    def _words_to_shape(self, codepoints: CodePoints, kinds: npt.NDArray[np.uint8], levels: Levels | None) -> list[tuple[int, int]]:
        """(start, end) of the words with a character that is not plain, or that is mirrored where it stands."""
        needed = kinds >= Kind.SHAPED
        if levels is not None:
            odd = (levels & 1).astype(np.bool_)
            mirrored = [code for code in np.unique(codepoints[odd]).tolist() if unicodedata.mirrored(chr(code))]
            needed |= odd & np.isin(codepoints, mirrored)
        breaks = np.concatenate(([-1], np.flatnonzero(np.isin(codepoints, _BREAKS)), [len(codepoints)]))
        words = np.unique(np.searchsorted(breaks, np.flatnonzero(needed)))
        # A formatting character may stand between spaces: then it is a word, never a space.
        return [(int(breaks[word - 1]) + 1, int(breaks[word])) for word in words.tolist()]

    def _word(self, word: str, odd: bool) -> tuple[ClusterShape, ...]:
        key = (word, odd)
        found = self._words.get(key)
        if found is None:
            if len(self._words) >= _WORDS_KEPT:
                self._words.clear()
            found = self._words[key] = tuple(self._shape_word(word, odd))
        return found

    def _shape_word(self, word: str, odd: bool) -> list[ClusterShape]:
        """The clusters of a piece of one level, in the order of its characters."""
        shapes: list[ClusterShape] = []
        for (font, script), pieces in groupby(self._pieces(word, odd), key=lambda piece: (piece.font, piece.script)):
            run = list(pieces)
            if font is None:
                shapes += [self._plain(piece.start, piece.text) for piece in run]
            else:
                shapes += self._harfbuzz(font, script, "".join(piece.text for piece in run), run[0].start, odd)
        return shapes

    def _pieces(self, word: str, odd: bool) -> Iterator[_Piece]:
        """The word's clusters with the font of each; single characters where a font has not the whole cluster."""
        script = "Zyyy"
        clusters: list[tuple[int, str, str, bool]] = []
        for match in _CLUSTER.finditer(word):
            cluster = match.group()
            script = self._script(cluster, script)
            plain = not odd and all(self._chain.kinds[ord(char)] <= Kind.INVISIBLE for char in cluster)
            clusters.append((match.start(), cluster, script, plain))
        for (script, plain), group in groupby(clusters, key=lambda cluster: cluster[2:]):
            run = [(start, cluster) for start, cluster, _, _ in group]
            # One font for all letters of a script in a word: they don't join or carry marks across fonts.
            common = None if plain or script == "Zyyy" else self._chain.font_with("".join(cluster for _, cluster in run))
            for start, cluster in run:
                font = None if plain else common or self._chain.font_with(cluster)
                if font is not None:
                    yield _Piece(start, cluster, font, script)
                    continue
                # Plain characters, or a cluster that no font has as a whole: character by character.
                for index, char in enumerate(cluster):
                    single = None if plain else self._chain.font_with(char) or self._chain.fonts[0]
                    yield _Piece(start + index, char, single, script)

    def _plain(self, start: int, char: str) -> ClusterShape:
        number, advance = int(self._chain.numbers[ord(char)]), int(self._chain.advances[ord(char)])
        return start, advance, ((number, 0.0, 0.0),)

    def _harfbuzz(self, font: Font, script: str, text: str, start: int, odd: bool) -> list[ClusterShape]:
        buffer = uharfbuzz.Buffer()
        buffer.add_str(text)
        buffer.direction = "rtl" if odd else "ltr"
        buffer.script = script
        buffer.language = "und"  # else HarfBuzz takes it from the machine's locale
        uharfbuzz.shape(font.harfbuzz, buffer)
        chain, scale = self._chain, self._chain.scale(font)
        x, y = 0, 0
        shapes: list[ClusterShape] = []
        glyphs = list(zip(buffer.glyph_infos, buffer.glyph_positions, strict=True))
        for cluster, group in groupby(glyphs, key=lambda glyph: glyph[0].cluster):
            left, members = x, []
            for info, placed in group:
                dx, rise = (x - left + placed.x_offset) * scale, (y + placed.y_offset) * scale
                members.append((chain.number(font, info.codepoint), dx, rise))
                x += placed.x_advance
                y += placed.y_advance
            shapes.append((start + cluster, round((x - left) * scale), tuple(members)))
        return sorted(shapes, key=lambda shape: shape[0])

    def _script(self, cluster: str, before: str) -> str:
        """ISO 15924 code of a cluster's script; what is common to all scripts goes with the letters before it."""
        for char in cluster:
            script = self._script_of.get(char)
            if script is None:
                script = self._script_of[char] = script_of(char)
            if script not in {"Zyyy", "Zinh", "Zzzz"}:
                return script
        return before


def _level_runs(levels: Levels | None, start: int, end: int) -> list[tuple[int, int, bool]]:
    """(start, end, odd) of the pieces of one level within [start, end)."""
    if levels is None:
        return [(start, end, False)]
    cuts = np.flatnonzero(np.diff(levels[start:end])) + start + 1
    return [(begin, until, bool(levels[begin] & 1)) for begin, until in pairwise([start, *cuts.tolist(), end])]
