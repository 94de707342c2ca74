"""Fonts: found by path, file name or family; Verdana's stand-in; errors that name what there is; the bundled files."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fontTools.ttLib import TTFont

from glyph_pipeline.errors import FontError
from glyph_pipeline.rendering import fonts, system_fonts
from glyph_pipeline.rendering.bundled import bundled_faces
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.resources import resource_dir

BUNDLED = resource_dir("fonts") / "DejaVuSans.ttf"


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fonts in ``folder`` are the installed ones; the cache is there, too."""
    monkeypatch.setattr(system_fonts, "font_files", lambda: tuple(sorted(folder.glob("*.ttf"))))
    monkeypatch.setattr(system_fonts, "cache_file", lambda: folder / "cache" / "fonts.json")
    system_fonts.faces.cache_clear()
    fonts._find_file.cache_clear()


@pytest.fixture(autouse=True)
def _what_is_installed_is_looked_at_anew() -> Iterator[None]:
    yield
    system_fonts.faces.cache_clear()
    fonts._find_file.cache_clear()


@pytest.mark.parametrize("name", [str(BUNDLED), "DejaVuSans.ttf", "DejaVuSans", "dejavu sans", "DejaVu Sans"])
def test_the_bundled_font_under_its_names(name: str) -> None:
    font = find_font(name)
    assert font.path == BUNDLED
    assert (font.use.family, font.use.requested, font.use.stand_in) == ("DejaVu Sans", name, False)


def test_an_installed_font_by_file_name_and_by_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for style in ("Bold", "Regular"):
        tables = TTFont(BUNDLED)
        for record in tables["name"].names:
            if record.nameID in (1, 16):
                record.string = "Harbour Sans"
            if record.nameID in (2, 17):
                record.string = style
        tables.save(tmp_path / f"Harbour-{style}.ttf")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    installed(tmp_path, monkeypatch)
    assert find_font("Harbour-Bold").path.name == "Harbour-Bold.ttf"
    # Of a family the regular face, whatever the order of its files.
    assert find_font("Harbour Sans").path.name == "Harbour-Regular.ttf"
    with pytest.raises(FontError, match="no font 'Harbour Sans'"):
        find_font("Harbour Sans", installed=False)


@pytest.mark.parametrize("entry", ["7", "{}", '{"stamp": [], "faces": [{"index": "0"}]}', '{"stamp": 0, "faces": {}}'])
def test_a_cache_of_another_shape_is_made_anew(entry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    font = Path(shutil.copy(BUNDLED, tmp_path / "Copy.ttf"))
    cache = tmp_path / "cache" / "fonts.json"
    cache.parent.mkdir()
    cache.write_text(f'{{"{font}": {entry}}}')
    installed(tmp_path, monkeypatch)
    (face,) = system_fonts.faces()
    assert (face.path, face.family) == (font, "DejaVu Sans")
    assert '"DejaVu Sans"' in cache.read_text()


@pytest.mark.parametrize("name", ["Verdana", "verdana.ttf", "../config/Verdana.ttf"])
def test_what_stands_in_for_verdana_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch)
    use = find_font(name).use
    assert (use.file, use.requested, use.stand_in) == ("DejaVuSans.ttf", name, True)


def test_verdana_itself_where_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(BUNDLED, tmp_path / "Verdana.ttf")
    installed(tmp_path, monkeypatch)
    use = find_font("../config/Verdana.ttf").use
    assert (use.file, use.stand_in) == ("Verdana.ttf", False)
    assert find_font("Verdana", installed=False).use.stand_in


def test_fonts_that_are_missing_or_none(tmp_path: Path) -> None:
    with pytest.raises(FontError, match=r"no font 'DejaVuSanz'.*Did you mean 'DejaVuSans"):
        find_font("DejaVuSanz")
    with pytest.raises(FontError, match=r"no font 'Zzyzx'.*Bundled: DejaVuSans"):
        find_font("Zzyzx")
    # A path means that very file, even if a font of that name is bundled.
    with pytest.raises(FontError, match="no font"):
        find_font(str(tmp_path / "DejaVuSans.ttf"))
    (tmp_path / "fake.ttf").write_bytes(b"not a font at all")
    with pytest.raises(FontError, match="not a usable font"):
        find_font(str(tmp_path / "fake.ttf"))
    (tmp_path / "cut.ttf").write_bytes(BUNDLED.read_bytes()[:5000])
    with pytest.raises(FontError):
        find_font(str(tmp_path / "cut.ttf"))


def test_glyphs_and_advances_are_the_files_own() -> None:
    font = find_font("DejaVuSans")
    tables = TTFont(BUNDLED)
    text = "Aäß Ωж—“x”"
    gids = [font.glyph_id(ord(char)) for char in text]
    names = [tables.getBestCmap()[ord(char)] for char in text]
    assert gids == [tables.getGlyphID(name) for name in names]
    assert [font.advance(gid) for gid in gids] == [tables["hmtx"][name][0] for name in names]
    assert font.glyph_id(ord("中")) == 0


def test_bundled_fonts_have_checksums_and_a_licence() -> None:
    folder = resource_dir("fonts")
    listed = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text("utf-8").splitlines())
    assert {face.path.name for face in bundled_faces()} == set(listed)
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert "Bitstream Vera" in (folder / "LICENSE-DejaVu.txt").read_text("utf-8")
