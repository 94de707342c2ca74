"""Grids: every combination once, coupled leading, impossible pages as errors of their own, mistakes named by file, key and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from glyph_pipeline.errors import ConfigError, PageTooSmallError
from glyph_pipeline.experiments.grid import Grid


def grid(tmp_path: Path, text: str) -> Grid:
    path = tmp_path / "grid.toml"
    path.write_text(text, "utf-8")
    return Grid.load(path)


def test_every_combination_in_order(tmp_path: Path) -> None:
    made = grid(tmp_path, "[axes]\nfont-size = [8, 9]\nleading = [0, 1.5]\ndpi = [72]")
    combinations = list(made.combinations())
    assert len(made) == len(combinations) == 4
    assert [tuple(each.changes.values()) for each in combinations] == [(8, 0, 72), (8, 1.5, 72), (9, 0, 72), (9, 1.5, 72)]
    configs = [each.config for each in combinations]
    assert [(config.font_size, config.leading) for config in configs if config] == [(8, 8), (8, 9.5), (9, 9), (9, 10.5)]


def test_a_size_without_leading_gets_its_own(tmp_path: Path) -> None:
    combinations = list(grid(tmp_path, "[axes]\nfont-size = [7, 9]").combinations())
    assert [each.config.leading for each in combinations if each.config] == [8, 10]


def test_pages_on_which_nothing_fits_are_errors_of_their_combination(tmp_path: Path) -> None:
    fine, small = grid(tmp_path, '[axes]\npage-size = ["A4", "200,60"]\nfont-size = [20]').combinations()
    assert fine.config is not None
    assert small.config is None
    assert isinstance(small.error, PageTooSmallError)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[axes]", "axes"),
        ("preset = 'en'", "axes"),
        ("[axes]\nfont-sise = [9]", "unknown key 'font-sise'"),
        ("[axes]\nfont-size = ['big']", "font-size = 'big'"),
        ("[axes]\ndpi = [72, 7200]", "dpi = 7200"),
        ("[axes]\ndpi = []", "dpi has no values"),
        ("[axes]\nleading = ['x']", "leading = 'x'"),
        ("preset = 'nonesuch'\n[axes]\ndpi = [72]", "nonesuch"),
        ("grid = 1\n[axes]\ndpi = [72]", "grid"),
        ("[axes\n", "can't be read"),
    ],
)
def test_mistakes(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        grid(tmp_path, text)


def test_what_ships_is_possible_and_named() -> None:
    assert {"density", "quick"} <= set(Grid.names())
    for name in Grid.names():
        made = Grid.load(name)
        assert all(each.config is not None for each in made.combinations())
    assert len(Grid.load("density")) >= 40
    with pytest.raises(ConfigError, match=r"no grid 'nonesuch'.*density"):
        Grid.load("nonesuch")
