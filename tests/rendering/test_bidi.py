"""The bidirectional algorithm: Unicode's conformance tests, python-bidi as an oracle, and cases by hand.

Unicode's files come with Debian's package unicode-data. All of BidiCharacterTest.txt is run, of BidiTest.txt every 16th
line; with GLYPH_ALL_BIDI_TESTS=1 in the environment every line, which takes minutes.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from bidi import get_display
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glyph_pipeline.rendering.bidi import bidi_classes, embedding_levels, needs_bidi, reset_trailing, visual_runs
from glyph_pipeline.rendering.bidi_classes import CLASS_NAMES, bracket_pairs

UCD = Path("/usr/share/unicode")
EVERY = 1 if os.environ.get("GLYPH_ALL_BIDI_TESTS") else 16
ALL_OF_UNICODE = np.arange(0x110000, dtype=np.uint32)

LRE, RLE, PDF, LRO, RLO = "\u202a", "\u202b", "\u202c", "\u202d", "\u202e"
LRI, RLI, FSI, PDI = "\u2066", "\u2067", "\u2068", "\u2069"
REMOVED = {"LRE", "RLE", "LRO", "RLO", "PDF", "BN"}  # by rule X9
# Some of every class; letters enough that few strings read the same in two orders.
ALPHABET = {
    "L": "abcdefgh\u03b1\u0e01\u4e00",
    "R": "\u05d0\u05d1\u05d2\u05d3\u05d4\u05d5\u05d6\u05d7\u07c0",
    "AL": "\u0627\u0628\u062a\u062b\u062c\u062d\u062e\u062f",
    "EN": "0123456789\u06f1\u06f2",
    "AN": "\u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
    "ES": "+-\u2212",
    "ET": "%$#\u20ac\u00b0",
    "CS": ",.:/\u00a0",
    "NSM": "\u0300\u0301\u05b0\u064b",
    "S": "\t",
    "WS": " \u2003\u3000",
    "ON": '!&*@;"()[]{}\u2329\u232a\u3008\u3009',
    "LRI": LRI,
    "RLI": RLI,
    "FSI": FSI,
    "PDI": PDI,
    "LRE": LRE,
    "RLE": RLE,
    "LRO": LRO,
    "RLO": RLO,
    "PDF": PDF,
    "BN": "\u00ad\u200d\x00",
}
BASES = st.sampled_from([None, 0, 1])
MIXED_TEXT = st.lists(st.sampled_from(list(ALPHABET)).flatmap(lambda name: st.sampled_from(ALPHABET[name])), max_size=40).map("".join)
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)  # with surrogates, noncharacters, unassigned code points


def codepoints(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def class_names(text: str) -> list[str]:
    return [CLASS_NAMES[code] for code in bidi_classes(codepoints(text)).tolist()]


def line_levels(text: str, base: int | None) -> np.ndarray:
    """Of a paragraph that is one line."""
    base, levels = embedding_levels(text, base)
    return reset_trailing(levels, bidi_classes(codepoints(text)), base)


def order_of(levels: np.ndarray) -> list[int]:
    """Indices of a line's characters, left to right."""
    return [index for start, end, reverse in visual_runs(levels) for index in (range(start, end)[::-1] if reverse else range(start, end))]


def display(text: str, base: int | None = None) -> str:
    """The characters of a paragraph of one line from left to right, without those that X9 removes."""
    names = class_names(text)
    return "".join(text[index] for index in order_of(line_levels(text, base)) if names[index] not in REMOVED)


# Unicode's own tests


def conformance_lines(name: str) -> Iterator[str]:
    path = UCD / name
    assert path.exists(), f"{path} is missing, which this test compares with; install the Debian package unicode-data"
    with path.open(encoding="utf-8") as file:
        for line in file:
            bare = line.split("#")[0].strip()
            if bare:
                yield bare


def resolved(text: str, asked: int | None) -> tuple[int, list[str], list[int]]:
    """Paragraph level, levels with x for what X9 removes, and visual order without that: what Unicode's tests state."""
    base, levels = embedding_levels(text, asked)
    classes = bidi_classes(codepoints(text))
    levels = reset_trailing(levels, classes, base)
    removed = [CLASS_NAMES[code] in REMOVED for code in classes.tolist()]
    stated = ["x" if gone else str(level) for gone, level in zip(removed, levels.tolist(), strict=True)]
    return base, stated, [index for index in order_of(levels) if not removed[index]]


def test_bidi_character_test() -> None:
    count, failed = 0, []
    for line in conformance_lines("BidiCharacterTest.txt"):
        characters, direction, base, levels, order = line.split(";")
        text = "".join(chr(int(code, 16)) for code in characters.split())
        wanted = (int(base), levels.split(), [int(index) for index in order.split()])
        count += 1
        if resolved(text, {"0": 0, "1": 1, "2": None}[direction]) != wanted:
            failed.append(line)
    print(f"BidiCharacterTest: {count - len(failed)} of {count}")
    assert not failed, (len(failed), failed[:5])


@pytest.mark.parametrize("part", range(8))
def test_bidi_test(part: int) -> None:
    character = {name: characters[0] for name, characters in ALPHABET.items()} | {"B": "\u2029"}
    count, failed = 0, []
    levels: list[str] = []
    order: list[int] = []
    for number, line in enumerate(conformance_lines("BidiTest.txt")):
        if line.startswith("@Levels:"):
            levels = line.removeprefix("@Levels:").split()
        elif line.startswith("@Reorder:"):
            order = [int(index) for index in line.removeprefix("@Reorder:").split()]
        elif not line.startswith("@") and number % (8 * EVERY) == part * EVERY:
            classes, bits = line.split(";")
            text = "".join(character[name] for name in classes.split())
            for bit, base in ((1, None), (2, 0), (4, 1)):
                if int(bits, 16) & bit:
                    count += 1
                    if resolved(text, base)[1:] != (levels, order):
                        failed.append((line, base))
    print(f"BidiTest, part {part}: {count - len(failed)} of {count}")
    assert not failed, (len(failed), failed[:5])


def test_brackets_are_those_of_unicode() -> None:
    pairs = {}
    for line in conformance_lines("BidiBrackets.txt"):
        bracket, partner, kind = (field.strip() for field in line.split(";"))
        pairs[int(bracket, 16)] = (int(partner, 16), kind)
    numbers = bracket_pairs(ALL_OF_UNICODE)
    assert set(np.flatnonzero(numbers).tolist()) == set(pairs)
    for bracket, (partner, kind) in pairs.items():
        assert numbers[bracket] == -numbers[partner]
        assert (numbers[bracket] > 0) == (kind == "o")


def test_defaults_are_those_of_unicode() -> None:
    """Of the code points that neither Python nor Unicode's file assigns; what is assigned comes from Python."""
    full_names = {"Left_To_Right": "L", "Right_To_Left": "R", "Arabic_Letter": "AL", "European_Terminator": "ET"}
    listed = list(conformance_lines("extracted/DerivedBidiClass.txt"))
    with (UCD / "extracted/DerivedBidiClass.txt").open(encoding="utf-8") as file:
        missing = [line.removeprefix("# @missing:") for line in file if line.startswith("# @missing:")]
    wanted = np.zeros(0x110000, np.uint8)
    for line in [*missing, *listed]:
        codes, name = (field.strip() for field in line.split(";"))
        first, _, last = codes.partition("..")
        wanted[int(first, 16) : int(last or first, 16) + 1] = CLASS_NAMES.index(full_names.get(name, name))
    unassigned = np.array([not unicodedata.bidirectional(chr(code)) for code in range(0x110000)])
    for line in conformance_lines("extracted/DerivedGeneralCategory.txt"):
        codes, category = (field.strip() for field in line.split(";"))
        first, _, last = codes.partition("..")
        unassigned[int(first, 16) : int(last or first, 16) + 1] &= category == "Cn"
    assert unassigned.sum() > 800_000
    assert np.flatnonzero(unassigned & (bidi_classes(ALL_OF_UNICODE) != wanted)).tolist() == []


# An independent implementation


@settings(max_examples=600)
@given(text=MIXED_TEXT, base=BASES)
def test_order_is_that_of_python_bidi(text: str, base: int | None) -> None:
    """Its display string, in which nothing is mirrored; what X9 removes may stand anywhere and is left out of both.

    Where no level is odd before L1, in a right-to-left paragraph, python-bidi 0.6 returns the text as it is and forgets to
    reset tabs and white space to the paragraph's level. BidiTest.txt has such lines ("L S L": levels 2 1 2) and we conform.
    """
    level, levels = embedding_levels(text, base)
    assume(level == 0 or (levels % 2).any())
    theirs = get_display(text, base_dir={None: None, 0: "L", 1: "R"}[base])
    assert display(text, base) == "".join(char for char in theirs if class_names(char) != ["BN"] and class_names(char)[0] not in REMOVED)


# By hand. In the cases lower case is Latin, A-M is Hebrew, N-Z is Arabic, as in UAX #9's own examples.

_RIGHT_TO_LEFT = str.maketrans(
    {chr(ord("A") + i): chr(0x5D0 + i) for i in range(13)} | {chr(ord("N") + i): chr(0x62D + i) for i in range(13)}
)


@pytest.mark.parametrize(
    ("base", "stored", "seen"),
    [
        (0, "he said 'NOPQ RST' today", "he said 'TSR QPON' today"),
        (1, "he said 'NOPQ RST' today", "today 'TSR QPON' he said"),
        (None, "NOP 123,456.5 QRS", "SRQ 123,456.5 PON"),
        # A hyphen joins European numbers to one another, but not Arabic ones, nor those behind Arabic letters.
        (None, "ABC 1-2", "1-2 CBA"),
        (None, "NOP 1-2", "2-1 PON"),
        # Percent and currency signs belong to European numbers.
        (None, "ABC -12%", "12%- CBA"),
        (None, "ABC $5", "$5 CBA"),
        (None, "NOP 12%", "%12 PON"),
        (0, "abc 12% DEF", "abc 12% FED"),
        # Brackets (not mirrored here) go with what they hold and with what is before them.
        (0, "ABC (DEF) ghi", ")FED( CBA ghi"),
        (0, "abc (DEF) ghi", "abc (FED) ghi"),
        (1, "ABC (def) GHI", "IHG )def( CBA"),
        (0, "ABC \u2329DEF\u3009 ghi", "\u3009FED\u2329 CBA ghi"),  # canonically equivalent to a pair
        (0, "ABC \u2329DEF) ghi", "FED\u2329 CBA) ghi"),
        (0, "(a BC)[DE] f", "(a CB)[ED] f"),  # before the second pair stands a bracket that goes left to right
        (0, "ABC (DEF)\u05b0 ghi", "\u05b0)FED( CBA ghi"),  # a mark goes with its bracket
        (1, "ab[CD]", "]DC[ab"),
        # Isolates keep their neighbours out of it, embeddings don't.
        (0, f"abc {RLI}DEF ghi{PDI} jkl", f"abc {RLI}ghi FED{PDI} jkl"),
        (0, f"{FSI}ABC{PDI} 1, 2", f"{FSI}CBA{PDI} 1, 2"),
        (0, "ABC 1, 2", "2 ,1 CBA"),
        (0, f"{RLE}ABC{PDF} 1, 2", "2 ,1 CBA"),
        (0, f"ab {RLO}cde{PDF} fg", "ab edc fg"),
        (1, f"AB {LRO}CD{PDF} EF", "FE CD BA"),
        # Formatting that is not closed, or not opened.
        (0, f"ab {RLE}CD, ef", "ab ef ,DC"),
        (0, f"{PDF}ab{PDI} CD{PDF}", f"ab{PDI} DC"),
        (0, f"ab {RLI}CD{PDF} ef", f"ab {RLI}ef DC"),
        # Tabs and white space at the end are the paragraph's.
        (0, "AB \tCD", "BA \tDC"),
        (1, "ab\tCD", "DC\tab"),
        (0, "ab CD  ", "ab DC  "),
        (1, "ab  ", "  ab"),
        (0, "A\u05b0B ab", "B\u05b0A ab"),
    ],
)
def test_visual_order(base: int | None, stored: str, seen: str) -> None:
    assert display(stored.translate(_RIGHT_TO_LEFT), base) == seen.translate(_RIGHT_TO_LEFT)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("", 0),
        ("12 (!)", 0),
        ("12 \u05d0 a", 1),
        ("12 a \u05d0", 0),
        ("\u0661 \u0627", 1),
        (f"{LRI}abc{PDI} \u05d0", 1),
        (f"{FSI}\u05d0 abc", 0),  # not closed: it goes on to the end
        (f"{PDI}\u05d0", 1),
        (f"{LRE}\u05d0", 1),
    ],
)
def test_the_first_strong_character_gives_the_base(text: str, base: int) -> None:
    assert embedding_levels(text)[0] == base


def test_lines_have_the_levels_of_their_paragraph() -> None:
    """Right to left, broken after its second word: each line ends at its left, with the space."""
    text = "ABC def ghi JKL".translate(_RIGHT_TO_LEFT)
    base, levels = embedding_levels(text)
    classes = bidi_classes(codepoints(text))
    lines = []
    for line in (slice(0, 8), slice(8, None)):
        order = order_of(reset_trailing(levels[line], classes[line], base))
        lines.append("".join(text[line][index] for index in order))
    assert lines == [" def CBA".translate(_RIGHT_TO_LEFT), "LKJ ghi".translate(_RIGHT_TO_LEFT)]


def test_levels_stop_at_125() -> None:
    """The 63rd RLE would be level 125; those after it are counted, not obeyed, and so are their PDFs."""
    deepest = int(embedding_levels(RLE * 200 + "\u05d0", 0)[1][-1])
    assert deepest == 125
    levels = embedding_levels(RLE * 200 + "\u05d0" + PDF * 137 + "\u05d0" + PDF + "\u05d0", 0)[1]
    assert levels[[200, 338, 340]].tolist() == [125, 125, 123]
    isolates = embedding_levels(RLI * 200 + "\u05d0" + PDI * 137 + "\u05d0" + PDI + "\u05d0", 0)[1]
    assert isolates[[200, 338, 340]].tolist() == [125, 125, 123]


def test_the_end_of_an_isolate_forgets_what_overflowed_in_it() -> None:
    assert embedding_levels(RLI + RLE * 200 + PDI + RLE + "a", 0)[1][-1] == 2


@pytest.mark.parametrize(("depth", "level"), [(63, 2), (64, 1)])
def test_brackets_nested_too_deep_are_no_brackets(depth: int, level: int) -> None:
    """BD16: 63 may be open; one more, and not even the pair before them counts."""
    text = "a(b)" + "(" * depth
    assert embedding_levels(text, 1)[1][3] == level


def test_a_base_is_0_or_1() -> None:
    with pytest.raises(ValueError, match="base level"):
        embedding_levels("a", 2)


@pytest.mark.parametrize(
    "text",
    [
        "\u05d0" + "(" * 100_000 + "a" + ")" * 100_000,
        FSI * 200_000 + PDI * 200_000,
        RLE * 200_000 + PDF * 200_000,
        "\u05d0 [a) 1\u0301 " * 100_000,
    ],
    ids=["brackets", "isolates", "embeddings", "long"],
)
def test_no_text_takes_quadratic_time(text: str) -> None:
    """A quadratic pass over one of these would take hours; the time limit of the tests is minutes."""
    _, levels = embedding_levels(text)
    assert len(levels) == len(text)


# Properties


@given(text=ANY_TEXT | MIXED_TEXT, base=BASES)
def test_any_text_has_levels_and_an_order(text: str, base: int | None) -> None:
    level, levels = embedding_levels(text, base)
    assert levels.shape == (len(text),)
    assert levels.dtype == np.uint8
    assert level == base or base is None
    assert all(level <= each <= 127 for each in levels.tolist())
    runs = visual_runs(line_levels(text, base))
    assert sorted(index for start, end, _ in runs for index in range(start, end)) == list(range(len(text)))


@given(text=MIXED_TEXT, base=BASES)
def test_removed_characters_make_no_run_of_their_own(text: str, base: int | None) -> None:
    level, before = embedding_levels(text, base)
    for levels in (before, line_levels(text, base)):
        for name, own, previous in zip(class_names(text), levels.tolist(), [level, *levels.tolist()], strict=False):
            assert own == previous or name not in REMOVED


@given(levels=st.lists(st.integers(0, 7), max_size=30))
def test_visual_runs_are_rule_l2(levels: list[int]) -> None:
    """Against L2 word for word, on single characters."""
    order = list(range(len(levels)))
    for depth in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(order):
            end = start
            while end < len(order) and levels[order[end]] >= depth:
                end += 1
            order[start:end] = order[start:end][::-1]
            start = end + 1
    array = np.array(levels, np.uint8)
    assert order_of(array) == order
    assert all(levels[start] % 2 == reverse and len(set(levels[start:end])) == 1 for start, end, reverse in visual_runs(array))
    assert len(visual_runs(array)) == 1 + sum(a != b for a, b in pairwise(levels)) if levels else not visual_runs(array)


@given(text=MIXED_TEXT)
def test_text_without_right_to_left_characters_stays_as_it_is(text: str) -> None:
    needed = needs_bidi(codepoints(text))
    plain = "".join(char for char, needs in zip(text, needed.tolist(), strict=True) if not needs)
    base, levels = embedding_levels(plain)
    assert base == 0
    assert not levels.any()
    assert order_of(levels) == list(range(len(plain)))


NEEDING = {"R", "AL", "AN", "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_needs_bidi_knows_every_character() -> None:
    needed = needs_bidi(ALL_OF_UNICODE).tolist()
    known = [(code, unicodedata.bidirectional(chr(code))) for code in range(0x110000)]
    assert [code for code, name in known if name and needed[code] != (name in NEEDING)] == []
    assert needed[0x5FF]  # unassigned, in the Hebrew block
    assert not needs_bidi(codepoints("plain text")).any()


DEFAULTS = "0378 L, D800 L, 05FF R, 10CFF R, 074B AL, 1EEFF AL, 20CF ET, 2065 BN, FDD0 BN, FFFE BN, E0FFF BN, 10FFFF BN"


@pytest.mark.parametrize("default", DEFAULTS.split(", "))
def test_code_points_that_are_not_assigned_have_a_class(default: str) -> None:
    code, name = default.split()
    assert class_names(chr(int(code, 16))) == [name]


def test_brackets_are_the_mirrored_ones() -> None:
    """Without Unicode's file: the paired brackets are the mirrored characters that open and close."""
    numbers = bracket_pairs(ALL_OF_UNICODE)
    for code, number in enumerate(numbers.tolist()):
        category = unicodedata.category(chr(code))
        if category == "Cn":
            continue
        paired = category in ("Ps", "Pe") and unicodedata.mirrored(chr(code)) == 1
        assert (number != 0) == paired, hex(code)
        assert number == 0 or (number > 0) == (category == "Ps"), hex(code)
