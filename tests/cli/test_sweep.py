"""glyph-compress sweep: a row for every document and configuration, as compress would count it, and nothing drawn twice."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from glyph_pipeline import Document, RenderConfig, compress
from glyph_pipeline.tokens.vision import QWEN_3_VL
from tests.support.command import SAMPLE, glyph_compress

GRID = "[axes]\nfont-size = [8, 9]\ndpi = [72, 96]\n"


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_every_configuration_as_compress_counts_it(grid: Path, workers: str, tmp_path: Path) -> None:
    asked = ("sweep", SAMPLE, "--grid", grid, "--family", "glm4v", "--family", "qwen3-vl", "-o", tmp_path / "out", "--workers", workers)
    done = glyph_compress(*asked, state=tmp_path)
    assert done.returncode == 0, done.stderr
    table = rows(tmp_path / "out" / "sweep.csv")
    assert len(table) == 4
    text = Document.read(SAMPLE)
    for row in table:
        config = RenderConfig.preset("en").replace(font_size=float(row["font-size"]), dpi=int(row["dpi"]), line_height=None)
        if row["font-size"] == "9":
            config = config.replace(line_height=10)
        expected = compress(text, config)
        assert int(row["pages"]) == expected.report.pages
        assert int(row["glm4v tokens"]) == expected.report.vision_tokens
        assert float(row["glm4v ratio"]) == round(expected.report.ratio, 3)
        assert int(row["qwen3-vl tokens"]) == sum(QWEN_3_VL.tokens(page.width, page.height) for page in expected.pages)
        assert int(row["image bytes"]) == expected.report.image_bytes
    assert done.stdout.splitlines()[0].split()[:2] == ["font-size", "dpi"]
    assert len(done.stdout.splitlines()) == 5


def test_a_second_run_draws_only_what_is_new(grid: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = glyph_compress("sweep", SAMPLE, "--grid", grid, "-o", out, state=tmp_path)
    before = (out / "sweep.jsonl").read_text()
    again = glyph_compress("sweep", SAMPLE, "--grid", grid, "-o", out, state=tmp_path)
    assert (out / "sweep.jsonl").read_text() == before
    assert "4 of 4 are drawn already" in again.stderr
    assert again.stdout == first.stdout  # the seconds of drawing, too: they are those of the one time it was drawn
    grid.write_text(GRID.replace("72, 96", "72, 96, 120"))
    more = glyph_compress("sweep", SAMPLE, "--grid", grid, "-o", out, "--json", state=tmp_path)
    assert "4 of 6 are drawn already" in more.stderr
    assert len((out / "sweep.jsonl").read_text().splitlines()) == 6
    assert len(json.loads(more.stdout)["rows"]) == len(rows(out / "sweep.csv")) == 6
    other = tmp_path / "other.txt"
    other.write_text("Another text.")
    both = glyph_compress("sweep", SAMPLE, other, "--grid", grid, "-o", out, state=tmp_path)
    assert "6 of 12 are drawn already" in both.stderr
    assert both.stdout.splitlines()[0].startswith("document")


def test_what_cannot_be_drawn_is_a_row_that_says_why(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('[axes]\npage-size = ["A4", "200,60"]\nfont-size = [20]')
    done = glyph_compress("sweep", SAMPLE, "--grid", grid, "-o", tmp_path / "out", state=tmp_path)
    assert done.returncode == 12
    fine, small = rows(tmp_path / "out" / "sweep.csv")
    assert (fine["error"], small["pages"]) == ("", "")
    assert "don't fit" in small["error"]
    assert "1 of 2 combinations" in done.stderr
    grid.write_text('[axes]\npage-size = ["200,60"]\nfont-size = [20]')
    assert glyph_compress("sweep", SAMPLE, "--grid", grid, "-o", tmp_path / "out", state=tmp_path).returncode == 3


def test_mistakes(grid: Path, tmp_path: Path) -> None:
    assert glyph_compress("sweep", SAMPLE, "--grid", "nonesuch", state=tmp_path, cwd=tmp_path).returncode == 3
    assert glyph_compress("sweep", tmp_path / "nowhere", "--grid", grid, state=tmp_path, cwd=tmp_path).returncode == 4
    assert glyph_compress("sweep", SAMPLE, "--grid", grid, "-o", grid, state=tmp_path).returncode == 11
