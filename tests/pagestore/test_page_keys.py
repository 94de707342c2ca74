"""Keys: whatever may change a page's bytes changes the key, and what can't does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import RenderConfig
from glyph_pipeline.pagestore import keys
from glyph_pipeline.pagestore.keys import key_of
from glyph_pipeline.rendering import system_fonts
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.resources import resource_dir

CONFIG = RenderConfig.preset("en").replace(font="DejaVu Sans")
TEXT = "Soundings in fathoms.\n"
LACKING = "Soundings: 港\n"  # DejaVu Sans has no Chinese
# A value of each key that is not the preset's.
OTHER: dict[str, Any] = {
    "page_size": "A5",
    "dpi": 73,
    "margin_x": 11,
    "margin_y": 11,
    "font": "DejaVu Sans Mono",
    "font_size": 8,
    "line_height": 13,
    "font_color": "#000001",
    "alignment": "RIGHT",
    "horizontal_scale": 0.9,
    "first_line_indent": 1,
    "left_indent": 1,
    "right_indent": 1,
    "space_before": 1,
    "space_after": 1,
    "border_width": 1,
    "border_padding": 1,
    "page_bg_color": "#fffffe",
    "para_bg_color": "#fffffe",
    "para_border_color": "#fffffe",
    "auto_crop_width": False,
    "auto_crop_last_page": False,
    "newline_markup": " | ",
    "columns": 2,
    "column_gap": 13,
    "crop_multiple": 28,
    "system_fonts": False,
}


def key(text: str = TEXT, title: str | None = None, only: frozenset[int] | None = None, config: RenderConfig = CONFIG) -> str:
    return key_of(text, title, only, config, find_font(config.font, config.system_fonts))


@pytest.fixture
def forgetful() -> Iterator[None]:
    """A process that has looked at no fonts yet, before and after."""
    caches = (keys._code, keys._bundled, keys._installed, system_fonts.font_files, system_fonts.faces)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def test_text_title_and_chosen_pages() -> None:
    ways = [
        key(),
        key(TEXT + "\n"),
        key("Title\n" + TEXT),
        key(title=""),
        key(title="Title"),
        key(only=frozenset()),
        key(only=frozenset({1})),
        key(only=frozenset({1, 2})),
        key("\ud800"),
        key("\udfff"),
    ]
    assert len(set(ways)) == len(ways)
    assert key() == key()


def test_every_key_of_the_configuration() -> None:
    assert OTHER.keys() == RenderConfig.model_fields.keys()
    ways = {name: key(config=CONFIG.replace(**{name: value})) for name, value in OTHER.items()}
    assert len({key(), *ways.values()}) == len(OTHER) + 1


def test_the_font_file_not_its_name(tmp_path: Path, forgetful: None) -> None:
    path = tmp_path / "house.ttf"
    shutil.copy(resource_dir("fonts") / "DejaVuSans.ttf", path)
    config = CONFIG.replace(font=str(path))
    before = key(config=config)
    shutil.copy(resource_dir("fonts") / "DejaVuSansMono.ttf", path)
    assert key(config=config) != before


def test_installed_fonts_count_only_where_one_may_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None) -> None:
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path))
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    alone = CONFIG.replace(system_fonts=False)
    texts = [(TEXT, CONFIG), (TEXT + "Tab\there\r\n", CONFIG), (LACKING, alone), (LACKING, CONFIG), ("wave \u263a\ufe0f", CONFIG)]

    def ways() -> list[str]:
        keys._installed.cache_clear()
        system_fonts.font_files.cache_clear()
        return [key(text, config=config) for text, config in texts]

    bare = ways()
    (tmp_path / "fonts").mkdir()
    installed = tmp_path / "fonts" / "New.ttf"
    shutil.copy(resource_dir("fonts") / "DejaVuSansMono.ttf", installed)
    more = ways()
    assert [old == new for old, new in zip(bare, more, strict=True)] == [True, True, True, False, False]
    os.utime(installed, ns=(1, 1))
    assert [old == new for old, new in zip(more, ways(), strict=True)] == [True, True, True, False, False]


def test_the_code_that_draws_and_what_is_under_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: None) -> None:
    before = key()
    copy = tmp_path / "rendering"
    shutil.copytree(Path(keys.renderer.__file__).parent, copy)
    monkeypatch.setattr(keys.renderer, "__file__", str(copy / "renderer.py"))
    keys._code.cache_clear()
    assert key() == before  # where it lies is nothing to it
    with (copy / "layout.py").open("a") as file:
        file.write("# changed\n")
    keys._code.cache_clear()
    changed = key()
    assert changed != before
    monkeypatch.setattr(keys, "version", lambda name: "0.0")
    keys._code.cache_clear()
    assert key() not in (before, changed)
