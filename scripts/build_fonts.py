#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.10"
# dependencies = ["fonttools==4.68.0", "cffsubr==0.4.0"]
# ///
"""Builds fonts/ out of Debian and npm packages: fetch, check, subset, write. Knows nothing of the package and nothing of its renderer.

Usage: ``uv run scripts/build_fonts.py [--check] [--cache DIR]``. uv installs the two tools named above; without uv, any Python that has
them in these versions will do. apt-get, dpkg-deb and npm fetch the packages. ``--check`` rebuilds into a temporary folder and compares.
The same packages give the same bytes.

What is done to a font: 12 MB is what a wheel may carry, and in them as many of the world's letters as possible must be drawable. Glyphs
are drawn unhinted, so hinting goes. TrueType outlines become CFF outlines that are less than 2/1000 em off (0.02 px at 9 px) and
take two thirds of the room; CFF outlines stay what they are and are only packed anew. Advances and the tables that shape a script stay.
"""

from __future__ import annotations

import argparse
import bz2
import hashlib
import importlib.metadata
import io
import json
import re
import shutil
import string
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby, islice, product
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
FONTS = ROOT / "fonts"
BUDGET = 12_000_000
TOOLS = {"fonttools": "4.68.0", "cffsubr": "0.4.0"}
# The one file in fonts/ that is written by hand.
BY_HAND = "packages.json"

Ranges = tuple[tuple[int, int], ...]
# Letters that a text font draws, never the font of another script.
LATIN: Ranges = ((0x41, 0x5A), (0x61, 0x7A), (0xAA, 0xAA), (0xBA, 0xBA), (0xC0, 0xD6), (0xD8, 0xF6), (0xF8, 0x24F))
# In every subset: the blanks without which the renderer takes no font, the joiners shaping asks for, the circle under a lone mark.
ALWAYS: Ranges = ((0x20, 0x20), (0xA0, 0xA0), (0x200C, 0x200D), (0x25CC, 0x25CC))
# A mark and the letter below it have to come from one font.
BASES: Ranges = ((0x20, 0x7E), (0xA0, 0x17F), (0x300, 0x36F), (0x400, 0x45F))
EXTENSION_A: Ranges = ((0x3400, 0x4DBF),)
# Copyright, family, style, version, PostScript name, licence, typographic family.
NAMES = (0, 1, 2, 3, 4, 5, 6, 13, 14, 16, 17)
NOT_NEEDED = ("BASE", "DSIG", "FFTM", "JSTF", "LTSH", "MATH", "STAT", "VDMX", "VORG", "gasp", "hdmx", "meta", "prop", "vhea", "vmtx")
# What a supplement of single letters and marks needs; small capitals and the like would bring glyphs that nothing asks for.
MARKS = ("ccmp", "locl", "mark", "mkmk")


class BuildError(Exception):
    """Why the fonts can't be built, and what to do about it."""


class Package(NamedTuple):
    """A package of a registry (Debian or npm), by exact version, and the SHA-256 of its file."""

    manager: str
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class BundledFont:
    """One file in fonts/: where it comes from and what is kept of it.

    ``keep`` and ``drop``: ranges of code points that stay or go whatever else is said. ``lacking``: otherwise only what no font above it in
    the table has; such a part of a font is called a supplement, so that nobody takes it for the whole. ``common_han``: of CJK Extension A
    only what :data:`COMMON_HAN` knows. ``features``: layout features that stay.
    """

    file: str
    what: str
    package: str
    member: str
    face: int = -1
    keep: Ranges = ()
    drop: Ranges = ()
    lacking: bool = False
    common_han: bool = False
    features: tuple[str, ...] = ("*",)
    unchanged: bool = False
    licence: str = "LICENSE-Noto.txt"


PACKAGES = {
    "dejavu": Package("npm", "dejavu-fonts-ttf", "2.37.3", "b7013ac58f9225250619db82cfb72e99c37ca8195f2b5a06a9e6a95bc5e1c84a"),
    "emoji": Package("npm", "@expo-google-fonts/noto-emoji", "0.4.7", "6a25fd5a4da5bb34bbc2d300531bbf32de86afd866e119314d7e358f61a6104d"),
    "cjk": Package("Debian", "fonts-noto-cjk", "1:20220127+repack1-1", "4a2515eb6db3978b897fef9709ed0d2b1f4c6c4df4d83d6c4ef65f71f1b1f502"),
    "core": Package("Debian", "fonts-noto-core", "20201225-1", "58f4f0bb6720f919f92096b3508e1412a0f1544424ade6c5b5bf1eb694dd64ba"),
    "unicode": Package("Debian", "unicode-data", "15.0.0-1", "5efef23bbb1c6a133ecbdd63a2cfa07159ccacf5466a49e2426101c5ecd691fc"),
}
OPEN_FONT_LICENCE = ("emoji", "package/LICENSE_FONT")
DEJAVU_LICENCE = ("dejavu", "package/LICENSE")
# Characters in use somewhere: the table of standard Chinese characters, the minimal sets of Unicode, Hong Kong's and Japan's character
# sets, Korean names, Vietnamese readings, a dictionary of modern Chinese. The rest of Extension A is found in old books and dictionaries.
COMMON_HAN = ("kTGH", "kIICore", "kUnihanCore2020", "kHKSCS", "kJIS0213", "kKoreanName", "kVietnamese", "kXHC1983")
UNIHAN_FILES = "DictionaryIndices DictionaryLikeData IRGSources OtherMappings Readings"
UNIHAN = tuple(("unicode", f"./usr/share/unicode/Unihan_{name}.txt.bz2") for name in UNIHAN_FILES.split())


def dejavu(name: str, what: str) -> BundledFont:
    """A font that stays as it is."""
    return BundledFont(f"{name}.ttf", what, "dejavu", f"package/ttf/{name}.ttf", unchanged=True, licence="LICENSE-DejaVu.txt")


def noto(name: str, what: str, drop: Ranges = LATIN, **options: Any) -> BundledFont:
    """The regular face of a font from fonts-noto-core."""
    member = f"./usr/share/fonts/truetype/noto/Noto{name}-Regular.ttf"
    return BundledFont(f"Noto{name}{'Supplement' * options.get('lacking', 0)}-Regular.otf", what, "core", member, drop=drop, **options)


def scripts(style: str, names: str) -> Iterable[BundledFont]:
    """Whole fonts, each named after its script."""
    return (noto(style + name, spaced(name)) for name in names.split())


def supplement(name: str, **options: Any) -> BundledFont:
    """What the fonts above lack of a script or of symbols."""
    return noto(name, f"{spaced(name.removeprefix('Sans'))} that the fonts above lack", lacking=True, **options)


def spaced(name: str) -> str:
    """TaiLe is Tai Le."""
    return re.sub("(?<=[a-z])(?=[A-Z])", " ", name)


# In the order in which a character is looked for; `lacking` depends on it.
TABLE: tuple[BundledFont, ...] = (
    dejavu("DejaVuSans", "Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian, symbols: DejaVu Sans 2.37, unchanged"),
    dejavu("DejaVuSansMono", "the same with one width: DejaVu Sans Mono 2.37, unchanged"),
    BundledFont(
        "NotoSansMonoCJKsc-Regular.otf",
        "Chinese, Japanese, Korean (of Extension A what is in use): Noto Sans Mono CJK SC 2.004, the glyphs of Source Han Sans HW SC",
        "cjk",
        "./usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
        face=7,
        common_han=True,
        features=("ljmo", "vjmo", "tjmo", "ccmp"),
    ),
    # The scripts of Unicode Standard Annex 31, table 5, and then of table 7.
    *scripts("Sans", "Devanagari Bengali Gurmukhi Gujarati Oriya Tamil Telugu Kannada Malayalam Sinhala Thai Lao Khmer Myanmar"),
    *scripts("Sans", "Thaana Hebrew Arabic"),
    *scripts("Serif", "Tibetan"),
    # Without its kerning of letter pairs, which is most of the file.
    noto("SansEthiopic", "Ethiopic", features=("calt", "mark", "mkmk")),
    *scripts("Sans", "Adlam Balinese Batak Chakma Cham Cherokee HanifiRohingya Javanese KayahLi Lepcha Limbu Mandaic MeeteiMayek Miao"),
    *scripts("Sans", "NKo Newa NewTaiLue OlChiki Osage Saurashtra Sundanese SylotiNagri Syriac TaiLe TaiTham TaiViet Vai Wancho Yi"),
    noto("SansBamum", "Bamum, without its historic stages", drop=(*LATIN, (0x16800, 0x16A3F))),
    noto("SerifNyiakengPuachueHmong", "Nyiakeng Puachue Hmong"),
    # Other scripts with users.
    *scripts("Sans", "BassaVah Buginese Buhid GunjalaGondi Hanunoo MasaramGondi MendeKikakui Mongolian Mro PahawhHmong Rejang Samaritan"),
    *scripts("Sans", "SoraSompeng Tagalog Tagbanwa WarangCiti"),
    *scripts("Serif", "Ahom Yezidi"),
    noto("Sans", "Latin, Cyrillic, marks and currency signs that DejaVu Sans lacks", (), lacking=True, keep=BASES, features=MARKS),
    *(supplement(f"Sans{name}") for name in ("Armenian", "Georgian", "Tifinagh", "CanadianAboriginal")),
    BundledFont("NotoEmoji-Regular.otf", "Emoji in one colour: Noto Emoji 3.006", "emoji", "package/400Regular/NotoEmoji_400Regular.ttf"),
    *(supplement(name, drop=()) for name in ("SansSymbols2", "SansMath", "SansSymbols", "Music")),
    # Historic scripts that are quoted, as far as the budget goes.
    *scripts("Sans", "Coptic Deseret Glagolitic Gothic OldPersian OldTurkic Osmanya Phoenician Runic Shavian Ugaritic"),
)


def fetch(package: Package, cache: Path) -> Path:
    """The package's file, from the cache or else from its registry; raises BuildError unless it is the one that is named above."""
    name, version = package.name, package.version
    if package.manager == "Debian":
        wanted, command = f"{name}_*.deb", ["apt-get", "download", f"{name}={version}"]
    else:
        wanted, command = f"{name.lstrip('@').replace('/', '-')}-{version}.tgz", ["npm", "pack", f"{name}@{version}"]
    for attempt in range(2):
        for path in sorted(cache.glob(wanted)):
            if hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256:
                return path
        if attempt == 0:
            print(f"fetching {name} {version}", file=sys.stderr)
            run(command, cache, f"Run `apt-get update` if apt does not know it, or put the file {wanted} into {cache} by hand.")
    raise BuildError(
        f"No {wanted} in {cache} has the SHA-256 of {name} {version} ({package.sha256}): another version, or not the same file."
    )


def run(command: list[str], folder: Path, hint: str) -> bytes:
    """What the command prints; a command that is missing or fails is a BuildError."""
    if shutil.which(command[0]) is None:
        raise BuildError(f"{command[0]} is not installed, so `{' '.join(command)}` can't be run. {hint}")
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if done.returncode:
        raise BuildError(f"`{' '.join(command)}` failed: {done.stderr.decode(errors='replace').strip()[-500:]} {hint}")
    return done.stdout


def read_members(package: Package, names: Collection[str], cache: Path) -> dict[str, bytes]:
    """The named files out of a package. Raises BuildError if one is missing."""
    path = fetch(package, cache)
    data = (
        run(["dpkg-deb", "--fsys-tarfile", str(path)], cache, "It comes with dpkg.") if package.manager == "Debian" else path.read_bytes()
    )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {item.name: archive.extractfile(item).read() for item in archive if item.name in names}  # type: ignore[union-attr]
    if missing := sorted(set(names) - set(found)):
        raise BuildError(f"{path.name} has no {missing[0]}.")
    return found


def common_han(files: Iterable[bytes]) -> set[int]:
    """The characters that have one of the Unihan properties :data:`COMMON_HAN`."""
    lines = (line.split(None, 2) for file in files for line in bz2.decompress(file).decode("utf-8").splitlines())
    return {int(fields[0][2:], 16) for fields in lines if len(fields) == 3 and fields[1] in COMMON_HAN}


def in_ranges(codepoint: int, ranges: Ranges) -> bool:
    """Whether a code point is in one of the ranges."""
    return any(first <= codepoint <= last for first, last in ranges)


def subset(spec: BundledFont, data: bytes, have: Collection[int], common: Collection[int]) -> bytes:
    """The font that the table asks for. ``have``: the code points of the fonts above it; ``common``: those that :data:`COMMON_HAN` knows."""
    import cffsubr
    from fontTools import subset as subsetter

    def kept(code: int) -> bool:
        if in_ranges(code, ALWAYS + spec.keep):
            return True
        dropped = in_ranges(code, spec.drop) or (spec.lacking and code in have)
        return not (dropped or (spec.common_han and in_ranges(code, EXTENSION_A) and code not in common))

    font = open_font(data, spec.face)
    options = subsetter.Options(hinting=False, layout_features=list(spec.features), layout_scripts=["*"], name_IDs=list(NAMES))
    options.notdef_outline, options.glyph_names = True, False
    options.drop_tables += NOT_NEEDED
    worker = subsetter.Subsetter(options)
    worker.populate(unicodes=[code for code in font.getBestCmap() if kept(code)])
    worker.subset(font)
    if spec.lacking:
        for record in font["name"].names:
            if record.nameID in (1, 4, 6, 16):
                family = str(record)
                record.string = family.replace("-", "Supplement-") if record.nameID == 6 else family.replace(" Regular", "") + " Supplement"
    if "glyf" in font:
        font = to_cff(font)
    return saved(cffsubr.subroutinize(font))


def open_font(data: bytes, face: int = -1) -> Any:
    """A font that is written as it was read: no new time stamp, and tables packed by fontTools alone, whatever else is installed."""
    from fontTools.ttLib import TTFont

    packing = {"fontTools.ttLib.tables.otBase:USE_HARFBUZZ_REPACKER": False}
    return TTFont(io.BytesIO(data), fontNumber=face, recalcTimestamp=False, cfg=packing)


def saved(font: Any) -> bytes:
    """The bytes of a font."""
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()


def to_cff(font: Any) -> Any:
    """The font with CFF outlines instead of TrueType ones. Off by 1/1000 em and what rounding adds: less than 2/1000."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.qu2cuPen import Qu2CuPen
    from fontTools.pens.recordingPen import DecomposingRecordingPen
    from fontTools.pens.t2CharStringPen import T2CharStringPen

    font = open_font(saved(font))
    # CFF stores a name for each glyph: two letters will do.
    names = map("".join, product(string.ascii_letters + string.digits, repeat=2))
    font.setGlyphOrder([".notdef", *islice(names, font["maxp"].numGlyphs - 1)])
    glyphs, outlines = font.getGlyphSet(), {}
    for name in font.getGlyphOrder():
        recorder = DecomposingRecordingPen(glyphs)
        glyphs[name].draw(recorder)
        pen = T2CharStringPen(font["hmtx"][name][0], glyphs)
        recorder.replay(Qu2CuPen(pen, font["head"].unitsPerEm / 1000, all_cubic=True))
        outlines[name] = pen.getCharString()
    for tag in ("glyf", "loca", "cvt ", "fpgm", "prep"):
        if tag in font:
            del font[tag]
    font["maxp"].tableVersion = 0x5000
    FontBuilder(font=font).setupCFF(font["name"].getDebugName(6), {}, outlines, {})
    return font


def build(folder: Path, cache: Path) -> None:
    """Writes everything into ``folder`` and prints for each font file, glyphs, code points, bytes. Raises BuildError."""
    wanted: dict[str, set[str]] = defaultdict(set)
    for package, member in (OPEN_FONT_LICENCE, DEJAVU_LICENCE, *UNIHAN, *((spec.package, spec.member) for spec in TABLE)):
        wanted[package].add(member)
    found = {key: read_members(PACKAGES[key], members, cache) for key, members in wanted.items()}
    common = common_han(found[package][member] for package, member in UNIHAN)
    have: set[int] = set()
    coverage, copyrights = {}, []
    for spec in TABLE:
        data = found[spec.package][spec.member]
        data = data if spec.unchanged else subset(spec, data, have, common)
        (folder / spec.file).write_bytes(data)
        font = open_font(data)
        codes = sorted(font.getBestCmap())
        have.update(codes)
        coverage[spec.file] = {"family": font["name"].getDebugName(1), "ranges": ranges_of(codes)}
        if not spec.unchanged:
            copyrights.append(f"{spec.file}: {font['name'].getDebugName(0)}")
        print(f"{spec.file:<48} {font['maxp'].numGlyphs:>6,} {len(codes):>6,} {len(data):>10,}", flush=True)
    notice = found[OPEN_FONT_LICENCE[0]][OPEN_FONT_LICENCE[1]].decode("utf-8").replace("\r\n", "\n")
    (folder / "LICENSE-Noto.txt").write_text("\n".join(sorted(copyrights)) + "\n\n" + notice[notice.index("This Font Software") :], "utf-8")
    (folder / "LICENSE-DejaVu.txt").write_bytes(found[DEJAVU_LICENCE[0]][DEJAVU_LICENCE[1]])
    sums = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(spec.file for spec in TABLE))
    (folder / "SHA256SUMS").write_text("".join(sums), "utf-8")
    lines = (f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in coverage.items())
    (folder / "coverage.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    origins = {key: f"{package.manager} package `{package.name}` {package.version}" for key, package in PACKAGES.items()}
    table = "\n".join(f"| {spec.file} | {spec.what} | {origins[spec.package]} | {spec.licence} |" for spec in TABLE)
    (folder / "README.md").write_text(README.format(table=table, han=", ".join(COMMON_HAN)), "utf-8")


def ranges_of(codes: Collection[int]) -> str:
    """Sorted code points as ranges in hex: ``20-7E A0``."""
    runs = (list(group) for _, group in groupby(enumerate(codes), lambda pair: pair[1] - pair[0]))
    return " ".join(f"{run[0][1]:X}-{run[-1][1]:X}" if len(run) > 1 else f"{run[0][1]:X}" for run in runs)


README = """# Bundled fonts

Made by `scripts/build_fonts.py`; don't edit by hand. In the order in which a character is looked for:

| file | what | from | licence |
|---|---|---|---|
{table}

`SHA256SUMS` holds their checksums; a test and `glyph-compress doctor` compare them. `coverage.json` lists the characters of each file.
`packages.json`, the only file here that is not made by that script, names for each script the Debian 12 package that has the characters
which are not bundled, or most of them.

All but DejaVu are subsets without hinting. Fonts that came with TrueType outlines have CFF outlines here, less than 2/1000 em off.
Advances and layout tables are those of the originals. A "Supplement" holds only what the fonts above it lack. Of CJK Extension A
those characters are kept that have one of these Unihan properties (Debian package `unicode-data`): {han}.

Verdana, which Glyph's English pages were drawn with, may not be distributed: DejaVu Sans stands in for it wherever it is not installed,
and every report says so.
"""


def publish(made: Path, check: bool) -> None:
    """Puts what was built into fonts/, or only compares. Raises BuildError if it is too much, or if it differs where it should not."""
    if (FONTS / BY_HAND).is_file():
        shutil.copy(FONTS / BY_HAND, made)
    total = sum(path.stat().st_size for path in made.iterdir())
    print(f"{len(TABLE)} fonts; {total:,} bytes of {BUDGET:,} with licences and tables")
    if total > BUDGET:
        raise BuildError(f"{total - BUDGET:,} bytes too many: take something out of the table.")
    old, new = ({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} for folder in (FONTS, made))
    differing = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    if check and differing:
        raise BuildError(f"fonts/ differs from what the table makes: {', '.join(differing)}. Run scripts/build_fonts.py.")
    for name in differing:
        if name in new:
            (FONTS / name).write_bytes(new[name])
        else:
            (FONTS / name).unlink()
    print(f"{len(differing)} files changed" if differing else "fonts/ is what the table makes")


def main() -> int:
    """Builds or checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(". ")[0])
    parser.add_argument("--check", action="store_true", help="rebuild into a temporary folder and compare")
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache" / "fonts", help="where fetched packages lie (default: .cache/fonts)")
    options = parser.parse_args()
    installed = {item.metadata["Name"].lower(): item.version for item in importlib.metadata.distributions()}
    try:
        for name, version in TOOLS.items():
            if installed.get(name) != version:
                raise BuildError(f"{name} {version} is needed, not {installed.get(name, 'none')}. Run `uv run scripts/build_fonts.py`.")
        options.cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            build(Path(scratch), options.cache.resolve())
            publish(Path(scratch), options.check)
    except BuildError as e:
        print(f"build_fonts: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
