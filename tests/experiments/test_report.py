"""The HTML report in a real browser: figures are drawn, pages are shown pixel by pixel, nothing is loaded, and no word becomes a tag."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
import pytest

from glyph_pipeline import RenderConfig, render
from glyph_pipeline.errors import OutputError
from glyph_pipeline.experiments.report import Report
from tests.support.browser import opened
from tests.support.command import SAMPLE, glyph_compress

EN = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False, page_size="200,300")
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


def a_report() -> Report:
    pages = list(render("The harbour lantern was lit at dusk, and nobody minded the rain. " * 40, EN))
    report = Report(f"Title {HOSTILE}", f"Lead {HOSTILE}")
    report.text("Words", "First paragraph.", HOSTILE)
    report.figure("Points", go.Figure(go.Scatter(x=[1, 2, 3], y=[3, 1, 2], mode="markers", name=HOSTILE)), "Three of them.")
    report.figure("Bars", go.Figure(go.Bar(x=["a", "b"], y=[1, 2])), "Two of them.")
    report.table("Rows", [{"name": "one", "tokens": 12345, "ratio": 2.9179}, {"name": HOSTILE, "error": None}], "Numbers.")
    report.pages("Pages", [(f"page {page.number}", page) for page in pages], "As drawn.")
    return report


def test_the_page_shows_what_was_put_in_and_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    report = a_report()
    report.write(path)
    pictures = [page for block in report._blocks if block.kind == "pages" for _, page in block.content]
    with opened(path) as shown:
        page = shown.page
        page.wait_for_selector("#figure-1 .point")
        assert page.locator("#figure-1 .scatterlayer .point").count() == 3
        assert page.locator("#figure-2 .bars .point").count() == 2
        assert page.title() == f"Title {HOSTILE}"
        assert page.locator("section.text-block p").all_inner_texts() == ["First paragraph.", HOSTILE]
        assert page.locator("th").all_inner_texts() == ["name", "tokens", "ratio", "error"]
        assert page.locator("tbody tr").first.locator("td").all_inner_texts() == ["one", "12,345", "2.918", ""]
        images = page.locator(".pages img")
        assert images.count() == len(pictures) > 1
        for number, picture in enumerate(pictures):
            true_size = images.nth(number).evaluate(
                "image => [image.naturalWidth, image.naturalHeight, image.clientWidth, image.clientHeight]"
            )
            assert true_size == [picture.width, picture.height] * 2
        tops = {round(box["y"]) for number in range(2) if (box := images.nth(number).bounding_box())}
        assert len(tops) == 1  # side by side
        assert page.locator("a[href*='plot']").count() == 0
        assert (shown.requests, shown.complaints) == ([], [])


def test_the_browser_is_forbidden_to_send_or_load(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    a_report().write(path)
    with opened(path) as shown:
        refused = shown.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', error => String(error))")
        assert "Failed" in refused
        assert any("Content Security Policy" in complaint for complaint in shown.complaints)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    assert a_report().html() == a_report().html()


def test_where_it_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"report\.html"):
        a_report().write(tmp_path / "file" / "report.html")


@pytest.mark.ocr
def test_a_sweep_writes_one_with_every_configuration(tmp_path: Path) -> None:
    grid = tmp_path / "grid.toml"
    grid.write_text('[axes]\nfont-size = [7, 9]\ndpi = [60, 72]\nleading = [1]\npage-size = ["300,300"]\n')
    prose, code = tmp_path / "prose.txt", tmp_path / "code.py"
    prose.write_text(SAMPLE.read_text("utf-8")[:5000])
    code.write_text(Path(__file__).read_text("utf-8"))
    asked = ("sweep", prose, code, "--grid", grid, "-o", tmp_path / "out", "--legibility", "1", "--lines", "10", "--workers", "0")
    done = glyph_compress(*asked, state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path / "out" / "report.html") in done.stderr
    with opened(tmp_path / "out" / "report.html") as shown:
        page = shown.page
        page.wait_for_selector("#figure-0 .point")
        assert page.locator("#figure-0 .scatterlayer .point").count() == 2 * 2 * 4  # texts, kinds of error, configurations
        assert page.locator("#figure-1 .heatmaplayer .hm").count() == 2 * 3
        assert page.locator("tbody tr").count() == 8
        assert page.locator("#figure-2 .boxlayer path.box").count() == 2 * 2 * 2  # keys, values, texts
        headings = page.locator("h2").all_inner_texts()
        assert headings == [
            "Ratio against error",
            "Over two axes",
            "What each key does",
            f"Pages of {prose}",
            f"Pages of {code}",
            "All configurations",
            headings[-1],
        ]
        assert "OCR is not the model" in page.locator("section.text-block").inner_text()
        page.locator("#figure-0 .scatterlayer .point").first.hover(force=True)
        page.wait_for_selector("#figure-0 .hoverlayer .hovertext")
        assert "font-size 7" in str(page.locator("#figure-0 .hoverlayer").text_content())
        assert (shown.requests, shown.complaints) == ([], [])
    before = (tmp_path / "out" / "report.html").read_bytes()
    (tmp_path / "first.html").write_bytes(before)  # to be looked at if the second is another
    again = glyph_compress(*asked, state=tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out" / "report.html").read_bytes() == before


def test_without_plotly_a_sweep_says_what_is_missing_and_keeps_its_numbers(tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "plotly.py").write_text("raise ImportError('not here')")
    done = glyph_compress("sweep", SAMPLE, "--grid", "quick", "-o", tmp_path / "out", state=tmp_path, PYTHONPATH=str(tmp_path / "without"))
    assert done.returncode == 0, done.stderr
    assert "glyph-pipeline[experiments]" in done.stderr
    assert (tmp_path / "out" / "sweep.csv").exists()
    assert not (tmp_path / "out" / "report.html").exists()
