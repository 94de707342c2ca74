"""Line breaking: greedy at words, within words that no line holds, spaces that give way a twentieth; first-line indents."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.rendering.chain import FontChain

CHAIN = FontChain("DejaVuSans.ttf", installed=False)
SIZE = 9.0
PADDING = 12.0  # ReportLab's frame, both sides


def width(text: str) -> float:
    """Of the text in pt, by the font's own advances."""
    codepoints = np.array([ord(char) for char in text], np.uint32)
    CHAIN.learn(codepoints)
    return float(CHAIN.advances[codepoints].sum()) * SIZE / CHAIN.units_per_em


def lines(text: str, room: float, **changes: object) -> list[str]:
    """The visual lines of ``text`` in a column ``room`` pt wide, on one page that is tall enough."""
    config = RenderConfig(page_size=(room + PADDING, 4000), margin_x=0, font_size=SIZE, **changes)
    (page,) = render(text, config)
    return list(page.lines)


def test_words_go_to_the_next_line_where_they_do_not_fit() -> None:
    room = width("one two") + 0.5
    assert lines("one two three four", room) == ["one two", "three", "four"]


def test_a_line_may_be_full_to_the_last_point() -> None:
    assert lines("0000 0000 0000", width("0000 0000")) == ["0000 0000", "0000"]


@pytest.mark.parametrize(("missing", "expected"), [(0.9, ["00 00 00"]), (1.1, ["00 00", "00"])])
def test_spaces_give_way_a_twentieth(missing: float, expected: list[str]) -> None:
    """Two spaces, so a tenth of one may be missing."""
    assert lines("00 00 00", width("00 00 00") - missing * width(" ") / 10) == expected


def test_no_break_spaces_do_not_break_and_do_not_give_way() -> None:
    room = width("00 00 00") - 0.01
    assert lines("00  00  00", room) == lines("00\xa0\xa000\xa0\xa000", room)
    assert lines("a bb  cc", width("bb  cc") + 0.5) == ["a", "bb  cc"]


def test_long_words_are_split_between_characters() -> None:
    room = width("0000000000") + 0.1
    assert lines("0" * 25, room) == ["0" * 10, "0" * 10, "0" * 5]


def test_a_long_word_begins_on_the_line_of_the_word_before() -> None:
    room = width("0000000000") + 0.1
    assert lines("ab " + "0" * 14 + " cd", room) == ["ab 0000000", "0000000 cd"]
    # Where not even one of its characters fits, it begins on a line of its own.
    full = lines("0000000000 " + "1" * 12, room)
    assert full == ["0" * 10, "1" * 10, "1" * 2]


def test_empty_lines_stand_where_they_are() -> None:
    assert lines("a\n\n\nb", 100) == ["a", "", "", "b"]
    assert lines("\n\na", 100) == ["", "", "a"]
    assert lines("a\n", 100) == ["a"]
    assert lines("a\n \t \nb", 100) == ["a", "", "b"]


def test_only_the_first_line_of_a_paragraph_is_indented() -> None:
    room = width("aaa aaa aaa") + 0.1
    indent = width("aaa ")
    assert lines("aaa " * 8 + "\naaa aaa aaa", room, first_line_indent=indent) == ["aaa aaa", "aaa aaa aaa", "aaa aaa aaa", "aaa aaa aaa"]
    hanging = lines("aaa " * 8, room, first_line_indent=-indent, left_indent=indent)
    assert hanging == ["aaa aaa aaa", "aaa aaa", "aaa aaa", "aaa"]


def test_paragraphs_of_thirty_source_lines_begin_anew() -> None:
    room = width("aaa aaa") + 0.1
    text = "\n".join(["aaa aaa"] * 31)
    indented = lines(text, room, first_line_indent=5)
    assert indented == ["aaa", "aaa"] + ["aaa aaa"] * 29 + ["aaa", "aaa"]


WORDS = st.lists(st.text("aiW0.é", min_size=1, max_size=6), min_size=1, max_size=30)


@settings(deadline=None)
@given(WORDS, st.floats(40, 160))
def test_lines_hold_the_words_fit_the_room_and_are_as_full_as_can_be(words: list[str], room: float) -> None:
    assume(all(width(word) < room - 0.01 for word in words))
    broken = lines(" ".join(words), room)
    assert [word for line in broken for word in line.split(" ")] == words
    for line in broken:
        assert width(line) - line.count(" ") * width(" ") / 20 <= room + 0.001
    for line, following in pairwise(broken):
        longer = f"{line} {following.split(' ')[0]}"
        assert width(longer) - longer.count(" ") * width(" ") / 20 > room - 0.001


@settings(deadline=None)
@given(st.text("aiW0é", min_size=1, max_size=120), st.floats(20, 60))
def test_pieces_of_an_unbroken_string_fit_and_are_as_long_as_can_be(word: str, room: float) -> None:
    broken = lines(word, room)
    assert "".join(broken) == word
    assert all(width(line) <= room + 0.001 for line in broken)
    assert all(width(line + following[0]) > room - 0.001 for line, following in pairwise(broken))
