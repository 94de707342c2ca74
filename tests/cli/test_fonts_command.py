"""glyph-compress fonts, the choice of the preset by the text, and --no-system-fonts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from glyph_pipeline import RenderConfig, compress
from glyph_pipeline.cli.fonts import fonts
from glyph_pipeline.cli.output import report_lines
from glyph_pipeline.rendering import packages, system_fonts
from glyph_pipeline.resources import resource_dir
from tests.support.command import SAMPLE, glyph_compress
from tests.support.fake_openai import Fake, running, says

CHINESE = "守灯人每天傍晚点亮油灯，清晨再把它熄灭。\n" * 20
# 10 Latin letters (e\u0301 has two characters), 3 Devanagari, 3 of one emoji, 2 of a script that is not bundled, 1 private use.
MIXED = "Two lamp e\u0301 नमः \U0001f469\u200d\U0001f680 \U00010600\U00010600 \U000f0000\u200e\u00ad\n"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without installed fonts, and one package with all characters."""
    monkeypatch.setattr(system_fonts, "faces", lambda: ())
    monkeypatch.setattr(packages, "_table", lambda: ((0, 0x10FFFF, "fonts-all"),))


def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.txt"
    path.write_text(MIXED, "utf-8")
    return path


def test_the_chain_in_order(tmp_path: Path) -> None:
    done = glyph_compress("fonts", "--json", "--font", "DejaVuSansMono.ttf", state=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    data = json.loads(done.stdout)
    configured, *bundled = data["fonts"]
    assert (configured["source"], configured["family"], configured["stand_in_for"]) == ("configured", "DejaVu Sans Mono", None)
    assert {font["source"] for font in bundled} == {"bundled"}
    listed = json.loads((resource_dir("fonts") / "coverage.json").read_text("utf-8"))
    assert [Path(font["file"]).name for font in bundled] == [name for name in listed if name != "DejaVuSansMono.ttf"]
    for font in data["fonts"]:
        assert font["sha256"] == hashlib.sha256(Path(font["file"]).read_bytes()).hexdigest()
        assert font["characters"] > 0
    assert data["installed"] >= 0
    assert Path(data["cache"]).is_relative_to(tmp_path / "cache")
    assert Path(data["cache"]).is_file()


def test_the_chain_as_a_table(tmp_path: Path) -> None:
    done = glyph_compress("fonts", "--no-system-fonts", state=tmp_path)
    assert done.returncode == 0
    first, *_, last = done.stdout.splitlines()
    checksum = hashlib.sha256((resource_dir("fonts") / "DejaVuSans.ttf").read_bytes()).hexdigest()
    assert first.split()[0] == "configured"
    assert f"{checksum[:12]}  DejaVu Sans in place of Verdana" in first
    assert last.split() == ["installed", "left", "out"]


@pytest.mark.usefixtures("bare")
def test_what_each_font_draws_and_what_none_has(tmp_path: Path) -> None:
    done = CliRunner().invoke(fonts, [str(mixed(tmp_path)), "--json", "--font", "DejaVuSans.ttf"])
    assert done.exit_code == 0
    data = json.loads(done.stdout)
    assert {font["family"]: font["characters"] for font in data["fonts"]} == {
        "DejaVu Sans": 9,
        "Noto Sans Devanagari": 3,
        "Noto Emoji": 3,
    }
    assert data["missing"] == [
        {"block": "Linear A", "count": 2, "characters": 1, "examples": ["U+10600"], "packages": ["fonts-all"]},
        {"block": "Supplementary Private Use Area-A", "count": 1, "characters": 1, "examples": ["U+F0000"], "packages": []},
    ]
    assert (data["packages"], data["invisible"], data["removed"]) == (["fonts-all"], 1, 1)
    # The same account as that of drawing it.
    report = compress(MIXED, RenderConfig.preset("en").replace(font="DejaVuSans.ttf")).report
    assert {font.sha256 for font in report.fonts} == {font["sha256"] for font in data["fonts"]}
    assert (sum(report.missing.values()), report.invisible, report.removed) == (3, 1, 1)


@pytest.mark.usefixtures("bare")
def test_the_same_as_a_table(tmp_path: Path) -> None:
    done = CliRunner().invoke(fonts, [str(mixed(tmp_path))])
    assert done.exit_code == 0
    assert "2 characters  Linear A: U+10600; apt install fonts-all\n" in done.stdout
    assert "Private Use Area-A: U+F0000\n" in done.stdout
    # Advice that would change nothing is not given.
    assert "apt install" not in CliRunner().invoke(fonts, [str(mixed(tmp_path)), "--no-system-fonts"]).stdout


@pytest.mark.usefixtures("bare")
def test_the_report_says_what_to_install() -> None:
    rows = dict(report_lines(compress(MIXED).report))
    assert rows["not in font"] == ("3 characters drawn as escapes: U+10600 (2), U+F0000 (1); fonts that have them: apt install fonts-all")
    assert rows["invisible"].startswith("1 characters without a picture")
    assert rows["removed"].startswith("1 ")


def test_a_text_that_every_font_lacks_and_documents_that_are_none(tmp_path: Path) -> None:
    only = tmp_path / "only.txt"
    only.write_text("\U000f0000", "utf-8")
    done = glyph_compress("fonts", only, "--json", state=tmp_path)
    assert done.returncode == 0
    assert [font["characters"] for font in json.loads(done.stdout)["fonts"]] == [0]
    assert glyph_compress("fonts", tmp_path / "nothing.txt", state=tmp_path).returncode == 4
    assert glyph_compress("fonts", "--font", "No Such Font", state=tmp_path).returncode == 5
    assert glyph_compress("fonts", "--dpi", "1", state=tmp_path).returncode == 3


def test_the_preset_is_chosen_by_the_text(tmp_path: Path) -> None:
    doc = tmp_path / "lamp.txt"
    doc.write_text(CHINESE, "utf-8")
    done = glyph_compress("render", doc, "-o", tmp_path / "auto", "--json", "--quiet", "--dpi", "96", "--no-system-fonts", state=tmp_path)
    assert done.returncode == 0, done.stderr
    chosen = RenderConfig.preset("zh").replace(dpi=96, system_fonts=False)
    assert json.loads((tmp_path / "auto" / "pages.json").read_text("utf-8"))["config"] == chosen.to_dict()
    assert json.loads(done.stdout)["report"]["fonts"][0]["requested"] == "NotoSansMonoCJKsc-Regular.otf"
    named = glyph_compress("render", doc, "-o", tmp_path / "en", "--config", "en", "--json", "--quiet", state=tmp_path)
    assert json.loads(named.stdout)["report"]["fonts"][0]["requested"] == "Verdana"
    # By all documents together: twenty Chinese lines do not outweigh the sample many times over.
    several = glyph_compress("render", *[SAMPLE] * 12, doc, "-o", tmp_path / "all", "--json", "--quiet", state=tmp_path)
    assert json.loads(several.stdout)["report"]["fonts"][0]["requested"] == "Verdana"


def test_the_answers_configuration_is_the_chosen_one(tmp_path: Path) -> None:
    doc = tmp_path / "lamp.txt"
    doc.write_text(CHINESE, "utf-8")
    with running(Fake(says([{"content": "Yes"}]))) as fake:
        done = glyph_compress(doc, "-q", "?", "--base-url", fake.base_url, "--json", "--quiet", "--font-size", "10", state=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"] == RenderConfig.preset("zh").replace(font_size=10, line_height=None).to_dict()


def test_a_font_that_is_not_there_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with running(Fake(says([{"content": "Yes"}]))) as fake:
        done = glyph_compress(SAMPLE, "-q", "?", "--base-url", fake.base_url, "--font", "No Such Font", state=tmp_path)
    assert done.returncode == 5
    assert fake.requests == []


def test_help_says_how_the_preset_is_chosen(tmp_path: Path) -> None:
    for command in ("ask", "render", "fonts"):
        assert "auto: en or zh, by the text" in " ".join(glyph_compress(command, "--help", state=tmp_path).stdout.split())
