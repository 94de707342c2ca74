"""RenderConfig: official files unchanged, presets, overrides, and errors that name key, value and what is allowed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from glyph_pipeline import RenderConfig
from glyph_pipeline.errors import ConfigError, PageTooSmallError
from glyph_pipeline.rendering.config import NewlineMark

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
    assert RenderConfig.presets() == ("en",)
    config = RenderConfig.preset("en")
    assert config == RenderConfig(line_height=10)
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
    with pytest.raises(ConfigError, match=r"no configuration file.*Presets: en"):
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
