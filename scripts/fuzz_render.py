#!/usr/bin/env python3
"""Draws random Unicode documents with random configurations until the time is up; stops at the first broken promise.

    scripts/fuzz_render.py [--seconds 60] [--seed 0]

Promises: drawing never raises but for an empty document; pages tile the source; every character with ink is on a page or there as its
escape; the same document gives the same bytes again. The seed of a failure is printed: --seed N --seconds 0 draws that document alone.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import unicodedata
from itertools import pairwise

from glyph_pipeline import RenderConfig
from glyph_pipeline.errors import ConfigError, EmptyDocumentError
from glyph_pipeline.rendering.renderer import Renderer

BLOCKS = [(0x20, 0x7E), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x5FF), (0x600, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F)]
BLOCKS += [(0x1000, 0x109F), (0x1100, 0x11FF), (0x1780, 0x17FF), (0x2000, 0x206F), (0x2190, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF)]
BLOCKS += [(0xAC00, 0xD7A3), (0xD800, 0xDFFF), (0xE000, 0xF8FF), (0xFB1D, 0xFDFF), (0xFE00, 0xFE0F), (0xFE70, 0xFEFF), (0xFFF0, 0xFFFF)]
BLOCKS += [
    (0x10000, 0x10FFF),
    (0x11000, 0x11FFF),
    (0x1F1E6, 0x1F1FF),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF),
    (0xE0000, 0xE01EF),
    (0, 0x1F),
]
GAPS = [" ", " ", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\f", "\u00a0", "\u00ad", "\u200b", "\u3000", "\u200d", "", ""]


def document(chance: random.Random) -> str:
    """Words of one to three blocks each, between gaps of all kinds; sometimes one very long word or many empty lines."""
    pieces: list[str] = []
    scripts = chance.sample(BLOCKS, chance.randint(1, 4))
    for _ in range(chance.choice([1, 5, 40, 400])):
        first, last = chance.choice(scripts)
        pieces.append("".join(chr(chance.randint(first, last)) for _ in range(chance.choice([1, 2, 4, 8, 8, 200]))))
        pieces.append(chance.choice(GAPS))
    if chance.random() < 0.1:
        pieces.append("\n" * 5000)
    return "".join(pieces)


def configuration(chance: random.Random) -> RenderConfig:
    """A configuration that draws something, small pages mostly."""
    while True:
        try:
            return RenderConfig(
                page_size=chance.choice(["90,60", "200,120", "595,842", "300,90"]),
                margin_x=chance.choice([0, 2, 10]),
                margin_y=chance.choice([0, 2, 10]),
                dpi=chance.choice([36, 72, 96, 120]),
                font=chance.choice(["DejaVuSans.ttf", "DejaVuSansMono.ttf", "NotoSansMonoCJKsc-Regular.otf"]),
                font_size=chance.choice([4, 7, 9, 12]),
                line_height=chance.choice([None, 5, 10, 14]),
                alignment=chance.choice(["LEFT", "RIGHT", "CENTER", "JUSTIFY"]),
                first_line_indent=chance.choice([0, 0, 9, -5]),
                space_before=chance.choice([0, 0, 3]),
                columns=chance.choice([1, 1, 2]),
                newline_markup=chance.choice(["<br/>", "¶", '<font color="#FF0000"> \\n </font>']),
                system_fonts=False,
            )
        except ConfigError:
            continue


def inked(text: str, renderer: Renderer) -> str:
    """The characters that must be on the pages, as they are drawn."""
    shown = []
    for char in text:
        code = ord(char)
        if char.isspace() or code in (0xAD, 0x200B):
            continue
        escape = f"[U+{code:04X}]"
        shown.append(escape if char in renderer.losses.missing and unicodedata.category(char) != "Cf" else char)
    return "".join(shown)


def check(seed: int) -> int:
    """Draw the document of a seed; gives its length. Raises AssertionError."""
    chance = random.Random(seed)
    text, config = document(chance), configuration(chance)
    renderer = Renderer(config)
    try:
        pages = list(renderer.render(text))
    except EmptyDocumentError:
        return len(text)
    assert pages, "no page"
    assert pages[0].start == 0, "the first page does not begin at 0"
    assert pages[-1].end == len(text), "the last page does not end with the text"
    assert all(page.end == following.start for page, following in pairwise(pages)), "pages do not tile the text"
    if config.newline_markup == "<br/>":
        drawn = "".join("".join(page.lines) for page in pages).replace(" ", "")
        kept = "".join(char for char in drawn if unicodedata.category(char) != "Cf")
        wanted = "".join(char for char in inked(text, renderer) if unicodedata.category(char) != "Cf")
        tags = any(0xE0020 <= ord(char) <= 0xE007F for char in text)
        assert tags or kept == wanted, "a character is lost or doubled"
    assert [page.png for page in Renderer(config).render(text)] == [page.png for page in pages], "other bytes the second time"
    return len(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    until, seed, characters = time.monotonic() + options.seconds, options.seed, 0
    while True:
        try:
            characters += check(seed)
        except Exception:
            print(f"scripts/fuzz_render.py: seed {seed} fails", file=sys.stderr)
            raise
        seed += 1
        if time.monotonic() >= until:
            break
    print(f"{seed - options.seed} documents, {characters:,} characters: every promise held")


if __name__ == "__main__":
    main()
