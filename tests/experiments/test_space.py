"""The space of a search: what ships is the paper's, presets are found in it, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from glyph_pipeline import RenderConfig
from glyph_pipeline.errors import ConfigError, FontError, PageTooSmallError
from glyph_pipeline.experiments.space import Range, Space

PROSE = ["The harbour lantern."]


def space(folder: Path, text: str, texts: list[str] = PROSE) -> Space:
    path = folder / "space.toml"
    path.write_text(text)
    return Space.load(path, texts)


def test_the_papers_space() -> None:
    """Ranges as in arXiv 2510.17800."""
    glyph = Space.load("glyph", PROSE)
    assert (glyph.axes["dpi"][0], glyph.axes["dpi"][-1], len(glyph.axes["dpi"])) == (45, 300, 256)
    assert glyph.axes["page-size"] == ("A3", "A4", "A5", "B4", "B5", "Letter", "Legal")
    assert (glyph.axes["font-size"][0], glyph.axes["font-size"][-1]) == (7, 14)
    assert glyph.axes["leading"] == (0, 1, 2, 3)
    assert glyph.axes["alignment"] == ("LEFT", "JUSTIFY")
    assert (glyph.axes["margin-x"][0], glyph.axes["margin-x"][-1]) == (10, 40)
    assert (glyph.axes["horizontal-scale"][0], glyph.axes["horizontal-scale"][-1]) == (0.75, 1.0)
    assert glyph.size > 10**8


@pytest.mark.parametrize(("name", "presets"), [("glyph", ["en", "newline-mark"]), ("print", ["en", "newline-mark", "tight"])])
def test_presets_that_lie_in_it_come_with_the_default_first(name: str, presets: list[str]) -> None:
    found = Space.load(name, PROSE)
    assert [preset for preset, _ in found.presets()] == presets
    for preset, point in found.presets():
        drawn, wanted = found.config(point), RenderConfig.preset(preset)
        assert drawn.replace(line_height=drawn.leading) == wanted.replace(line_height=wanted.leading)


def test_the_preset_is_the_texts() -> None:
    assert Space.load("print", PROSE).preset == "en"
    assert Space.load("print", ["天地玄黃,宇宙洪荒。"]).preset == "zh"


def test_a_point_is_its_changes_and_its_configuration(tmp_path: Path) -> None:
    small = space(tmp_path, '[space]\nfont-size = [8, 9]\nleading = {from = 0, to = 1, step = 0.5}\npage-size = ["A4", "Letter"]')
    assert small.size == 12
    assert len(set(small.points())) == 12
    point = small.point({"font-size": 8.0, "page_size".replace("_", "-"): "612,792"})
    assert small.changes(point) == {"font-size": 8, "leading": 1.0, "page-size": "Letter"}
    assert small.differing(point) == {"font-size": 8, "page-size": "Letter"}
    config = small.config(point)
    assert (config.font_size, config.leading, config.page_size, config.dpi) == (8, 9, (612, 792), 72)
    assert small.point_of(config) == point
    assert small.point_of(config.replace(dpi=96)) is None
    assert small.point_of(config.replace(font_size=7)) is None


def test_what_does_not_go_together_is_an_error_of_that_point_only(tmp_path: Path) -> None:
    tall = space(tmp_path, "[space]\nmargin-y = [10, 380]\nfont-size = [9, 40]")
    assert tall.config(tall.point({"margin-y": 380})).margin_y == 380
    with pytest.raises(PageTooSmallError):
        tall.config(tall.point({"margin-y": 380, "font-size": 40}))


def test_a_space_extends_another(tmp_path: Path) -> None:
    narrow = space(tmp_path, 'extends = "print"\n[space]\ndpi = [72]\ncolumns = [1, 2]')
    wide = Space.load("print", PROSE)
    assert set(narrow.axes) == {*wide.axes, "columns"}
    assert narrow.axes["dpi"] == (72,)
    assert narrow.axes["font-size"] == wide.axes["font-size"]
    assert narrow.size == wide.size // len(wide.axes["dpi"]) * 2


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"from": 7, "to": 10}, (7, 8, 9, 10)),
        ({"from": 0.75, "to": 1.0, "step": 0.05}, (0.75, 0.8, 0.85, 0.9, 0.95, 1.0)),
        ({"from": 5, "to": 5}, (5,)),
    ],
)
def test_ranges(given: dict[str, float], values: tuple[float, ...]) -> None:
    assert Range(**given).values() == values  # type: ignore[arg-type]
    assert all(isinstance(value, int) for value in values) == isinstance(given["from"], int)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[space]\nfont-sise = [9]", "unknown key 'font-sise'"),
        ("[space]\nfont-size = ['big']", "font-size = 'big'"),
        ("[space]\ndpi = {from = 72, to = 7200}", "dpi = 7200"),
        ("[space]\ndpi = {from = 72, to = 75, step = 2}", r"space\.dpi: from 72 in steps of 2 does not reach 75"),
        ("[space]\ndpi = {from = 80, to = 72}", "does not reach 72"),
        ("[space]\ndpi = {from = 1, to = 2, step = 0.00001}", "more than 10,000"),
        ("[space]\ndpi = {from = 72, till = 75}", r"space\.dpi\.to"),
        ("[space]\ndpi = {from = 72, to = 76, step = 0}", r"space\.dpi\.step"),
        ("[space]\ndpi = []", r"space\.dpi has no values"),
        ("[space]\ndpi = 72", "neither a list of values nor a range"),
        ('[space]\npage-size = ["A4", "595,842"]', "stands there twice"),
        ("[space]\ndpi = [72]\nDPI = [72]", "unknown key 'DPI'"),
        ("[space]\nmargin-x = [1]\nmargin_x = [2]", "twice"),
        ("[space]\nleading = ['x']", "leading = 'x'"),
        ("preset = 'nonesuch'\n[space]\ndpi = [72]", "nonesuch"),
        ("extends = 'nonesuch'\n[space]\ndpi = [72]", "no space 'nonesuch'"),
        ("grid = 1\n[space]\ndpi = [72]", "grid"),
        ("preset = 'en'", r"\[space\] has no keys"),
        ("[space\n", "can't be read"),
    ],
)
def test_mistakes(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        space(tmp_path, text)


def test_a_space_that_extends_itself(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(f"extends = '{path}'\n[space]\ndpi = [72]")
    with pytest.raises(ConfigError, match="leads back to itself"):
        Space.load(path, PROSE)


def test_a_font_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FontError, match=r"nonesuch\.ttf"):
        space(tmp_path, '[space]\nfont = ["Verdana", "nonesuch.ttf"]')


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"font-sise": 9}, "no key of the space"),
        ({"dpi": 71}, "dpi = 71 is not in the space. Allowed: 60 to 84 in steps of 4"),
        ({"font-size": "large"}, "font-size = 'large'"),
        ({"font-size": None}, "font-size = None"),
        ({"crop-multiple": True}, "crop-multiple = True"),
        ({"newline-markup": {"a": [1]}}, "newline-markup"),
    ],
)
def test_proposals_outside(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Space.load("print", PROSE).point(changes)


def test_a_key_that_is_left_out_needs_the_presets_value(tmp_path: Path) -> None:
    small = space(tmp_path, "[space]\nfont-size = [7, 8]\ndpi = [72, 84]")
    assert small.presets() == []
    with pytest.raises(ConfigError, match="font-size is not named, and the preset's 9"):
        small.point({"dpi": 84})
    assert small.changes(small.point({"font-size": 7})) == {"font-size": 7, "dpi": 72}
