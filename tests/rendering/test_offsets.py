"""Source offsets: pages tile any text, drawn characters come from where they say, drawing never raises and never differs."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glyph_pipeline import Document, RenderConfig, render
from glyph_pipeline.errors import EmptyDocumentError
from glyph_pipeline.rendering.canonical import Losses, blocks, canonical_block, to_text
from glyph_pipeline.rendering.chain import FontChain, Kind
from glyph_pipeline.rendering.config import NewlineMark

SMALL = RenderConfig.preset("en").replace(page_size="160,90", margin_x=4, margin_y=4, system_fonts=False)
RED = SMALL.replace(newline_markup='<font color="#FF0000"> \\n </font>')
CHAIN = FontChain("DejaVuSans.ttf", installed=False)

# Text as it comes: words, white space of all kinds, and now and then anything at all, lone surrogates included.
PIECES = st.one_of(
    st.sampled_from([" ", "  ", "\n", "\n\n", "\t", "\r\n", "\f", "\u00a0", "\u00ad", "\u200b", "\u2003", "\ufeff", "\0"]),
    st.text(alphabet="abcdefghijklmnop ÄöüßΩжЩ.,", max_size=12),
    st.text(alphabet="x", min_size=20, max_size=90),
    st.text(alphabet=st.characters(), max_size=4),
    st.characters(categories=["Cs"]),
)
TEXTS = st.lists(PIECES, max_size=60).map("".join)


def drawable(text: str) -> bool:
    return bool(text.translate({0xAD: None, 0x200B: None}).strip())


@settings(deadline=None, max_examples=150)
@given(
    text=TEXTS,
    config=st.sampled_from([SMALL, RED, SMALL.replace(alignment="JUSTIFY", first_line_indent=9), SMALL.replace(alignment="RIGHT")]),
)
@example(text="\n" * 300 + "x", config=SMALL)
@example(text="word " * 900, config=SMALL)
@example(text="x" * 900, config=RED)
def test_pages_tile_the_source(text: str, config: RenderConfig) -> None:
    if not drawable(text):
        with pytest.raises(EmptyDocumentError):
            render(text, config)
        return
    pages = list(render(text, config))
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert pages[0].start == 0
    assert pages[-1].end == len(text)
    assert all(page.end == following.start for page, following in pairwise(pages))
    assert all(page.start <= page.end for page in pages)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS)
def test_no_character_is_lost(text: str) -> None:
    """All that is ink in the source is drawn, in order: as itself, or as the escape of what the font lacks."""
    if not drawable(text):
        return
    drawn = "".join("".join(page.lines) for page in render(text, SMALL))
    expected = []
    for char in text:
        code = ord(char)
        if char == "\ufeff" or not (char.isspace() or code in (0xAD, 0x200B)):
            CHAIN.learn(np.array([code], np.uint32))
            # A tag outside a flag would be invisible: it is drawn as an escape, too.
            missing = CHAIN.kinds[code] == Kind.MISSING or 0xE0020 <= code <= 0xE007F
            expected.append(f"[U+{code:04X}]" if missing else char)
    assert drawn.replace(" ", "") == "".join(expected)


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, mark=st.sampled_from([NewlineMark(), NewlineMark(text=" \\n ", colour=(255, 0, 0)), NewlineMark(text="¶")]))
def test_every_drawn_character_names_where_it_comes_from(text: str, mark: NewlineMark) -> None:
    for start, end in blocks(text):
        block = canonical_block(text, start, end, CHAIN, mark, Losses())
        assert np.all(np.diff(block.source) >= 0)
        assert np.all((block.source >= start) & (block.source < max(end, start + 1)))
        for position, char in enumerate(to_text(block.codepoints)):
            origin = text[block.source[position]]
            if block.marked is not None and block.marked[position]:
                assert origin == "\n"
            elif not char.isspace():
                assert char == origin or char in f"[U+{ord(origin):04X}]"


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="ab\n", max_size=400), st.integers(1, 50))
def test_blocks_cover_the_text_paragraph_by_paragraph(text: str, size: int) -> None:
    from glyph_pipeline.rendering import canonical

    before, canonical.BLOCK_CHARACTERS = canonical.BLOCK_CHARACTERS, size
    try:
        pieces = list(blocks(text))
    finally:
        canonical.BLOCK_CHARACTERS = before
    assert "\n".join(text[start:end] for start, end in pieces) == text
    # All but the last hold whole paragraphs of 30 source lines.
    assert all((text[start:end].count("\n") + 1) % 30 == 0 for start, end in pieces[:-1])


def test_a_long_text_is_drawn_the_same_however_it_is_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(f"Line {number} of the harbour book, kept with care and {'x' * (number % 90)}.\n" for number in range(900))
    whole = [page.png for page in render(text, SMALL)]
    monkeypatch.setattr("glyph_pipeline.rendering.canonical.BLOCK_CHARACTERS", 500)
    monkeypatch.setattr("glyph_pipeline.rendering.renderer.PAGES_PER_BATCH", 3)
    assert [page.png for page in render(text, SMALL)] == whole


def test_the_first_page_does_not_wait_for_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    from glyph_pipeline.rendering import renderer

    drawn: list[int] = []

    class Watched(renderer.Rasteriser):
        def draw(self, pages):  # type: ignore[no-untyped-def]
            drawn.extend(page.number for page in pages)
            return super().draw(pages)

    monkeypatch.setattr(renderer, "Rasteriser", Watched)
    pages = renderer.render("A page of its own. " * 5000, SMALL)
    assert drawn == []
    assert next(pages).number == 1
    assert drawn == [1]


def test_the_same_bytes_in_another_process() -> None:
    text = "Noon gun at Skarrow, 1877: Ωμέγα, Привет, œuvre.\n" * 60
    code = "import sys, hashlib; from glyph_pipeline import render; [print(hashlib.sha256(p.png).hexdigest()) for p in render(sys.stdin.read())]"
    other = subprocess.run(
        [sys.executable, "-c", code], input=text, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout.split()
    assert other == [hashlib.sha256(page.png).hexdigest() for page in render(text)]


def test_a_page_is_what_it_says() -> None:
    text = "The tolls of the bridge at Orme, farthing by farthing.\n" * 100
    pages = list(render(Document(text, id="tolls.txt")))
    for page in pages:
        image = page.to_image()
        assert (image.size, image.mode, image.format) == ((page.width, page.height), "L", "PNG")
        assert page.document == "tolls.txt"
    assert [len(page.lines) for page in pages] == [81, 20]
    assert pages[0].lines[0] == "The tolls of the bridge at Orme, farthing by farthing."
    assert next(render(text)).document is None
