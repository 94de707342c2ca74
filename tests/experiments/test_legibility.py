"""Reading pages back: what the encoder sees, which pages are read, how errors are counted, and that smaller print reads worse."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from glyph_pipeline import Page, RenderConfig, render
from glyph_pipeline.experiments.legibility import ReadBack, as_seen, random_page, read_back, sample_pages
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.tokens.vision import GLM_4V, QWEN_3_VL
from tests.support.command import SAMPLE, glyph_compress

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False)


def pages(count: int) -> list[Page]:
    return [Page(number, 28, 28, b"", 0, 1, (f"line {number}",)) for number in range(1, count + 1)]


def test_the_page_is_resampled_to_what_the_encoder_gets() -> None:
    page = next(render("The harbour lantern.", EN.replace(auto_crop_width=False, auto_crop_last_page=False)))
    for family, size in ((GLM_4V, (588, 840)), (QWEN_3_VL, (608, 832))):
        seen = as_seen(page, family)
        assert (seen.width, seen.height) == seen.to_image().size == size
        assert family.tokens(*size) == family.tokens(page.width, page.height)
    aligned = next(render("x", RenderConfig.preset("aligned").replace(auto_crop_width=False, auto_crop_last_page=False)))
    assert as_seen(aligned, GLM_4V) is aligned


@pytest.mark.parametrize(
    ("count", "wanted", "read"), [(1, 3, [1]), (3, 5, [1, 2]), (11, 1, [1]), (11, 2, [1, 10]), (11, 3, [1, 5, 10]), (4, 3, [1, 2, 3])]
)
def test_pages_are_spread_and_a_short_last_one_is_left_out(count: int, wanted: int, read: list[int]) -> None:
    assert [page.number for page in sample_pages(pages(count), wanted)] == read


def test_errors_are_insertions_deletions_and_replacements() -> None:
    page = next(render("The harbour\nlantern.", EN))
    for text, errors in (
        ("The harbour lantern.", 0),
        ("The  harbour\tlantern.", 0),
        ("The harbor lantern.", 1),
        ("Tne harbour lanternn.", 2),
        ("", 20),
    ):
        assert read_back([page], GLM_4V, lambda _, choose=None, text=text: text.split("\n")) == ReadBack(1, 20, errors)
    assert ReadBack(1, 20, 5).rate == 0.25
    assert ReadBack(0, 0, 0).rate == 0


def test_of_a_sample_of_lines_only_those_are_read_and_counted() -> None:
    page = next(render("\n".join(f"line number {number}" for number in range(1, 6)), EN))

    def transcribe(page: Page, choose: Callable[[int], Collection[int]] | None = None) -> list[str]:
        assert choose is not None
        asked.append(list(choose(found)))
        return [["line number 1", "lime number 2", "line number 3", "line number 4", "line"][place] for place in asked[-1]]

    found = 5
    for lines, wanted, errors in ((3, [0, 2, 4], 9), (2, [0, 4], 9), (0, [0, 1, 2, 3, 4], 10), (9, [0, 1, 2, 3, 4], 10)):
        asked: list[list[int]] = []
        assert read_back([page], GLM_4V, transcribe, lines) == ReadBack(1, 14 * len(wanted) - 1, errors)
        assert asked == [wanted]
    found = 4  # two lines were taken for one: which is which nobody knows, so all are read
    read_back([page], GLM_4V, transcribe, 2)
    assert asked[-1] == [0, 1, 2, 3]


@pytest.mark.ocr
def test_columns_are_read_one_after_the_other() -> None:
    text = SAMPLE.read_text("utf-8")[:9000]
    for changes in ({}, {"horizontal_scale": 0.9}, {"left_indent": 20}):
        config = RenderConfig.preset("columns").replace(font_size=12, line_height=14, system_fonts=False, **changes)
        page = next(render(text, config))
        assert read_back([page], GLM_4V, OCRReader().transcribe).rate < 0.01, changes


def test_random_strings_are_the_same_every_time() -> None:
    assert random_page(EN).png == random_page(EN).png
    words = " ".join(random_page(EN).lines).split()
    assert len(set(words)) == len(words) > 100


@pytest.mark.ocr
def test_smaller_print_reads_worse_and_nothing_is_read_twice(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('[axes]\nfont-size = [9, 5]\npage-size = ["300,300"]\n')
    text = tmp_path / "text.txt"
    text.write_text(SAMPLE.read_text("utf-8")[:6000])
    asked = ("sweep", text, "--grid", grid, "-o", tmp_path / "out", "--legibility", "1", "--workers", "0")
    done = glyph_compress(*asked, state=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "sweep.csv").open(newline="") as file:
        large, small = ((float(row["text error"]), float(row["random error"])) for row in csv.DictReader(file))
    assert large[0] < 0.02
    assert small[0] > 3 * large[0]
    assert small[1] > 3 * large[1]
    assert small[1] > small[0]  # no guessing from what stands beside it
    before = (tmp_path / "out" / "legibility.jsonl").read_bytes()
    again = glyph_compress(*asked, state=tmp_path)
    assert again.stdout == done.stdout
    assert (tmp_path / "out" / "legibility.jsonl").read_bytes() == before
    other = tmp_path / "other.txt"
    other.write_text(text.read_text()[:2000])
    glyph_compress("sweep", text, other, *asked[2:], state=tmp_path)
    read = [json.loads(line)["measure"] for line in (tmp_path / "out" / "legibility.jsonl").read_text().splitlines()]
    assert read == ["text", "random"] * 2 + ["text"] * 2  # random strings are the same for every document
