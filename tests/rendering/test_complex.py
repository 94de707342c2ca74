"""Text that a character map alone can't draw: right-to-left lines, joined and stacked letters, marks, emoji sequences, what no font has."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.errors import EmptyDocumentError
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.layout import lay_out
from glyph_pipeline.rendering.placement import place
from glyph_pipeline.rendering.renderer import Renderer

WIDE = RenderConfig(font="DejaVuSans.ttf", page_size="300,60", margin_x=0, margin_y=0, system_fonts=False).replace(
    auto_crop_width=False, auto_crop_last_page=False
)
NARROW = WIDE.replace(page_size="70,60")

Pixels = npt.NDArray[np.uint8]


def drawn(text: str, config: RenderConfig = WIDE) -> Pixels:
    """Ink (True) of the first page."""
    return np.asarray(next(render(text, config)).to_image()) < 160


def ink_columns(text: str, config: RenderConfig = WIDE) -> tuple[int, int]:
    columns = np.flatnonzero(drawn(text, config).any(axis=0))
    return int(columns[0]), int(columns[-1])


def test_a_right_to_left_paragraph_begins_at_the_right() -> None:
    left, right = ink_columns("שלום עולם")
    assert right > 290
    assert left > 200
    assert ink_columns("shalom")[0] < 8
    # Within a left-to-right paragraph it stays in its place.
    assert ink_columns("a שלום")[1] < 100


def seen(text: str, shapes: str) -> str:
    """Those of the glyphs ``shapes`` that stand on the first page, from left to right."""
    renderer = Renderer(WIDE)
    layout = next(lay_out(text, WIDE, renderer.chain, Losses()))
    glyphs = place(layout.slabs[0], WIDE, renderer.chain)
    renderer.chain.learn(np.array([ord(char) for char in shapes], np.uint32))
    names = {int(renderer.chain.numbers[ord(char)]): char for char in shapes}
    assert len(names) == len(set(shapes))
    return "".join(names.get(number, "") for number in glyphs.numbers[np.argsort(glyphs.x, kind="stable")].tolist())


def test_letters_run_from_right_to_left() -> None:
    assert seen("שלום", "שלום") == "םולש"
    assert seen("shalom", "shalom") == "shalom"


def test_numbers_and_latin_keep_their_order_within_hebrew() -> None:
    """In visual order the digits of 123 stand as they do alone; the word before them stands to their right."""
    assert seen("שלום 123", "שלום123") == "123םולש"
    assert seen("שלום abc 4", "שלוםabc4") == "abc4םולש"


def test_brackets_are_mirrored_where_they_run_from_right_to_left() -> None:
    """From left to right one sees an opening shape, what it holds, and a closing one, whatever runs which way."""
    assert seen("(שלום)", "(שלום)") == "(םולש)"
    assert seen("שנים (11 שורות) עד (27)", "()127") == "(27)(11)"


def test_arabic_letters_join() -> None:
    joined, apart = ink_columns("بيت"), ink_columns("ب ي ت")
    assert joined[1] - joined[0] < (apart[1] - apart[0]) * 0.75
    # One baseline stroke through the whole word: no empty column within it.
    page = drawn("بيت").any(axis=0)
    inked = np.flatnonzero(page)
    assert page[inked[0] : inked[-1] + 1].all()


def test_lam_alef_is_one_glyph() -> None:
    (page,) = render("لا", WIDE)
    assert page.lines == ("لا",)
    wide, narrow = ink_columns("لب"), ink_columns("لا")
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


def test_a_mark_stands_over_its_letter_and_takes_no_room() -> None:
    plain, marked = drawn("abc"), drawn("a\u0301bc")
    rows = np.flatnonzero(plain.any(axis=1))
    below = slice(int(rows[0]) + 2, None)
    assert np.array_equal(plain[below, 10:], marked[below, 10:])
    assert marked.sum() > plain.sum()
    assert np.array_equal(drawn("\u00e9"), drawn("e\u0301"))


def test_plain_text_beside_complex_text_is_drawn_as_ever() -> None:
    """No kerning and no ligatures sneak into Latin words because an Arabic one is on the line."""
    alone, beside = drawn("office AVATAR"), drawn("office AVATAR بيت")
    right = int(np.flatnonzero(alone.any(axis=0))[-1])
    assert np.array_equal(alone[:, :right], beside[:, :right])


def test_wrapped_lines_are_reordered_one_by_one() -> None:
    text = "אבג דהו זחט יכל מנס עפצ קרש תאב"
    lines = next(render(text, NARROW)).lines
    assert len(lines) > 1
    assert " ".join(lines).split() == text.split()
    page = drawn(text, NARROW)
    for number in range(len(lines)):
        row = page[6 + 10 * number : 16 + 10 * number].any(axis=0)
        assert np.flatnonzero(row)[-1] >= 58  # each line begins at the right


def test_what_no_font_has_is_an_escape_and_is_counted() -> None:
    renderer = Renderer(WIDE)
    (page,) = renderer.render("a\U000f0000b \ud800 \x07\ufffe")
    assert page.lines == ("a[U+F0000]b [U+D800] [U+0007][U+FFFE]",)
    assert renderer.losses.missing == {"\U000f0000": 1, "\ud800": 1, "\x07": 1, "\ufffe": 1}


def test_text_that_hides_in_tags_is_shown() -> None:
    renderer = Renderer(WIDE)
    (page,) = renderer.render("hi\U000e0041\U000e0042")
    assert page.lines == ("hi[U+E0041][U+E0042]",)


def test_characters_without_a_picture_draw_nothing_and_are_counted() -> None:
    renderer = Renderer(WIDE)
    (page,) = renderer.render("\ufeffab\u200ec\u2060d")
    assert np.array_equal(np.asarray(page.to_image()) < 160, drawn("abcd"))
    assert renderer.losses.invisible == 3


def test_the_fonts_that_drew_are_named() -> None:
    renderer = Renderer(WIDE)
    list(renderer.render("plain"))
    assert [use.file for use in renderer.fonts] == ["DejaVuSans.ttf"]
    list(renderer.render("中"))
    assert [use.file for use in renderer.fonts] == ["DejaVuSans.ttf", "NotoSansMonoCJKsc-Regular.otf"]


def test_a_word_is_drawn_by_one_font() -> None:
    """DejaVu Sans has the letters of the Arabic word but not its last sign: the font that has all of them draws it."""
    renderer = Renderer(WIDE)
    list(renderer.render("\u0628\u064a\u062a\u08f0"))
    (layout,) = lay_out("\u0628\u064a\u062a\u08f0", WIDE, renderer.chain, Losses())
    numbers = place(layout.slabs[0], WIDE, renderer.chain).numbers.tolist()
    assert {renderer.chain.fonts[renderer.chain.glyphs[number][0]].path.name for number in numbers} == {"NotoSansArabic-Regular.otf"}


def test_a_word_of_clusters_is_split_between_them() -> None:
    text = "e\u0301\u0302" * 60
    pages = list(render(text, NARROW))
    lines = [line for page in pages for line in page.lines]
    assert "".join(lines) == text
    assert all(line.startswith("e") for line in lines)


ANYTHING = st.text(
    alphabet=st.one_of(
        st.sampled_from(
            "ab1(.[ \n\t\u200d\ufe0f\u0301\u05d0\u05d1\u0627\u0628\u0660\u202e\u2067\u2069\u202c\U0001f469\U0001f3fd\u0915\u094d\u0e01\u0e34\u1100\u1161中。"
        ),
        st.characters(),
        st.characters(categories=["Cs", "Cf", "Mn", "Mc", "Lo"]),
    ),
    max_size=120,
)


@settings(deadline=None, max_examples=300)
@given(
    text=ANYTHING,
    config=st.sampled_from(
        [
            NARROW,
            NARROW.replace(alignment="JUSTIFY"),
            NARROW.replace(alignment="RIGHT", newline_markup="¶"),
            NARROW.replace(columns=2, page_size="120,60"),
        ]
    ),
)
def test_drawing_never_raises_and_pages_tile_any_text(text: str, config: RenderConfig) -> None:
    try:
        pages = list(render(text, config))
    except EmptyDocumentError:
        return
    assert pages[0].start == 0
    assert pages[-1].end == len(text)
    assert all(page.end == following.start for page, following in pairwise(pages))
    assert [page.png for page in render(text, config)] == [page.png for page in pages]


@pytest.mark.parametrize(
    "text", ["\n" * 1_000_000 + "end", "x" * 1_000_000, "word " * 200_000, "بيت " * 50_000], ids=["newlines", "letters", "words", "Arabic"]
)
def test_long_lines_and_many_lines(text: str) -> None:
    config = RenderConfig(font="DejaVuSans.ttf", system_fonts=False)
    last, end = None, 0
    for page in render(text, config):
        assert page.start == end
        last, end = page, page.end
    assert last is not None
    assert end == len(text)
