"""Every page has the size and the pixels that ReportLab and poppler give it: the mean difference is a fraction of one grey level."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from oracle_texts import ENGLISH, GREEK_AND_CYRILLIC, MARKUP_LIKE, RED, lines_of, words
from poppler_oracle import PopplerMissingError, oracle_images, poppler_pages
from truetype_cjk import truetype_font

from glyph_pipeline import RenderConfig, render

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)

# Mean absolute difference of a page, of 255. A glyph a quarter of a pixel off on every page makes about 0.005, a line one
# pixel too low 0.05.
CLOSE = 0.03
# Where many glyphs stand on a quarter of a pixel but for float noise, or colours are blended: Splash rounds a level otherwise.
BLENDED = 0.15
# What a user may count on, whatever the configuration.
PROMISED = 0.5

CHINESE = "清晨的港口灯笼船慢慢地来了河水流过安静的村庄冬天开始了道路已经关闭信件来得很晚没有人知道谁敲了两次钟，，。。；：？！、（）“”《》"


def chinese_lines(count: int, longest: int, seed: int, english: float = 0.0) -> str:
    """Lines of Han characters with punctuation, and with an English word in ``english`` of all places."""
    chance = random.Random(seed)

    def piece() -> str:
        return f" {chance.choice(ENGLISH.split())} " if chance.random() < english else chance.choice(CHINESE)

    return "\n".join("".join(piece() for _ in range(chance.randint(0, longest))) for _ in range(count))


PROSE = lines_of(25, 160, seed=1)
LOREM = lines_of(90, 30, seed=2)

TEXTS = {
    "prose": lines_of(40, 250, seed=3),
    "one line a paragraph": "\n".join(words(ENGLISH, 25 + n % 60, n) + "\n" * 30 for n in range(7)),
    "one line of 20,000 characters": words(ENGLISH, 5000, seed=4)[:20000],
    "indentation and runs of spaces": "\n".join(" " * (n % 9) + words(ENGLISH, n % 25, n).replace("a ", "a   ") + "  " for n in range(150)),
    "tabs": "\n".join("\t" * (n % 4) + words(ENGLISH, n % 25, n).replace(" I ", "\tI\t") for n in range(120)),
    "source code": "\n".join(
        " " * (4 * (n % 5)) + f"if (row[{n}] < limit && open) {{ total  +=  row[{n}];  // {words(ENGLISH, n % 20, n)}" for n in range(120)
    ),
    "long unbroken strings": "\n".join("0123456789abcdef" * (n % 40) + " " + words(ENGLISH, n % 20, n) for n in range(40)),
    "quotes and XML characters": lines_of(60, 60, 5, MARKUP_LIKE),
    "Greek and Cyrillic": lines_of(30, 150, 6, GREEK_AND_CYRILLIC),
    "empty lines": "\n".join(random.Random(7).choices(["", "", "far", words(ENGLISH, 6, 8)], k=300)),
}


def rgb(image: Any) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.asarray(image.convert("RGB")).astype(np.int16)


def assert_same_pixels(text: str, config: RenderConfig, at_most: float = CLOSE) -> int:
    """Same number of pages, same sizes, and no page differs by more than ``at_most`` on average; gives the number of pages."""
    expected = oracle_images(text, config)
    drawn = [rgb(page.to_image()) for page in render(text, config)]
    assert [page.shape for page in drawn] == [page.shape for page in expected]
    differences = [float(np.abs(ours - theirs).mean()) for ours, theirs in zip(drawn, expected, strict=True)]
    assert max(differences) <= at_most, f"pages differ by {[round(difference, 4) for difference in differences]} of 255"
    return len(expected)


@pytest.mark.parametrize("markup", ["<br/>", RED], ids=["break", "red mark"])
@pytest.mark.parametrize("name", TEXTS)
def test_kinds_of_text(name: str, markup: str) -> None:
    assert_same_pixels(TEXTS[name], EN.replace(newline_markup=markup))


@pytest.mark.parametrize("dpi", [72, 96, 120])
@pytest.mark.parametrize("size", range(7, 15))
def test_sizes_and_resolutions(size: int, dpi: int) -> None:
    assert_same_pixels(PROSE, EN.replace(font_size=size, line_height=size + size % 3, dpi=dpi))


@pytest.mark.parametrize("dpi", [36, 48, 100, 150, 200, 300])
def test_other_resolutions(dpi: int) -> None:
    """At the high ones poppler draws glyphs at whole pixels, not at quarters."""
    assert_same_pixels(lines_of(12, 60, seed=9), EN.replace(dpi=dpi, page_size="300,420"))


@pytest.mark.parametrize("changes", [{}, {"space_before": 5, "space_after": 2.25}, {"line_height": 11.37, "margin_y": 13.37}], ids=str)
@pytest.mark.parametrize("dpi", [72, 96, 110, 144, 192])
def test_baselines(dpi: int, changes: dict[str, float]) -> None:
    """Where a baseline falls on a whole pixel but for float noise, it falls on poppler's side."""
    assert assert_same_pixels("\n".join(["HHH HH"] * 200), EN.replace(dpi=dpi, **changes)) > 1


# To the left of the lines stands a distance that ReportLab prints with a few decimals; where a line's width is a tie between
# two roundings, a glyph may stand a quarter of a pixel off.
@pytest.mark.parametrize(("alignment", "at_most"), [("LEFT", CLOSE), ("RIGHT", BLENDED), ("CENTER", BLENDED), ("JUSTIFY", CLOSE)])
@pytest.mark.parametrize("dpi", [72, 96])
@pytest.mark.parametrize("size", [8, 9, 11])
def test_alignments(alignment: str, at_most: float, size: int, dpi: int) -> None:
    config = EN.replace(alignment=alignment, font_size=size, line_height=size + 1, dpi=dpi)
    assert assert_same_pixels(TEXTS["prose"], config, at_most) > 1


@pytest.mark.parametrize("markup", ["<br/>", RED], ids=["break", "red mark"])
@pytest.mark.parametrize("seed", [0, 8])
def test_justified_lines_that_fit_only_with_narrow_spaces(seed: int, markup: str) -> None:
    """Before a break such a line stays over-full, unless it is the last of its page; any other has its spaces narrowed."""
    chance = random.Random(seed)
    text = "\n".join(words(ENGLISH, chance.randint(14, 21), chance.randrange(1 << 30)) for _ in range(400))
    assert assert_same_pixels(text, EN.replace(alignment="JUSTIFY", newline_markup=markup)) > 1


@pytest.mark.parametrize(
    "changes",
    [
        {"first_line_indent": 25, "left_indent": 12, "right_indent": 31},
        {"first_line_indent": -15, "left_indent": 20.5},
        {"space_before": 7, "space_after": 3},
        {"space_before": 2.5, "space_after": 6.3},
        {"margin_x": 33, "margin_y": 47},
        {"margin_x": 12.5, "margin_y": 10.25},
        {"margin_x": 0, "margin_y": 0},
        {"page_size": "A5"},
        {"page_size": "A3"},
        {"page_size": "letter", "dpi": 96},
        {"page_size": "B5", "dpi": 120},
        {"page_size": "300.5,400.7"},
    ],
    ids=str,
)
def test_indents_spaces_margins_and_page_sizes(changes: dict[str, Any]) -> None:
    assert_same_pixels(LOREM, EN.replace(**changes))


@pytest.mark.parametrize("dpi", [72, 96])
@pytest.mark.parametrize("scale", [0.75, 0.9])
def test_horizontal_scale(scale: float, dpi: int) -> None:
    assert assert_same_pixels(PROSE, EN.replace(horizontal_scale=scale, dpi=dpi)) > 1


@pytest.mark.parametrize(
    "colours", [{}, {"page_bg_color": "#102030", "font_color": "#F0E0D0", "para_bg_color": "#102030"}], ids=["white", "dark"]
)
@pytest.mark.parametrize("width", [True, False])
@pytest.mark.parametrize("last_page", [True, False])
def test_crops(last_page: bool, width: bool, colours: dict[str, str]) -> None:
    config = EN.replace(auto_crop_last_page=last_page, auto_crop_width=width, page_size="420,300", **colours)
    assert assert_same_pixels("\n".join(["some short lines"] * 44), config, BLENDED) > 1


@pytest.mark.parametrize(
    "changes",
    [
        {"font_color": "#224466"},
        {"font_color": "#FF0000", "newline_markup": RED},
        {"page_bg_color": "#FFEEDD", "para_bg_color": "#FFEEDD"},
        {"page_bg_color": "#FFEEDD"},
        {"page_bg_color": "#101010", "para_bg_color": "#202020", "font_color": "#EEEEEE"},
        {"para_bg_color": "#DDEEFF"},
        {"para_bg_color": "#DDEEFF", "dpi": 96},
        {"para_bg_color": "#DDEEFF", "border_padding": 3.3, "space_after": 8},
        {"para_border_color": "#112233", "border_width": 1},
        {"para_bg_color": "#DDEEFF", "para_border_color": "#112233", "border_width": 2, "border_padding": 3},
        {"para_bg_color": "#DDEEFF", "para_border_color": "#112233", "border_width": 1.5, "border_padding": 1.7, "dpi": 120},
        {"para_border_color": "#AA0000", "border_width": 1, "left_indent": 20, "right_indent": 9.5, "space_before": 6, "dpi": 96},
    ],
    ids=str,
)
def test_colours_backgrounds_and_borders(changes: dict[str, Any]) -> None:
    assert_same_pixels(LOREM, EN.replace(**changes), BLENDED)


@pytest.mark.parametrize("seed", range(30))
def test_configurations_drawn_by_lot(seed: int) -> None:
    chance = random.Random(seed)
    size = chance.choice([7, 8, 9, 9.5, 10, 12, 13.25])
    config = EN.replace(
        dpi=chance.choice([60, 72, 80, 96, 110, 133, 150]),
        page_size=chance.choice(["420,595", "300.5,200", "333.3,444.4"]),
        font_size=size,
        line_height=size + chance.choice([0.5, 1, 1.37, 2]),
        alignment=chance.choice(["LEFT", "RIGHT", "CENTER", "JUSTIFY"]),
        margin_x=chance.choice([0, 10, 15.5]),
        margin_y=chance.choice([10, 17.25]),
        first_line_indent=chance.choice([0, 0, 9.3]),
        space_after=chance.choice([0, 2.3]),
        para_bg_color=chance.choice(["#FFFFFF", "#C0D0E0"]),
        border_width=chance.choice([0, 1, 2.6]),
        border_padding=chance.choice([0, 1.1]),
        para_border_color=chance.choice(["#000000", "#E0A020"]),
        newline_markup=chance.choice(["<br/>", RED, "¶"]),
    )
    text = chance.choice(sorted(TEXTS.values()))[:3000]
    assert_same_pixels(text, config, PROMISED)


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> RenderConfig:
    """A preset with a small TrueType font for Chinese, since ReportLab can't read the bundled one."""
    characters = CHINESE + ENGLISH + "".join(map(chr, range(0x20, 0x7F)))
    return EN.replace(font=str(truetype_font("".join(sorted(set(characters))), tmp_path_factory.mktemp("font"))))


@pytest.mark.parametrize("markup", ["<br/>", RED], ids=["break", "red mark"])
@pytest.mark.parametrize(("longest", "english"), [(300, 0.0), (300, 0.15), (12, 0.1)], ids=["Chinese", "mixed", "short lines"])
def test_chinese(chinese: RenderConfig, longest: int, english: float, markup: str) -> None:
    text = chinese_lines(60, longest, seed=10, english=english)
    assert_same_pixels(text, chinese.replace(newline_markup=markup), BLENDED)


@pytest.mark.parametrize(
    "changes",
    [{"dpi": 96}, {"font_size": 11, "dpi": 120}, {"alignment": "JUSTIFY"}, {"alignment": "RIGHT"}, {"first_line_indent": 18}],
    ids=str,
)
def test_chinese_configurations(chinese: RenderConfig, changes: dict[str, Any]) -> None:
    assert_same_pixels(chinese_lines(30, 300, seed=11, english=0.1), chinese.replace(**changes), BLENDED)


def test_one_line_of_chinese(chinese: RenderConfig) -> None:
    assert assert_same_pixels("".join(random.Random(12).choices(CHINESE, k=8000)), chinese) > 1


def test_a_machine_without_poppler_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(PopplerMissingError, match="poppler-utils"):
        list(poppler_pages(b"", 72))
