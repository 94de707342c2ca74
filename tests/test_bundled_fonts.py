"""The files in fonts/: whole, licensed, small enough, unhinted, and able to draw and shape what they are there for. No renderer here."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import freetype
import pytest
import uharfbuzz
from fontTools import unicodedata
from fontTools.ttLib import TTFont

from glyph_pipeline.resources import resource_dir

FOLDER = resource_dir("fonts")
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in {".ttf", ".otf"})
SUBSETS = [name for name in FILES if not name.startswith("DejaVu")]
CJK = "NotoSansMonoCJKsc-Regular.otf"
EMOJI = "NotoEmoji-Regular.otf"
HINTING = {"fpgm", "prep", "cvt ", "gasp", "hdmx", "VDMX", "LTSH", "DSIG"}


@lru_cache(maxsize=4)
def tables(name: str) -> Any:
    return TTFont(io.BytesIO((FOLDER / name).read_bytes()), lazy=True)


@lru_cache(maxsize=1)
def coverage() -> dict[str, set[int]]:
    return {name: set(tables(name).getBestCmap()) for name in FILES}


@lru_cache(maxsize=1)
def builder() -> ModuleType:
    path = Path(__file__).resolve().parent.parent / "scripts" / "build_fonts.py"
    spec = importlib.util.spec_from_file_location("build_fonts", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["build_fonts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def shaped(name: str, text: str) -> tuple[list[int], list[int], bool]:
    """Glyphs of the characters one by one; glyphs of the shaped text in logical order; whether one of them was moved."""
    font = uharfbuzz.Font(uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(FOLDER / name))))
    buffer = uharfbuzz.Buffer()
    buffer.add_str(text)
    buffer.guess_segment_properties()
    buffer.flags = uharfbuzz.BufferFlags.REMOVE_DEFAULT_IGNORABLES
    uharfbuzz.shape(font, buffer)
    glyphs = [info.codepoint for info in buffer.glyph_infos]
    moved = any(position.x_offset or position.y_offset for position in buffer.glyph_positions)
    return [font.get_nominal_glyph(ord(char)) or 0 for char in text], glyphs[:: -1 if buffer.direction == "rtl" else 1], moved


def test_checksums_and_size() -> None:
    listed = dict(reversed(line.split()) for line in (FOLDER / "SHA256SUMS").read_text("utf-8").splitlines())
    assert sorted(listed) == FILES
    for name, digest in listed.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12_000_000


def test_every_font_has_its_licence_and_its_row_in_the_readme() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in (FOLDER / "README.md").read_text("utf-8").splitlines()]
    licences = {row[0]: row[3] for row in rows if len(row) == 4 and row[0].endswith(("otf", "ttf"))}
    assert sorted(licences) == FILES
    for name, licence in licences.items():
        text = (FOLDER / licence).read_text("utf-8")
        if licence == "LICENSE-Noto.txt":
            # Whose copyright it is stands beside the name; the font says the same.
            assert f"{name}: {tables(name)['name'].getDebugName(0)}" in text
            assert "SIL OPEN FONT LICENSE Version 1.1" in text
            assert "Open Font License" in (tables(name)["name"].getDebugName(13) or "Open Font License")
        else:
            assert "Bitstream Vera" in text


def test_the_written_coverage_is_that_of_the_files() -> None:
    written = json.loads((FOLDER / "coverage.json").read_text("utf-8"))
    assert sorted(written) == FILES
    for name, entry in written.items():
        ends = [[int(end, 16) for end in piece.split("-")] for piece in entry["ranges"].split()]
        assert {code for pair in ends for code in range(pair[0], pair[-1] + 1)} == coverage()[name], name
        assert entry["family"] == tables(name)["name"].getDebugName(1)


@pytest.mark.parametrize("name", FILES)
def test_every_font_opens(name: str) -> None:
    face = freetype.Face(str(FOLDER / name))
    cmap = tables(name).getBestCmap()
    assert cmap
    assert face.num_glyphs == tables(name)["maxp"].numGlyphs
    assert {0x20, 0xA0} & set(cmap)
    inked = 0
    for code in sorted(cmap)[:: max(1, len(cmap) // 40)]:
        face.load_char(chr(code), freetype.FT_LOAD_NO_SCALE | freetype.FT_LOAD_NO_HINTING)
        assert face.get_char_index(code)
        assert face.glyph.advance.x == tables(name)["hmtx"][cmap[code]][0]
        inked += bool(face.glyph.outline.points)
    assert inked > 0


@pytest.mark.parametrize("name", SUBSETS)
def test_subsets_carry_no_hinting(name: str) -> None:
    font = tables(name)
    assert not HINTING & set(font.keys())
    top = font["CFF "].cff.topDictIndex[0]
    for private in [part.Private for part in top.FDArray] if hasattr(top, "FDArray") else [top.Private]:
        assert not {"BlueValues", "OtherBlues", "StemSnapH", "StemSnapV", "StdHW", "StdVW"} & set(private.rawDict)
    outlines = top.CharStrings
    for glyph in list(outlines.keys())[:: max(1, len(outlines) // 200)]:
        outlines[glyph].decompile()
        assert not {"hstem", "vstem", "hstemhm", "vstemhm", "hintmask", "cntrmask"} & set(map(str, outlines[glyph].program)), glyph


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [
        (0x4E00, 0x9FFF, 20976),  # all the original has: those of Unicode 12
        (0x3400, 0x4DBF, 1117),  # Extension A: what is in use
        (0x20000, 0x3FFFF, 2365),  # the whole of the original
        (0x3041, 0x3096, 86),
        (0x30A0, 0x30FF, 96),
        (0x31F0, 0x31FF, 16),
        (0xFF61, 0xFF9F, 63),
        (0x3105, 0x312F, 43),
        (0xAC00, 0xD7A3, 11172),
        (0x1100, 0x11FF, 256),
        (0x2F00, 0x2FD5, 214),
    ],
)
def test_chinese_japanese_and_korean_are_there(first: int, last: int, count: int) -> None:
    assert len([code for code in coverage()[CJK] if first <= code <= last]) == count


def test_one_em_and_half_an_em() -> None:
    font = tables(CJK)
    cmap, metrics, em = font.getBestCmap(), font["hmtx"].metrics, font["head"].unitsPerEm

    def widths(first: int, last: int) -> set[int]:
        return {metrics[cmap[code]][0] for code in range(first, last + 1) if code in cmap}

    for first, last in ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x3FFFF), (0x3041, 0x3096), (0xFF01, 0xFF5E)):
        assert widths(first, last) == {em}
    for first, last in ((0x20, 0x7E), (0xFF61, 0xFF9F)):
        assert widths(first, last) == {em // 2}


def test_the_common_han_of_every_region_are_there() -> None:
    # Lift (Cantonese), Yoshinoya's yoshi, a fish of Hong Kong's set, four of the standard table that lie beyond the basic block.
    assert {ord(char) for char in "𨋢𠮷䱽㑇㙦𣲘𫗧"} <= coverage()[CJK]


def test_old_hangul_is_composed_from_jamo() -> None:
    alone, glyphs, _ = shaped(CJK, "\u1112\u119e\u11ab")
    assert 0 not in glyphs
    assert glyphs != alone


# Tables 5 and 7 of Unicode Standard Annex 31: scripts in everyday and in limited use. Han, Hangul and kana are tested above.
IN_USE = (
    *("Arab", "Armn", "Beng", "Bopo", "Cyrl", "Deva", "Ethi", "Geor", "Grek", "Gujr", "Guru", "Hebr", "Knda", "Khmr", "Laoo", "Latn"),
    *("Mlym", "Mymr", "Orya", "Sinh", "Taml", "Telu", "Thaa", "Thai", "Tibt"),
    *("Adlm", "Bali", "Bamu", "Batk", "Cakm", "Cans", "Cham", "Cher", "Hmnp", "Java", "Kali", "Lana", "Lepc", "Limb", "Lisu", "Mand"),
    *("Mtei", "Newa", "Nkoo", "Olck", "Osge", "Plrd", "Rohg", "Saur", "Sund", "Sylo", "Syrc", "Tale", "Talu", "Tavt", "Tfng", "Vaii"),
    *("Wcho", "Yiii", "Mong"),
)


@lru_cache(maxsize=1)
def by_script() -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for code in range(0x20000):
        found.setdefault(unicodedata.script(chr(code)), []).append(code)
    return found


@pytest.mark.parametrize("script", IN_USE)
def test_scripts_in_use_are_covered(script: str) -> None:
    """Up to additions of Unicode 13 and later, and historic stages of Bamum that lie apart."""
    bundled = set().union(*coverage().values())
    basic = [
        code for code in by_script()[script] if code < 0x10000 or script in {"Adlm", "Cakm", "Hmnp", "Newa", "Osge", "Plrd", "Rohg", "Wcho"}
    ]
    # Unicode 14 to 17 added so much to Arabic, Latin and the like; single letters of it.
    assert len(bundled.intersection(basic)) >= 0.8 * len(basic)


@pytest.mark.parametrize(
    ("file", "text", "effect"),
    [
        ("SansDevanagari", "हिन्दी", "fewer"),
        ("SansBengali", "বিশ্ব", "fewer"),
        ("SansGurmukhi", "ਪੰਜਾਬਿ", "order"),
        ("SansGujarati", "ક્ષ", "fewer"),
        ("SansOriya", "କ୍ଷ", "fewer"),
        ("SansTamil", "தொ", "more"),
        ("SansTelugu", "క్షేత్రము", "fewer"),
        ("SansKannada", "ಕ್ಷೇತ್ರ", "fewer"),
        ("SansMalayalam", "കൊച്ചി", "fewer"),
        ("SansSinhala", "ක්‍ෂේත්‍ර", "fewer"),
        ("SansThai", "น้ำที่", "marks"),
        ("SansLao", "ນ້ຳທີ່", "marks"),
        ("SansKhmer", "ខ្មែរ", "order"),
        ("SansMyanmar", "ရေ", "order"),
        ("SerifTibetan", "བསྒྲུབས", "fewer"),
        ("SansArabic", "السلام", "fewer"),
        ("SansSyriac", "ܫܠܡܐ", "forms"),
        ("SansThaana", "ދިވެހި", "marks"),
        ("SansHebrew", "שָׁלוֹם", "marks"),
        ("SansNKo", "ߒߞߏ", "forms"),
        ("SansAdlam", "𞤆𞤵𞤤𞤢𞤪", "forms"),
        ("SansMongolian", "ᠮᠣᠩᠭᠣᠯ", "forms"),
        ("SansJavanese", "ꦄꦏ꧀ꦱꦫ", "fewer"),
        ("SansBalinese", "ᬅᬓ᭄ᬱᬭ", "fewer"),
        ("SansSundanese", "ᮞᮥᮔ᮪ᮓ", "marks"),
        ("SansTaiTham", "ᨲᩫ᩠ᩅᨾᩮᩬᩥᨦ", "fewer"),
        ("SansCham", "ꨌꩌ ꨇꨯ", "order"),
        ("SansLepcha", "ᰛᰩᰵ", "order"),
        ("SansLimbu", "ᤕᤰᤌᤢᤱ", "marks"),
        ("SansChakma", "𑄌𑄋𑄴𑄟𑄳𑄦", "fewer"),
        ("SansMeeteiMayek", "ꯃꯩꯇꯩ", "marks"),
        ("SansHanifiRohingya", "𐴌𐴟𐴇𐴥𐴝𐴚𐴒𐴙𐴝", "forms"),
        ("SansNewa", "𑐎𑐶𑐎𑑂𑐳", "fewer"),
        ("SansSaurashtra", "ꢱꣃꢬꢵꢰ꣄ꢜ꣄ꢬꢵ", "marks"),
        ("SansKayahLi", "ꤊꤢꤛꤢ꤬", "marks"),
        ("SansMandaic", "ࡌࡀࡍࡃࡀ", "forms"),
        ("SansBuginese", "ᨅᨔ ᨕᨘᨁᨗ", "marks"),
        ("SansGunjalaGondi", "𑵶𑶍𑶕𑶀", "fewer"),
        ("SansMasaramGondi", "𑴎𑴽𑴎𑵅𑴎", "fewer"),
        ("SansTagalog", "ᜊᜊᜌᜒ", "marks"),
        ("SansHanunoo", "ᜱᜨᜳ", "marks"),
    ],
)
def test_words_are_shaped(file: str, text: str, effect: str) -> None:
    alone, glyphs, moved = shaped(f"Noto{file}-Regular.otf", text)
    assert 0 not in alone
    assert 0 not in glyphs
    match effect:
        case "fewer":
            assert len(glyphs) < len(alone)
        case "more":
            assert len(glyphs) > len(alone)
        case "order":
            # Each vowel sign of these words is drawn before a letter that it follows in writing.
            places = [alone.index(glyph) for glyph in glyphs if glyph in alone]
            assert places != sorted(places)
        case "forms":
            assert len(glyphs) == len(alone)
            assert glyphs != alone
        case "marks":
            assert moved


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("Ethiopic", "አማርኛ"),
        ("Batak", "ᯅᯖᯂ᯲"),
        ("Cherokee", "ᏣᎳᎩ"),
        ("SylotiNagri", "ꠍꠤꠟꠐꠤ"),
        ("TaiLe", "ᥖᥭᥰ"),
        ("NewTaiLue", "ᦑᦺᦟᦹᧉ"),
        ("TaiViet", "ꪼꪕ"),
        ("OlChiki", "ᱥᱟᱱᱛᱟᱲᱤ"),
        ("Osage", "𐓏𐓘𐓻𐓘𐓻𐓟"),
        ("Vai", "ꕙꔤ"),
        ("Yi", "ꆈꌠ"),
    ],
)
def test_words_of_scripts_that_need_no_shaping(file: str, text: str) -> None:
    alone, glyphs, _ = shaped(f"NotoSans{file}-Regular.otf", text)
    assert 0 not in glyphs
    assert glyphs == alone


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("family", "👨‍👩‍👧‍👦"),
        ("couple with a heart", "👩‍❤️‍💋‍👨"),
        ("flag", "🇫🇷"),
        ("flag of tags", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
        ("flag by joiner", "🏳️‍🌈"),
        ("keycap", "1️⃣"),
        ("skin tone", "👍🏽"),
        ("skin tone and joiner", "👩🏿‍🚀"),
        ("two skin tones", "🫱🏻‍🫲🏿"),
        ("presentation selector", "❤️"),
    ],
)
def test_an_emoji_is_one_glyph(what: str, text: str) -> None:
    _, glyphs, _ = shaped(EMOJI, text)
    assert len(glyphs) == 1, what
    assert glyphs[0]


def test_symbols_mathematics_and_music_are_there() -> None:
    bundled = set().union(*coverage().values())
    for first, last in (
        (0x1D552, 0x1D56B),
        (0x1D400, 0x1D454),
        (0x1F780, 0x1F7D4),
        (0x1FA00, 0x1FA53),
        (0x1D100, 0x1D126),
        (0x2800, 0x28FF),
    ):
        assert set(range(first, last + 1)) <= bundled, hex(first)
    assert {ord(char) for char in "₽₿₺₹₴⁂⟦⟧⌘⏎␀①㉿"} <= bundled


def test_packages_are_named_for_what_is_not_bundled() -> None:
    entries = json.loads((FOLDER / "packages.json").read_text("utf-8"))
    for entry in entries:
        assert set(entry) == {"ranges", "script", "debian"}
        assert entry["debian"].startswith("fonts-")
        assert all(int(first, 16) <= int(last, 16) for first, last in entry["ranges"])

    def named(char: str) -> set[str]:
        return {entry["debian"] for entry in entries for first, last in entry["ranges"] if int(first, 16) <= ord(char) <= int(last, 16)}

    assert named("㐂") == {"fonts-noto-cjk"}
    assert named("𠀁") == {"fonts-hanazono"}
    assert named("𰀀") == {"fonts-babelstone-han"}
    assert named("𓀀") == named("𒀀") == named("ꡀ") == {"fonts-noto-core"}
    assert named("𞓐") == {"fonts-unifont"}


def test_the_table_of_the_builder_is_what_is_there() -> None:
    assert sorted(spec.file for spec in builder().TABLE) == FILES
    assert builder().ranges_of([0x20, 0x21, 0x22, 0xA0]) == "20-22 A0"


def test_the_builder_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = builder()
    package = build.PACKAGES["core"]
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    with pytest.raises(build.BuildError, match=r"apt-get is not installed.*by hand"):
        build.fetch(package, tmp_path)
    monkeypatch.setattr(build, "run", lambda *_: (tmp_path / f"{package.name}_1_all.deb").write_bytes(b"something else"))
    with pytest.raises(build.BuildError, match="SHA-256"):
        build.fetch(package, tmp_path)


def test_the_builder_refuses_what_is_too_much_or_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = builder()
    made, published = tmp_path / "made", tmp_path / "published"
    for folder in (made, published):
        folder.mkdir()
        (folder / "a.otf").write_bytes(b"same")
    monkeypatch.setattr(build, "FONTS", published)
    build.publish(made, check=True)
    (made / "a.otf").write_bytes(b"other")
    with pytest.raises(build.BuildError, match=r"differs.*a\.otf"):
        build.publish(made, check=True)
    build.publish(made, check=False)
    assert (published / "a.otf").read_bytes() == b"other"
    monkeypatch.setattr(build, "BUDGET", 4)
    with pytest.raises(build.BuildError, match="1 bytes too many"):
        build.publish(made, check=False)
