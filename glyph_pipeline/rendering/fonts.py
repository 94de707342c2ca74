"""Fonts: finding a font by path, file name or family, and its character map and advances. Draws nothing."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import os
import struct
import sys
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from glyph_pipeline.errors import FontError
from glyph_pipeline.report import FontUse
from glyph_pipeline.resources import resource_dir

if TYPE_CHECKING:
    from fontTools.ttLib import TTFont

FONT_SUFFIXES = frozenset({".ttf", ".otf", ".ttc", ".otc"})

# Verdana is the font of Glyph's English training pages; its licence forbids bundling it. DejaVu Sans descends from
# Bitstream Vera, which was drawn to Verdana's proportions.
STAND_INS = {"verdana": "DejaVuSans.ttf"}

_SPACE, _NO_BREAK_SPACE, _NEWLINE = 0x20, 0xA0, 0x0A
_UNICODE_SIZE = 0x110000


class Font:
    """One font file: character map, advances and names; see :func:`find_font`. Raises FontError if it can't be used."""

    def __init__(self, path: Path, requested: str | None = None, stand_in: bool = False) -> None:
        self.path = path
        self.stand_in = stand_in
        self.requested = requested or str(path)
        with _opened(path) as tables:
            self._read(tables)

    def _read(self, tables: TTFont) -> None:
        path = self.path
        cmap = tables.getBestCmap()
        if not cmap:
            raise FontError(f"The font {str(path)!r} has no Unicode character map.", hint="Choose another font with --font.")
        if not ("glyf" in tables or "CFF " in tables or "CFF2" in tables):
            raise FontError(f"The font {str(path)!r} has no outlines, only bitmaps.", hint="Choose an outline font with --font.")
        self.family = _family(tables) or path.stem
        self.units_per_em = int(tables["head"].unitsPerEm)
        order = {name: gid for gid, name in enumerate(tables.getGlyphOrder())}
        metrics = tables["hmtx"].metrics
        advances = np.zeros(len(order), np.int64)
        for name, gid in order.items():
            advances[gid] = metrics[name][0]
        # Zeroed lazily by the system: only the pages of scripts that occur are ever touched.
        gids = np.zeros(_UNICODE_SIZE, np.uint16)
        gids[np.fromiter(cmap.keys(), np.int64)] = np.fromiter((order[name] for name in cmap.values()), np.uint16)
        if gids[_SPACE] == 0 and gids[_NO_BREAK_SPACE] == 0:
            raise FontError(f"The font {str(path)!r} has no space.", hint="Choose a text font with --font.")
        # As ReportLab does: space and no-break space stand in for each other.
        gids[_SPACE] = gids[_SPACE] or gids[_NO_BREAK_SPACE]
        gids[_NO_BREAK_SPACE] = gids[_NO_BREAK_SPACE] or gids[_SPACE]
        self.has = gids != 0
        gids[_NEWLINE] = gids[_SPACE]
        self._gids, self._advances = gids, advances

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the font file, in hex."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def use(self) -> FontUse:
        """What the report says of this font."""
        return FontUse(requested=self.requested, family=self.family, file=self.path.name, sha256=self.sha256, stand_in=self.stand_in)

    def glyph_ids(self, codepoints: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint16]:
        """Glyph id of each code point, shape (n,); 0 where the font has none, a blank for a line feed."""
        return self._gids[codepoints]

    def advances(self, glyph_ids: npt.NDArray[np.uint16]) -> npt.NDArray[np.int64]:
        """Unhinted advance of each glyph in font units (1/units_per_em em), shape (n,)."""
        return self._advances[glyph_ids]


def find_font(name_or_path: str) -> Font:
    """The font of that path, file name (``DejaVuSans.ttf``) or family (``DejaVu Sans``).

    Looked up as a path, then among the bundled fonts, then among the installed ones; Verdana, which may not be
    bundled, is replaced by DejaVu Sans where it is not installed. Raises FontError naming what there is.
    """
    return _find_font(name_or_path)


@lru_cache(maxsize=16)
def _find_font(name_or_path: str) -> Font:
    try:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return Font(path, name_or_path)
    except (OSError, RuntimeError, ValueError) as e:
        raise FontError(f"The font path {name_or_path!r} can't be used: {e}.", hint="Give a font file, or the name of a font.") from e
    stem = _plain(path.stem if path.suffix.lower() in FONT_SUFFIXES else path.name)
    # A path with folders means that very file. Verdana's is the exception: official configurations carry its path.
    if len(path.parts) == 1 or stem in STAND_INS:
        bundled = [*bundled_fonts()]
        for found in (_match(bundled, stem), _match([*system_fonts()], stem)):
            if found:
                return Font(found, name_or_path)
        if stem in STAND_INS:
            return Font(resource_dir("fonts") / STAND_INS[stem], name_or_path, stand_in=True)
    names = sorted({p.stem for p in (*bundled_fonts(), *system_fonts())})
    close = difflib.get_close_matches(path.stem, names, n=3)
    raise FontError(
        f"There is no font {name_or_path!r}: no such file, and neither a bundled nor an installed font has that name.",
        hint=f"Did you mean {' or '.join(map(repr, close))}?"
        if close
        else f"Bundled: {', '.join(p.stem for p in bundled_fonts())}. Or give a path.",
    )


def bundled_fonts() -> Iterator[Path]:
    """Font files that ship with the package, in name order."""
    return (path for path in sorted(resource_dir("fonts").iterdir()) if path.suffix.lower() in FONT_SUFFIXES)


@lru_cache(maxsize=1)
def system_fonts() -> tuple[Path, ...]:
    """Font files installed on this machine, in path order."""
    home = Path.home()
    if sys.platform == "darwin":
        roots = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    elif sys.platform == "win32":
        roots = [Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts", home / "AppData/Local/Microsoft/Windows/Fonts"]
    else:
        shared = os.environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":")
        roots = [home / ".fonts", home / ".local/share/fonts", *(Path(folder) / "fonts" for folder in shared if folder)]
    return tuple(sorted(path for root in roots if root.is_dir() for path in root.rglob("*") if path.suffix.lower() in FONT_SUFFIXES))


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _match(paths: list[Path], plain: str) -> Path | None:
    """The path whose file name is meant, else the regular face of the family that is meant."""
    for path in paths:
        if _plain(path.stem) == plain:
            return path
    family = []
    for path in paths:
        # A broken font somewhere on the machine is no reason to fail.
        with contextlib.suppress(FontError), _opened(path) as tables:
            if _plain(_family(tables) or "") == plain:
                style = str(tables["name"].getDebugName(2) or "")
                family.append((style not in {"Regular", "Book", "Roman", "Normal"}, style, path))
    return min(family)[2] if family else None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[TTFont]:
    """The font's tables; whatever is wrong with the file or a table of it is a FontError."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with path.open("rb") as file:
            yield TTFont(file, lazy=True, fontNumber=0)
    except (TTLibError, OSError, KeyError, IndexError, ValueError, AssertionError, EOFError, ImportError, struct.error) as e:
        raise FontError(f"{str(path)!r} is not a usable font: {e or type(e).__name__}.", hint="Give a TrueType or OpenType file.") from e


def _family(tables: Any) -> str | None:
    names = tables["name"] if "name" in tables else None
    # 16 is the typographic family, 1 the one that counts bold and italic as separate where there are more than four.
    return str(names.getDebugName(16) or names.getDebugName(1) or "") or None if names is not None else None
