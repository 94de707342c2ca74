"""Planting: which lines of a page are read, and the picture on which some are random strings. Reads nothing."""

from __future__ import annotations

import io
import random
import string
from dataclasses import dataclass, replace

import numpy as np

from glyph_pipeline.document import Document
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.layout import column_edges
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.rendering.shaping import TextShaper

# What identifiers are made of, and what is misread in them: hashes and UUIDs; keys and tokens, with 0 and O, l and I; numbers.
ALPHABETS = ("0123456789abcdef", string.ascii_letters + string.digits, string.digits)
# Of the room, so that a string never breaks for want of a hair's breadth.
_SAFE = 0.98
# A line that holds a brace is no place for a string; one of so many em is.
_LEAST_EM = 6.0


@dataclass(frozen=True, slots=True)
class Specimen:
    """A picture and what is to be read of it: ``lines`` are those with ink, ``places`` (from 0, rising) which of them count."""

    page: Page
    lines: tuple[str, ...]
    places: tuple[int, ...]

    @property
    def chosen(self) -> list[str]:
        """The lines that count."""
        return [self.lines[place] for place in self.places]


def sampled(page: Page, count: int, lot: str) -> Specimen:
    """``count`` lines of a page (0: all), drawn by ``lot``."""
    lines = inked(page)
    return Specimen(page, lines, _drawn(len(lines), count or len(lines), random.Random(f"lines {lot}")))


def inked(page: Page) -> tuple[str, ...]:
    """The lines of a page that are not blank."""
    return tuple(line for line in page.lines if line.strip())


class Planter:
    """Draws pages anew with random strings in the place of some lines, with the same configuration; each about as wide as its line.

    A mark for line breaks becomes a break: every line stays where it stood. Not for two threads at a time.
    """

    def __init__(self, config: RenderConfig) -> None:
        self._renderer = Renderer(config.replace(newline_markup="<br/>"))
        self._shaper = TextShaper(self._renderer.chain)
        config = self._renderer.config
        units = self._renderer.chain.units_per_em / config.font_size  # to the pt
        self._room = (config.line_width - max(config.first_line_indent, 0.0)) * _SAFE * units
        self._least = min(_LEAST_EM * self._renderer.chain.units_per_em, self._room)

    def planted(self, page: Page, count: int, lot: str) -> Specimen | None:
        """``page`` with ``count`` of its lines replaced, as ``lot`` has it: the same at every resolution. None without any line."""
        chance = random.Random(f"planted {lot}")
        places = [place for place, line in enumerate(page.lines) if line.strip()]
        chosen = [places[index] for index in _drawn(len(places), count, chance)]
        if not chosen:
            return None
        lines = [line.rstrip() for line in page.lines]
        for number, place in enumerate(chosen):
            lines[place] = self._string(ALPHABETS[number % len(ALPHABETS)], self._width(lines[place]), chance)
        strings = {lines[place] for place in chosen}
        probe = self._as_large_as(page, next(self._renderer.render(Document("\n".join(lines), id=page.document or ""))))
        drawn = inked(probe)
        probe = replace(probe, number=page.number)
        # Where the lines above take more room than they did, the last ones stand on a page of which nothing is read.
        return Specimen(probe, drawn, tuple(place for place, line in enumerate(drawn) if line in strings))

    def _as_large_as(self, page: Page, probe: Page) -> Page:
        """Cropped smaller, it would be resampled to another scale, and its letters would be larger than the page's."""
        size = (max(page.width, probe.width), max(page.height, probe.height))
        if size == (probe.width, probe.height):
            return probe
        from PIL import Image

        drawn = probe.to_image()
        colour = self._renderer.config.page_bg_color
        whole = Image.new(drawn.mode, size, colour if drawn.mode == "RGB" else colour[0])
        whole.paste(drawn)
        data = io.BytesIO()
        whole.save(data, "PNG")
        columns = column_edges(self._renderer.config, size[0])
        return replace(probe, width=size[0], height=size[1], png=data.getvalue(), columns=columns)

    def _width(self, text: str) -> float:
        """In font units."""
        return float(self._shaper.shape(np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)).pen[-1])

    def _string(self, alphabet: str, width: float, chance: random.Random) -> str:
        width = min(max(width, self._least), self._room)
        narrowest = max(1.0, min(self._width(char) for char in alphabet))
        text = "".join(chance.choices(alphabet, k=int(width / narrowest) + 1))
        pen = self._shaper.shape(np.frombuffer(text.encode("utf-32-le"), np.uint32)).pen
        return text[: max(1, int(np.searchsorted(pen, width, side="right")) - 1)]


def _drawn(whole: int, count: int, chance: random.Random) -> tuple[int, ...]:
    """``count`` places of ``whole``, rising; all if there are no more."""
    return tuple(sorted(chance.sample(range(whole), min(whole, count))))


def lot_of(seed: int, text: str, number: int) -> str:
    """What the lot of a page begins with: its document's text (a hash) and its number, and no resolution."""
    return f"{seed} {text} {number}"
