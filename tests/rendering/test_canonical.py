"""Canonical text: white space, runs of spaces, removed characters, escapes and newline marks, each with its source offset."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glyph_pipeline.rendering.canonical import LINES_PER_PARAGRAPH, Losses, blocks, canonical_block, escape, to_text
from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.config import NewlineMark

CHAIN = FontChain("DejaVuSans.ttf", installed=False)
BREAK = NewlineMark()
MARK = NewlineMark(text=" \\n ", colour=(255, 0, 0))


def drawn(text: str, mark: NewlineMark = BREAK) -> str:
    return to_text(canonical_block(text, 0, len(text), CHAIN, mark, Losses()).codepoints)


def sources(text: str, mark: NewlineMark = BREAK) -> list[int]:
    return canonical_block(text, 0, len(text), CHAIN, mark, Losses()).source.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", "a b"),
        ("a  b", "a\xa0\xa0b"),
        ("  a b   ", "\xa0\xa0a b\xa0\xa0\xa0"),
        (" a b ", "a b"),
        ("a\tb", "a b"),
        ("a \t b", "a b"),
        ("a\t\x0b\x0c\r\x1c\x85\u1680\u2003\u2028\u202f\u3000b", "a b"),
        ("\ta\t", "a"),
        ("a\xa0b", "a\xa0b"),
        ("one \n two\r\n\tthree", "one\ntwo\nthree"),
        ("one\n\n\ntwo", "one\n\n\ntwo"),
        ("a  \n  b", "a\xa0\xa0\n\xa0\xa0b"),
        ("a \xad b", "a\xa0\xa0b"),  # the soft hyphen goes first; what is left is a run of two
        ("co\xadop\u200berate", "cooperate"),
        ("", ""),
        (" \t ", ""),
    ],
)
def test_white_space(text: str, expected: str) -> None:
    assert drawn(text) == expected


def test_every_drawn_character_knows_its_source() -> None:
    #       0123456 7890
    text = "\ta\xadb  c\n \td"
    assert drawn(text) == "ab\xa0\xa0c\nd"
    assert sources(text) == [1, 3, 4, 5, 6, 7, 10]


def test_removed_characters_are_counted() -> None:
    losses = Losses()
    canonical_block("so\xadft\xad ze\u200bro", 0, 12, CHAIN, BREAK, losses)
    assert losses.removed == 3
    assert not losses.missing


def test_characters_without_a_glyph_become_escapes_with_their_offset() -> None:
    text = "go \U000f0001\U000f0001 \x00!"
    losses = Losses()
    block = canonical_block(text, 0, len(text), CHAIN, BREAK, losses)
    assert to_text(block.codepoints) == "go [U+F0001][U+F0001] [U+0000]!"
    assert block.source.tolist() == [0, 1, 2, *[3] * 9, *[4] * 9, 5, *[6] * 8, 7]
    assert losses.missing == {"\U000f0001": 2, "\x00": 1}


def test_lone_surrogates_are_escaped_too() -> None:
    losses = Losses()
    text = "a\ud800b"
    assert to_text(canonical_block(text, 0, 3, CHAIN, BREAK, losses).codepoints) == "a[U+D800]b"
    assert losses.missing == {"\ud800": 1}


def test_a_newline_mark_replaces_the_breaks_within_a_paragraph_only() -> None:
    text = "\n".join(["x"] * (LINES_PER_PARAGRAPH + 2))
    block = canonical_block(text, 0, len(text), CHAIN, MARK, Losses())
    paragraph = " \\n ".join(["x"] * LINES_PER_PARAGRAPH)
    assert to_text(block.codepoints) == paragraph + "\nx \\n x"
    assert block.unit_source.tolist() == [0, 2 * LINES_PER_PARAGRAPH]
    assert block.marked is not None
    assert to_text(block.codepoints[block.marked]).replace(" ", "") == "\\n" * LINES_PER_PARAGRAPH


def test_a_mark_keeps_the_offset_of_its_newline() -> None:
    assert drawn("ab\ncd", MARK) == "ab \\n cd"
    assert sources("ab\ncd", MARK) == [0, 1, 2, 2, 2, 2, 3, 4]


def test_spaces_of_a_mark_make_no_run_with_those_of_the_text() -> None:
    assert drawn("a \n b", MARK) == "a \\n b"
    assert drawn("a  \nb", MARK) == "a\xa0\xa0 \\n b"


def test_blocks_cut_only_between_paragraphs() -> None:
    text = "".join(f"line {number}\n" for number in range(40_000))
    pieces = list(blocks(text))
    assert len(pieces) > 3
    assert pieces[0][0] == 0
    assert pieces[-1][1] == len(text)
    for (_, end), (start, _) in pairwise(pieces):
        assert text[end] == "\n"
        assert start == end + 1
        assert text.count("\n", 0, start) % LINES_PER_PARAGRAPH == 0


# Alphabets in which something happens: white space, breaks, removed characters, characters that no font has, astral ones.
TROUBLE = st.text(st.sampled_from("ab \t\n\r\x0c\x85\xa0\xad\u200b\u3000é中\U0001f525\x00\ud800"), max_size=80)


@settings(deadline=None)
@given(st.one_of(TROUBLE, st.text(max_size=60)), st.sampled_from([BREAK, MARK]))
def test_nothing_is_dropped_or_made_up(text: str, mark: NewlineMark) -> None:
    losses = Losses()
    block = canonical_block(text, 0, len(text), CHAIN, mark, losses)
    source = block.source.tolist()
    assert source == sorted(source)
    characters = to_text(block.codepoints)
    shown = dict.fromkeys(range(len(text)), "")
    for offset, char in zip(source, characters, strict=True):
        shown[offset] += char
    for offset, char in enumerate(text):
        if shown[offset] in ("\n", mark.text):
            assert char == "\n"
        elif shown[offset] in (" ", "\xa0"):
            assert char.isspace()
        elif shown[offset] == "":
            assert char.isspace() or char in "\xad\u200b"
        elif char == "\n":  # a mark whose outer spaces collapsed into their neighbours
            assert mark.text is not None
            assert shown[offset].strip() == mark.text.strip()
        else:
            assert shown[offset] in (char, escape(char))
    assert losses.removed == text.count("\xad") + text.count("\u200b")
    assert sum(losses.missing.values()) == sum(shown[offset] == escape(char) for offset, char in enumerate(text))
