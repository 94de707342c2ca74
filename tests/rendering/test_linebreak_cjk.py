"""Lines of Chinese text: the rule itself, and page by page those that ReportLab makes of the same paragraphs."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_texts import RED
from reportlab.lib.textsplit import ALL_CANNOT_START
from reportlab_oracle import assert_same_pages, assert_same_positions, visible
from truetype_cjk import truetype_font

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.rendering import layout
from glyph_pipeline.rendering.canonical import Losses, is_chinese
from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.linebreak_cjk import NO_LINE_START

HAN = "".join(map(chr, range(0x4E00, 0x4E00 + 400))) + "中文字国"
PUNCTUATION = "，。、；：？！“”‘’（）《》【】「」『』〔〕［］—…·％°"
KANA = "ーっァ々あいうアイウ"
MARK = "¶"
MARKUPS = pytest.mark.parametrize("markup", ["<br/>", RED, MARK], ids=["break", "red mark", "plain mark"])
ALIGNMENTS = pytest.mark.parametrize("alignment", ["LEFT", "CENTER", "RIGHT", "JUSTIFY"])

WITHOUT_END = 10**5  # page ends
ENGLISH = [
    "hello",
    "OpenAI GPT-4",
    " is ",
    "a",
    "3.14159",
    "2024年",
    " (x) ",
    "extraordinarily",
    "https://example.org/a/b/c?d=e&f=g",
    "I'm 42.",
]


@pytest.fixture(scope="module")
def zh(tmp_path_factory: pytest.TempPathFactory) -> RenderConfig:
    ascii_characters = "".join(map(chr, range(0x20, 0x7F)))
    font = truetype_font(ascii_characters + HAN + PUNCTUATION + KANA + MARK + "\u0300", tmp_path_factory.mktemp("font"))
    return RenderConfig.preset("zh").replace(font=str(font), system_fonts=False)


@pytest.fixture
def like_reportlab(monkeypatch: pytest.MonkeyPatch) -> None:
    """ReportLab's spaces at page ends without an end."""
    monkeypatch.setattr(layout, "_BROKEN_ANEW", WITHOUT_END)


def prose(count: int, seed: int, characters: str = HAN + "，，，。。、；“”《》（）") -> str:
    return "".join(random.Random(seed).choices(characters, k=count))


def mixed(count: int, seed: int) -> str:
    chance = random.Random(seed)
    pieces = [chance.choice([prose(chance.randint(1, 25), chance.randint(0, 999)), chance.choice(ENGLISH)]) for _ in range(count // 8)]
    return "".join(pieces)[:count]


def paragraphs(count: int, longest: int, seed: int) -> str:
    chance = random.Random(seed)
    return "\n".join(mixed(chance.randint(0, longest), number) for number in range(count))


def lines(text: str, zh: RenderConfig, cells: float, **changes: object) -> list[str]:
    """The visual lines of ``text`` in a column ``cells`` Chinese characters wide, on one tall page."""
    (page,) = render(text, zh.replace(page_size=(cells * 9 + 12, 4000), margin_x=0, **changes))
    return list(page.lines)


def test_the_whole_text_is_chinese_or_none_of_it() -> None:
    assert is_chinese("a" * 1000 + "\u4e00")
    assert is_chinese("\u9fff")
    assert not is_chinese("かな한글，。\u3400\ua000\U00020000")
    assert not is_chinese("plain")


def test_what_cannot_start_a_line_is_what_reportlab_says() -> None:
    assert set(NO_LINE_START) == set(ALL_CANNOT_START)


def test_a_line_takes_what_fits(zh: RenderConfig) -> None:
    assert lines("中文字国中文字国中", zh, 4.4) == ["中文字国", "中文字国", "中"]


def test_a_closing_mark_hangs_over_the_margin_but_only_one(zh: RenderConfig) -> None:
    assert lines("中文字国。」中文", zh, 4) == ["中文字国。", "」中文"]
    # The full-width comma may begin a line, to ReportLab.
    assert lines("中文字国，中文", zh, 4) == ["中文字国", "，中文"]


def test_words_are_kept_whole_in_the_second_half_of_a_line(zh: RenderConfig) -> None:
    assert lines("中文字国中is文", zh, 5.6) == ["中文字国中", "is文"]
    assert lines("中文字 one 2文<", zh, 5.6) == ["中文字 one ", "2文<"]
    assert lines("中文extraordinarily", zh, 6) == ["中文extraord", "inarily"]


def test_spaces_at_the_ends_of_source_lines_stay(zh: RenderConfig) -> None:
    assert lines("\u3000\u3000中文 \n\u3000\u3000字\n\t国\t\t文\n", zh, 20) == ["中文 ", " 字", " 国 文"]
    assert lines("中  文\n  字", zh, 20) == ["中  文", "  字"]


def test_white_space_beside_a_red_mark_is_kept_apart(zh: RenderConfig) -> None:
    assert lines("中 \n\t文\n\n字", zh, 40, newline_markup=RED) == ["中  \\n  文 \\n  \\n 字"]
    assert lines("中 \n\t文", zh, 40, newline_markup=" ¶ ") == ["中 ¶ 文"]


def test_lines_of_a_paragraph_of_one_source_line_are_stripped(zh: RenderConfig) -> None:
    assert lines("中文字国中 中文字国中 中", zh, 5) == ["中文字国中", "中文字国", "中 中"]
    assert lines("中文字国中 中文字国中 中<", zh, 5) == ["中文字国中", " 中文字国", "中 中<"]


def test_an_empty_line_follows_a_mark_that_hangs_before_a_break(zh: RenderConfig) -> None:
    assert lines("中文字国。\n中", zh, 4) == ["中文字国。", "", "中"]
    assert lines("中文字国。", zh, 4) == ["中文字国。"]


def test_a_character_without_advance_stays_with_the_one_before(zh: RenderConfig) -> None:
    assert lines("中文字国\u0300\u0300中", zh, 4) == ["中文字国\u0300\u0300", "中"]
    assert lines("中文字国。\u0300", zh, 4) == ["中文字国。\u0300"]


def test_behind_a_page_end_lines_end_with_a_space(zh: RenderConfig) -> None:
    """So ReportLab sets what is left of a paragraph: where the space doesn't fit, it begins the next line."""
    config = zh.replace(page_size=(4 * 9 + 12, 2 * 10 + 12.5), margin_x=0, margin_y=0)
    text = "中文字国" * 6 + "\n文"
    pages = [visible(page.lines) for page in render(text, config)]
    assert pages == [["中文字国", "中文字国"], ["中文字国", " 中文字"], ["国 中文", "字国 中"], ["文字国", "文"]]
    # With half a character to spare, it is not seen.
    wider = config.replace(page_size=(4.5 * 9 + 12, 2 * 10 + 12.5))
    assert [visible(page.lines) for page in render(text, wider)] == [["中文字国", "中文字国"]] * 3 + [["文"]]


def test_a_lone_empty_line_behind_a_page_end_is_not_drawn(zh: RenderConfig) -> None:
    config = zh.replace(page_size=(4 * 9 + 12, 2 * 10 + 12.5), margin_x=0, margin_y=0)
    assert [page.lines for page in render("中\n文\n\n", config)] == [("中", "文")]


TEXTS = {
    "prose": "\n".join(prose(random.Random(n).randint(0, 300), n) for n in range(100)),
    "short lines": "\n".join(prose(n % 9, n) for n in range(400)),
    "long lines": "\n".join(mixed(900, n) for n in range(20)),
    "mixed with English": paragraphs(90, 400, 1),
    "kinsoku": "\n".join(prose(n * 7 % 300, n, "中文字国" + PUNCTUATION + KANA) for n in range(90)),
    "long unbroken strings": "\n".join(prose(n % 40, n) + "0123456789abcdef" * (n % 30) + prose(n, n) for n in range(60)),
    "markup": "\n".join(prose(n % 50, n, "中文<>&\"'b/;#x1 ") for n in range(300)),
    "white space": "\n".join(prose(n * 11 % 90, n, "中文字，a \t\u3000\u2003\u00a0\r  ") for n in range(300)),
    "empty lines and indents": "\n".join("\n" * (n % 3) + "\u3000\u3000" + prose(n * 5 % 200, n) for n in range(120)),
}


@MARKUPS
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.usefixtures("like_reportlab")
def test_kinds_of_text(name: str, markup: str, zh: RenderConfig) -> None:
    # The first paragraph has more than one fragment, as all do but with a plain mark: see below.
    assert_same_pages("中<\n" + TEXTS[name], zh.replace(newline_markup=markup), first=None if markup != MARK else 1)


@ALIGNMENTS
@pytest.mark.usefixtures("like_reportlab")
def test_alignments(alignment: str, zh: RenderConfig) -> None:
    config = zh.replace(alignment=alignment, font_size=10, line_height=12)
    for name in ("mixed with English", "white space", "kinsoku"):
        assert assert_same_pages(TEXTS[name], config) > 1
        assert_same_positions(TEXTS[name], config)


@pytest.mark.parametrize("size", range(7, 15))
@pytest.mark.usefixtures("like_reportlab")
def test_sizes(size: int, zh: RenderConfig) -> None:
    assert_same_pages(paragraphs(60, 300, seed=size), zh.replace(font_size=size, line_height=size + size % 3))


@pytest.mark.parametrize(
    "changes",
    [
        {"first_line_indent": 25, "left_indent": 12, "right_indent": 31},
        {"first_line_indent": -15, "left_indent": 20},
        {"space_before": 7, "space_after": 3},
        {"page_size": "300,120"},
        {"page_size": "B5", "margin_x": 21.5},
    ],
    ids=str,
)
@pytest.mark.usefixtures("like_reportlab")
def test_indents_spaces_and_page_sizes(changes: dict[str, object], zh: RenderConfig) -> None:
    assert_same_pages(paragraphs(70, 200, seed=7), zh.replace(**changes))


def test_a_line_of_a_hundred_thousand_characters(zh: RenderConfig) -> None:
    assert assert_same_pages(prose(100_000, seed=3), zh) > 15


def test_a_paragraph_of_many_pages_is_reportlabs_for_nine(zh: RenderConfig) -> None:
    assert assert_same_pages("<" + prose(60_000, seed=4), zh, first=9) > 10


SHORT_HAN = st.text("中文字国，。」『々ー", min_size=1, max_size=30)
WORD = st.text("aiW.,)-(", min_size=1, max_size=8)
LONG_WORD = st.text("aiW1.", min_size=12, max_size=40)
ENTITIES = st.text("<>&;'#x1", min_size=1, max_size=4)
GAPS = (
    "",
    "",
    " ",
    "\n",
    "\n\n",
    "  ",
    "\t",
    " \n ",
    "\r\n",
    "\u3000",
    "\u3000\u3000",
    "\n\u3000\u3000",
    "\u00ad",
    "\u200b",
    "\n    ",
    "\u00a0",
)
RANDOM_TEXT = st.lists(
    st.tuples(st.one_of(SHORT_HAN, SHORT_HAN, WORD, LONG_WORD, ENTITIES), st.sampled_from(GAPS)), min_size=1, max_size=40
).map(lambda pairs: "中" + "".join(piece + gap for piece, gap in pairs))


def changes(page_sizes: list[str], markups: list[str]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries(
        {
            "page_size": st.sampled_from(page_sizes),
            "alignment": st.sampled_from(["LEFT", "JUSTIFY", "RIGHT", "CENTER"]),
            "space_before": st.sampled_from([0, 3]),
            "space_after": st.sampled_from([0, 4]),
            "newline_markup": st.sampled_from(markups),
        }
    )


@settings(max_examples=150, deadline=None)
@given(text=RANDOM_TEXT, changed=changes(["100,80", "100,38", "103,60", "40,80"], ["<br/>", RED]), indent=st.sampled_from([0, 9, -5]))
def test_random_text(zh: RenderConfig, text: str, changed: dict[str, object], indent: int) -> None:
    """Of several fragments each, on pages of six and of two lines."""
    config = zh.replace(margin_x=2, margin_y=2, **changed)
    # ReportLab loses the indent of an over-full line that it centres or sets to the right, and shifts all lines after it.
    config = config if config.alignment.value in ("RIGHT", "CENTER") else config.replace(first_line_indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "_BROKEN_ANEW", WITHOUT_END)
        assert_same_pages("<" + text, config)
        assert_same_positions("<" + text, config)


@settings(max_examples=100, deadline=None)
@given(text=RANDOM_TEXT, changed=changes(["100,4000", "40,5000"], ["<br/>", " ¶ "]))
def test_random_text_on_one_page(zh: RenderConfig, text: str, changed: dict[str, object]) -> None:
    """Of one fragment or of several."""
    config = zh.replace(margin_x=2, margin_y=2, **changed)
    assert_same_pages(text, config)
    assert_same_positions(text, config)


@settings(max_examples=100, deadline=None)
@given(text=RANDOM_TEXT, changed=changes(["100,80", "100,38", "40,80"], ["<br/>"]))
def test_no_visible_character_is_lost(zh: RenderConfig, text: str, changed: dict[str, object]) -> None:
    pages = list(render(text * 3, zh.replace(margin_x=2, margin_y=2, **changed)))
    drawn = "".join("".join(page.lines) for page in pages)
    assert drawn.replace(" ", "") == "".join(char for char in text * 3 if not char.isspace() and char not in "\u00ad\u200b")
    assert pages[0].start == 0
    assert pages[-1].end == len(text * 3)
    assert all(page.end == following.start for page, following in pairwise(pages))


@pytest.mark.parametrize("beginning", ["", "<"], ids=["one fragment", "several fragments"])
def test_no_character_of_a_long_paragraph_is_lost(beginning: str, zh: RenderConfig) -> None:
    text = beginning + mixed(30_000, seed=5)
    pages = list(render(text, zh.replace(page_size="200,150")))
    assert len(pages) > 100
    assert "".join("".join(page.lines) for page in pages).replace(" ", "") == text.replace(" ", "")
    if beginning:  # the spaces that ReportLab adds end with the ninth page
        as_written = ["".join(page.lines) in text for page in pages]
        assert not all(as_written[:9])
        assert all(as_written[9:])


@pytest.mark.parametrize("beginning", ["", "<"], ids=["one fragment", "several fragments"])
def test_a_line_of_a_million_characters_is_laid_out(beginning: str, zh: RenderConfig) -> None:
    """Quadratic time would be hours."""
    text = beginning + prose(1_000_000, seed=6)
    pages = list(layout.lay_out(text, zh, FontChain(zh.font, zh.system_fonts), Losses()))
    assert len(pages) > 190
    assert min(following.start - page.start for page, following in pairwise(pages)) > 4000
