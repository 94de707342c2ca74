"""The visual lines of every page are those that ReportLab makes of the same paragraphs, line by line."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle_texts import ENGLISH, GREEK_AND_CYRILLIC, MARKUP_LIKE, RED, lines_of, words
from reportlab_oracle import assert_same_pages, assert_same_positions, oracle_pages

from glyph_pipeline import RenderConfig, render

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)
NARROW = EN.replace(page_size="100,80", margin_x=2, margin_y=2)

WHITE_SPACE = "one\ttwo\x0bthree\x0cfour\u2003five\u3000six\u2028seven\x85eight\r\nnine\u00a0ten so\u00adft ze\u200bro "


SOURCE_CODE = "\n".join(
    "\t" * (number % 3)
    + " " * (number % 7)
    + f"if (row[{number}] < limit && open) {{ total  +=  row[{number}];\t// {words(ENGLISH, number % 30, number)}"
    for number in range(120)
)

TEXTS = {
    "long paragraphs": lines_of(12, 700, seed=1),
    "one line": words(ENGLISH, 6000, seed=2),
    "short and empty lines": lines_of(350, 6, seed=3),
    "nothing but empty lines, and one word": "\n" * 100 + "end",
    "indentation and runs of spaces": "\n".join(" " * (n % 9) + words(ENGLISH, n % 25, n).replace("a ", "a   ") + "  " for n in range(250)),
    "source code with tabs": SOURCE_CODE,
    "long unbroken strings": "\n".join("0123456789abcdef" * (n % 40) + " " + words(ENGLISH, n % 20, n) for n in range(60)),
    "quotes and markup": lines_of(60, 90, 4, MARKUP_LIKE),
    "Greek and Cyrillic": lines_of(30, 200, 5, GREEK_AND_CYRILLIC),
    "white space of all kinds": WHITE_SPACE * 90,
}


@pytest.mark.parametrize("markup", ["<br/>", RED, "¶"], ids=["break", "red mark", "plain mark"])
@pytest.mark.parametrize("name", TEXTS)
def test_kinds_of_text(name: str, markup: str) -> None:
    assert_same_pages(TEXTS[name], EN.replace(newline_markup=markup))


@pytest.mark.parametrize("beginning", ["", "AT&T "], ids=["one fragment", "several fragments"])
def test_one_line_of_two_hundred_thousand_characters(beginning: str) -> None:
    assert assert_same_pages(beginning + words(ENGLISH, 40000, seed=6)[:200_000], EN) > 15


@pytest.mark.parametrize("size", range(7, 15))
@pytest.mark.parametrize("extra", [0, 1.3, 3])
def test_sizes_and_leadings(size: int, extra: float) -> None:
    assert_same_pages(lines_of(40, 90, seed=size), EN.replace(font_size=size, line_height=size + extra))


@pytest.mark.parametrize("alignment", ["LEFT", "CENTER", "RIGHT", "JUSTIFY"])
def test_alignments(alignment: str) -> None:
    assert assert_same_pages(TEXTS["long paragraphs"], EN.replace(alignment=alignment)) > 1
    assert_same_positions(TEXTS["quotes and markup"], EN.replace(alignment=alignment))


@pytest.mark.parametrize(
    "changes",
    [
        {"first_line_indent": 25, "left_indent": 12, "right_indent": 31},
        {"first_line_indent": -15, "left_indent": 20},
        {"space_before": 7, "space_after": 3},
        {"space_before": 2.5, "space_after": 6},
        {"space_before": 40},
        {"margin_x": 33, "margin_y": 47},
        {"page_size": "A3"},
        {"page_size": "B5", "margin_x": 20},
        {"page_size": "letter"},
        {"page_size": "300,120"},
    ],
    ids=str,
)
def test_indents_spaces_and_page_sizes(changes: dict[str, object]) -> None:
    assert_same_pages(lines_of(200, 40, seed=7), EN.replace(**changes))


@pytest.mark.parametrize(
    "text",
    [
        "W\n\nW\n\nW\n\nW\n",  # an empty line at the foot of a page: ReportLab loses it there and repeats it on the next
        "W\nW\nW\nW\nW\nW\nW\nW",  # behind a break: one more empty line on the next page
        "W\nW\n\nW\n\nW\n\n",  # the last page has only empty lines
        "W\n" * 30 + "\n",  # a last paragraph of two empty lines draws nothing
        "WWWWWWWWWWWWWWW WWWWWWWWWWWWWWW WWWWWWWW aWWWWWWWWaWWWWW",  # the part of a split word above a page's end fits a line
    ],
)
@pytest.mark.parametrize("height", [80, 38])
def test_where_a_page_ends(text: str, height: int) -> None:
    assert assert_same_pages(text, NARROW.replace(page_size=f"100,{height}")) > 1


@pytest.mark.parametrize("changes", [{}, {"space_before": 5, "space_after": 2.25}, {"line_height": 11.37, "margin_y": 13.37}], ids=str)
def test_baselines_are_reportlabs(changes: dict[str, float]) -> None:
    """An H stands on its baseline: the last inked row of each line is the pixel row above it."""
    config = EN.replace(auto_crop_last_page=False, **changes)
    text = "\n".join(["HHH HH"] * 170)
    for page, expected in zip(render(text, config), oracle_pages(text, config), strict=True):
        inked = (np.asarray(page.to_image()) < 128).any(axis=1)
        feet = [row + 1 for row, (here, below) in enumerate(pairwise(inked)) if here and not below]
        drawn = [baseline for baseline, line in zip(expected.baselines, expected.lines, strict=True) if line]
        assert feet == [int(np.floor(round(config.page_size[1] - baseline, 6))) for baseline in drawn]


SHORT = st.text("aiWmlλж.,-", min_size=1, max_size=9)
LONG = st.text("aiWλж", min_size=12, max_size=60)
MARKUP = st.text("<>&;\"'#x1", min_size=1, max_size=6)
CONFIGS = st.builds(
    NARROW.replace,
    page_size=st.sampled_from(["100,80", "100,38"]),  # six lines, two lines
    alignment=st.sampled_from(["LEFT", "JUSTIFY"]),
    first_line_indent=st.sampled_from([0, 9]),
    space_before=st.sampled_from([0, 3]),
    space_after=st.sampled_from([0, 4]),
    newline_markup=st.sampled_from(["<br/>", RED]),
)


def joined(word: st.SearchStrategy[str], *gaps: str) -> st.SearchStrategy[str]:
    pieces = st.lists(st.tuples(word, st.sampled_from(gaps)), min_size=1, max_size=40)
    return pieces.map(lambda pairs: "".join(word + gap for word, gap in pairs))


GAPS = (" ", "\n", "\n\n", "  ", "\t", " \n ", "\r\n", "\u2003", "\u00a0", "\n\t", "\u00ad", "\u200b", "\n    ")


# A no-break space before an entity is one of the known differences (docs/rendering.md). In the example the last piece of a split word
# does not fit: the space before the word, which would have given way, stands on an earlier line.
@settings(max_examples=200, deadline=None)
@given(joined(st.one_of(SHORT, LONG, MARKUP), *GAPS).filter(lambda text: not re.search("\u00a0[<>&]", text)), CONFIGS)
@example("W W W W <<<<< W\u00a0WWWWWWWWWWWWWaaaaiiiλλλλжжж ", NARROW)
def test_random_words_and_white_space(text: str, config: RenderConfig) -> None:
    assert_same_pages(text, config)


# Lines of many spaces, which give way; the no-break spaces make some give way a twentieth more. Derandomised: one text in a
# thousand has a word that fits by that twentieth only, before an entity, and there ReportLab begins the next line with a space.
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(["i", "W&", "la", "a.", "&", "a\u00a0i", "i\u00a0\u00a0a", "\u00a0l"]), min_size=100, max_size=400),
    st.lists(st.sampled_from([" ", " ", "\t", "\n", "\n\t", "  "]), min_size=400, max_size=400),
    st.integers(150, 400),
    st.sampled_from(["<br/>", RED]),
)
def test_random_lines_of_many_words(texts: list[str], gaps: list[str], width: int, markup: str) -> None:
    text = "".join(text + gap for text, gap in zip(texts, gaps, strict=False))
    assert_same_pages(text, NARROW.replace(page_size=f"{width},400", newline_markup=markup))


# No two such words beside each other, no entities and no marks: then ReportLab begins a line with a space, or adds an empty one.
WIDE = st.tuples(st.text("aiWλж", min_size=3, max_size=16), st.sampled_from(" \n\t"), st.text("ail.", min_size=1, max_size=4)).map("".join)


@settings(max_examples=100, deadline=None)
@given(
    joined(WIDE, " ", "\n", "\n\n", "\t", " \n "),
    st.builds(
        NARROW.replace,
        page_size=st.sampled_from(["100,80", "100,38"]),
        alignment=st.sampled_from(["LEFT", "JUSTIFY"]),
        first_line_indent=st.sampled_from([-20, -40]),
        left_indent=st.sampled_from([0, 20, 40]),
    ),
)
def test_words_that_fit_only_the_first_line(text: str, config: RenderConfig) -> None:
    assert_same_pages(text, config)
