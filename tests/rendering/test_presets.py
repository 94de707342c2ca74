"""The presets beside the default: what each of them promises about its pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from glyph_pipeline import RenderConfig, compress, render

SAMPLE = (Path(__file__).parent.parent.parent / "docs" / "sample.txt").read_text("utf-8")
SHORT = "\n".join(f"12:{n // 60:02}:{n % 60:02} INFO lamp level={n * 37 % 9999}" for n in range(900))
EN = RenderConfig.preset("en").replace(system_fonts=False)


@pytest.mark.parametrize("name", RenderConfig.presets())
def test_every_preset_draws_all_of_a_text(name: str) -> None:
    pages = list(render(SAMPLE, RenderConfig.preset(name).replace(system_fonts=False)))
    drawn = "".join("".join(page.lines) for page in pages).replace(" ", "").replace("\\n", "")
    assert drawn == "".join(SAMPLE.split())


def test_aligned_pages_have_the_lines_of_the_default_and_whole_patches() -> None:
    text = SAMPLE * 3
    aligned = list(render(text, RenderConfig.preset("aligned").replace(system_fonts=False)))
    assert [page.lines for page in aligned] == [page.lines for page in render(text, EN)]
    assert all((page.width % 28, page.height % 28) == (0, 0) for page in aligned)
    assert {page.width for page in aligned} == {588}
    assert aligned[-1].height < 840
    narrow = next(render("short", RenderConfig.preset("aligned")))
    assert (narrow.width % 28, narrow.height % 28) == (0, 0)
    assert narrow.width < 112
    # The area of the text is the default's, only the margins are less.
    ours, theirs = (np.asarray(page.to_image()) < 128 for page in (aligned[0], next(render(text, EN))))
    assert abs(int(ours.sum()) - int(theirs.sum())) < 0.02 * theirs.sum()


def test_columns_are_filled_one_after_the_other() -> None:
    config = EN.replace(columns=3, column_gap=6, auto_crop_width=False, page_size="595,200")
    pages = list(render(SHORT, config))
    assert [line for page in pages for line in page.lines if line] == SHORT.split("\n")
    ink = (np.asarray(pages[0].to_image()) < 128).any(axis=0)
    width = config.column_width
    for column in range(3):
        left = round(16 + column * (width + 6))
        assert ink[left : left + 20].any()
        assert not ink[max(0, left - 5) : left].any()
    assert pages[0].start == 0
    assert pages[-1].end == len(SHORT)
    assert [edge for page in pages for edge in page.columns] == [(0, 203), (203, 392), (392, 595)] * len(pages)


@pytest.mark.parametrize("changes", [{}, {"dpi": 120}, {"horizontal_scale": 0.8}, {"left_indent": 10}, {"column_gap": 30, "margin_x": 25}])
def test_a_page_knows_where_its_columns_part(changes: dict[str, float]) -> None:
    config = EN.replace(**({"columns": 3, "column_gap": 6, "page_size": "595,200"} | changes))
    pages = list(render(SHORT, config))
    for page in pages:
        ink = (np.asarray(page.to_image()) < 128).any(axis=0)
        assert [left for left, _ in page.columns] == [0, *(right for _, right in page.columns[:-1])]
        assert page.columns[-1][1] == page.width
        assert all(ink[left:right].any() for left, right in page.columns)
        assert not any(ink[left - 1 : left + 1].any() for left, _ in page.columns[1:])
    one = next(render("one line", config))
    assert one.columns == ((0, one.width),)
    assert next(render("one line", EN)).columns == ()


@pytest.mark.parametrize("name", ["columns", "newline-mark", "tight"])
def test_dense_presets_are_dense_where_they_should_be(name: str) -> None:
    """Short lines with a long one on every page, so that cropping the width saves nothing."""
    text = SHORT.replace("level=1", "level=1" + " and a long line about it" * 4)
    config = RenderConfig.preset(name).replace(system_fonts=False)
    assert compress(text, config).report.vision_tokens < compress(text, EN).report.vision_tokens
