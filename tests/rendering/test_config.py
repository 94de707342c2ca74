"""RenderConfig: official files unchanged, presets, overrides, and errors that name key, value and what is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.errors import ConfigError, PageTooSmallError
from glyph_pipeline.rendering.config import NewlineMark
from glyph_pipeline.resources import resource_dir
from glyph_pipeline.tokens.vision import GLM_4V

OFFICIAL = {
    "page-size": "595,842",
    "dpi": 72,
    "margin-x": 10,
    "margin-y": 10,
    "font-path": "../config/Some.ttf",
    "font-size": 9,
    "line-height": 10,
    "font-color": "#203040",
    "alignment": "JUSTIFY",
    "horizontal-scale": 0.9,
    "first-line-indent": 5,
    "left-indent": 1,
    "right-indent": 2,
    "space-after": 3,
    "space-before": 4,
    "border-width": 1,
    "border-padding": 2,
    "page-bg-color": "#FFFFFE",
    "para-bg-color": "#FFFDFF",
    "para-border-color": "#FCFFFF",
    "auto-crop-width": False,
    "auto-crop-last-page": False,
    "newline-markup": '<font color="#FF0000"> \\n </font>',
}


def write(folder: Path, data: Any, name: str = "config_en.json") -> Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data), "utf-8")
    return path


def test_every_official_key_is_read_and_written(tmp_path: Path) -> None:
    config = RenderConfig.load(write(tmp_path, OFFICIAL))
    assert config.page_size == (595, 842)
    assert config.font_color == (0x20, 0x30, 0x40)
    assert config.alignment.value == "JUSTIFY"
    assert config.font == "../config/Some.ttf"
    assert config.newline_mark == NewlineMark(text=" \\n ", colour=(255, 0, 0))
    assert config.to_dict() == OFFICIAL
    assert RenderConfig(**config.to_dict()) == config


def test_a_font_path_is_meant_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "Some.ttf").write_bytes(b"")
    config = RenderConfig.load(write(tmp_path / "config", OFFICIAL))
    assert config.font == str((tmp_path / "config" / "Some.ttf").resolve())


def test_the_preset_is_the_configuration_glyph_was_trained_with() -> None:
    config = RenderConfig.preset("en")
    assert config == RenderConfig(line_height=10)
    assert config.font == "Verdana"
    assert RenderConfig.preset("zh") == config.replace(font="NotoSansMonoCJKsc-Regular.otf")
    assert (config.page_size, config.dpi, config.font_size, config.leading, config.alignment.value) == ((595, 842), 72, 9, 10, "LEFT")
    assert (config.line_width, config.frame_height, config.pixel_size) == (563, 810, (595, 842))
    assert config.auto_crop_width
    assert config.auto_crop_last_page
    assert config.newline_mark == NewlineMark()


def test_overrides() -> None:
    config = RenderConfig.preset("en")
    changed = config.replace(dpi=96, font="DejaVu Sans", page_size="A5", margin_x=20)
    assert (changed.dpi, changed.font, changed.page_size, changed.margin_x) == (96, "DejaVu Sans", (420, 595), 20)
    assert config.dpi == 72
    assert config.replace(line_height=None, font_size=11).leading == 12
    assert config.replace(**{"margin-x": "20"}) == config.replace(margin_x=20)
    assert RenderConfig(**{"page-size": "Letter"}).page_size == (612, 792)


@pytest.mark.parametrize(
    ("dpi", "pixels"), [(72, (595, 842)), (96, (794, 1123)), (120, (992, 1404)), (144, (1190, 1684)), (45, (372, 527))]
)
def test_pixel_size_is_rounded_up_as_popplers_is(dpi: int, pixels: tuple[int, int]) -> None:
    assert RenderConfig(dpi=dpi).pixel_size == pixels


def test_it_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        RenderConfig().dpi = 96  # type: ignore[misc]


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("dpi", 5000, "600"),
        ("dpi", "many", "integer"),
        ("page-size", "595", "595,842"),
        ("page-size", "wide,high", "595,842"),
        ("page-size", "A9", "A4"),
        ("font-size", 0, "2"),
        ("font-color", "red", "#000000"),
        ("font-color", "#12345", "#000000"),
        ("alignment", "MIDDLE", "'LEFT', 'CENTER', 'RIGHT' or 'JUSTIFY'"),
        ("horizontal-scale", 0, "0.1"),
        ("margin-x", -1, "0"),
        ("auto-crop-width", "perhaps", "boolean"),
        ("newline-markup", "<b>x</b>", "<br/>"),
        ("font-path", "", "1 character"),
    ],
)
def test_impossible_values_name_key_value_and_what_is_allowed(tmp_path: Path, key: str, value: Any, allowed: str) -> None:
    path = write(tmp_path, OFFICIAL | {key: value})
    with pytest.raises(ConfigError, match=re.escape(f"{key} = {value!r}")) as caught:
        RenderConfig.load(path)
    assert allowed in str(caught.value)
    assert str(path) in str(caught.value)


def test_unknown_keys_are_listed_beside_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'colour' \(value 'red'\).*font-color.*unknown key 'sizes'"):
        RenderConfig.load(write(tmp_path, {"colour": "red", "sizes": 3}))


@pytest.mark.parametrize(
    "changes",
    [
        {"page_size": "595,50"},
        {"margin_y": 406},
        {"page_size": "40,842"},
        {"left_indent": 560},
        {"first_line_indent": 560},
        {"font_size": 200, "line_height": 400, "page_size": "595,600"},
    ],
)
def test_pages_on_which_nothing_fits(changes: dict[str, Any]) -> None:
    with pytest.raises(PageTooSmallError, match="fit"):
        RenderConfig().replace(**changes)


def test_pages_beyond_memory() -> None:
    with pytest.raises(ConfigError, match="megapixels"):
        RenderConfig(page_size="5000,5000", dpi=600)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file.*Presets: aligned, .*en, "):
        RenderConfig.load(tmp_path / "nothing.json")
    with pytest.raises(ConfigError, match="line 1, column 9: not valid JSON"):
        RenderConfig.load(write(tmp_path, '{"dpi": }'))
    with pytest.raises(ConfigError, match="JSON object"):
        RenderConfig.load(write(tmp_path, []))
    with pytest.raises(ConfigError, match="can't be read"):
        RenderConfig.load(tmp_path)
    with pytest.raises(ConfigError, match="no preset 'fr'"):
        RenderConfig.preset("fr")


def test_resolve_takes_a_preset_or_a_path(tmp_path: Path) -> None:
    assert RenderConfig.resolve("en") == RenderConfig.preset("en")
    assert RenderConfig.resolve(str(write(tmp_path, {"dpi": 96}))).dpi == 96


@pytest.mark.parametrize("name", RenderConfig.presets())
def test_every_preset_names_every_official_key_and_loads_to_itself(name: str) -> None:
    written = json.loads((resource_dir("configs") / f"{name}.json").read_text("utf-8"))
    assert OFFICIAL.keys() <= written.keys()
    assert RenderConfig.preset(name).to_dict() == written


def test_keys_of_ours_are_written_where_they_differ() -> None:
    ours = {"columns": 3, "column-gap": 6.0, "crop-multiple": 28, "system-fonts": False}
    config = RenderConfig(**ours)
    assert config.to_dict() == RenderConfig().to_dict() | ours
    assert RenderConfig(**json.loads(json.dumps(config.to_dict()))) == config
    assert config.replace(dpi=96).replace(dpi=72) == config
    assert not ours.keys() & config.replace(columns=1, column_gap=12, crop_multiple=1, system_fonts=True).to_dict().keys()


HAN = "灯塔建于一七九一年"


@pytest.mark.parametrize(
    ("texts", "preset"),
    [
        ([], "en"),
        ([" \n"], "en"),
        (["The lamp of Orm Point was lit in 1791."], "en"),
        ([HAN], "zh"),
        (["ひらがなとカタカナ"], "zh"),
        (["등대는 밤마다"], "zh"),
        (["ＦＵＬＬ ＷＩＤＴＨ"], "zh"),
        (["Русский, ελληνικά, हिन्दी, עברית, 🔥"], "en"),
        # A tenth of what is not white space, no less.
        (["a" * 9 + "灯" + " \n" * 500], "zh"),
        (["a" * 10 + "灯"], "en"),
        (["a" * 50, HAN], "zh"),
        (["a" * 500, HAN], "en"),
    ],
)
def test_the_preset_for_texts(texts: list[str], preset: str) -> None:
    assert RenderConfig.for_texts(iter(texts)) == RenderConfig.preset(preset)


def test_the_whole_of_a_long_text_is_sampled() -> None:
    assert RenderConfig.for_texts(["English. " * 20_000 + HAN * 40_000]) == RenderConfig.preset("zh")
    # The sample is bounded: of 50 million characters it looks at the first and at 50 short pieces.
    long = "English. " * 5_000_000
    seen = 0

    class Watched(str):
        def __getitem__(self, key: Any) -> str:
            nonlocal seen
            piece = super().__getitem__(key)
            seen += len(piece)
            return piece

    assert RenderConfig.for_texts([Watched(long)]) == RenderConfig.preset("en")
    assert 100_000 < seen <= 205_000


@pytest.mark.parametrize(
    "text", ["The lamp was lit at dusk and put out at dawn, every day of the year but one.\n" * 170, "short\n" * 100, HAN * 700]
)
def test_aligned_pages_have_the_lines_of_en_and_whole_patches(text: str) -> None:
    aligned, en = list(render(text, RenderConfig.preset("aligned"))), list(render(text, RenderConfig.preset("en")))
    assert [(page.start, page.end, page.lines) for page in aligned] == [(page.start, page.end, page.lines) for page in en]
    # 28 px: GLM-4V's patches of 14, merged two by two.
    assert all(page.width % 28 == page.height % 28 == 0 for page in aligned)
    assert all(GLM_4V.resized(page.width, page.height) == (page.width, page.height) for page in aligned)


def test_columns_and_newline_marks_save_pages_on_short_lines() -> None:
    text = "".join(f"12:{minute // 60:02}:{minute % 60:02} valve open\n" for minute in range(700))
    pages = {name: len(list(render(text, RenderConfig.preset(name)))) for name in ("en", "tight", "columns", "newline-mark", "code")}
    assert pages["columns"] * 3 <= pages["tight"] + 2
    assert pages["newline-mark"] * 2 < pages["en"]
    assert pages["code"] * 2 <= pages["en"] + 1
    assert pages["tight"] < pages["en"]


def test_the_newline_mark_is_red() -> None:
    (page,) = render("one\ntwo", RenderConfig.preset("newline-mark"))
    assert page.lines == ("one \\n two",)
    colours = {colour for _, colour in page.to_image().convert("RGB").getcolors() or []}
    assert (255, 0, 0) in colours or any(red > 200 > 60 > green for red, green, _ in colours)
