"""Fonts: one font file through FreeType: its characters, advances and names; finding one by path, file name or family. Draws nothing."""

from __future__ import annotations

import difflib
import hashlib
import threading
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glyph_pipeline.errors import FontError
from glyph_pipeline.rendering import system_fonts
from glyph_pipeline.rendering.bundled import bundled_faces
from glyph_pipeline.rendering.faces import SUFFIXES, Face
from glyph_pipeline.report import FontUse
from glyph_pipeline.resources import resource_dir

if TYPE_CHECKING:
    import freetype

# Verdana is the font of Glyph's English training pages; its licence forbids bundling it. DejaVu Sans descends from
# Bitstream Vera, which was drawn to Verdana's proportions.
STAND_INS = {"verdana": "DejaVuSans.ttf"}

# FreeType's library object is shared by all faces, and making or ending a face changes it.
_LIBRARY = threading.RLock()
_SPACE, _NO_BREAK_SPACE = 0x20, 0xA0


class Font:
    """One face of a font file; see :func:`find_font`. Raises FontError if it can't be used.

    Not for two threads at a time: FreeType caches in the face.
    """

    def __init__(self, path: Path, requested: str | None = None, stand_in: bool = False, index: int = 0) -> None:
        self.path = path
        self.index = index
        self.stand_in = stand_in
        self.requested = requested or str(path)
        self._face = face = open_face(path, index)
        if not face.is_scalable:
            raise FontError(f"The font {str(path)!r} has no outlines, only bitmaps.", hint="Choose an outline font with --font.")
        if not any(charmap.encoding_name == "FT_ENCODING_UNICODE" for charmap in face.charmaps):
            raise FontError(f"The font {str(path)!r} has no Unicode character map.", hint="Choose another font with --font.")
        if not (self._gid(_SPACE) or self._gid(_NO_BREAK_SPACE)):
            raise FontError(f"The font {str(path)!r} has no space.", hint="Choose a text font with --font.")
        self.family = (face.family_name or b"").decode("utf-8", "replace") or path.stem
        self.units_per_em = int(face.units_per_EM)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the font file, in hex."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def use(self) -> FontUse:
        """What the report says of this font."""
        return FontUse(requested=self.requested, family=self.family, file=self.path.name, sha256=self.sha256, stand_in=self.stand_in)

    def glyph_id(self, codepoint: int) -> int:
        """Glyph id of a code point; 0 if the font has none. As in ReportLab, space and no-break space stand in for each other."""
        if codepoint in (_NO_BREAK_SPACE, _SPACE):
            return self._gid(codepoint) or self._gid(_SPACE + _NO_BREAK_SPACE - codepoint)
        return self._gid(codepoint)

    def advance(self, glyph_id: int) -> int:
        """Unhinted advance of a glyph in font units (1/units_per_em em)."""
        return int(self._face.get_advance(glyph_id, 1))  # 1: FT_LOAD_NO_SCALE

    @cached_property
    def harfbuzz(self) -> Any:
        """The ``uharfbuzz.Font`` of this face, at units_per_em to the em."""
        import uharfbuzz

        return uharfbuzz.Font(uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(self.path)), self.index))

    def _gid(self, codepoint: int) -> int:
        return int(self._face.get_char_index(codepoint))


def open_face(path: Path, index: int = 0) -> freetype.Face:
    """A FreeType face of its own; what is wrong with the file is a FontError."""
    import freetype

    class OwnFace(freetype.Face):  # type: ignore[misc]
        def __del__(self) -> None:
            with _LIBRARY:
                super().__del__()

    try:
        with _LIBRARY:
            return OwnFace(str(path), index)
    except (freetype.FT_Exception, OSError, ValueError) as e:
        raise FontError(f"{str(path)!r} is not a usable font: {e or type(e).__name__}.", hint="Give a TrueType or OpenType file.") from e


def find_font(name_or_path: str, installed: bool = True) -> Font:
    """The font of that path, file name (``DejaVuSans.ttf``) or family (``DejaVu Sans``).

    Looked up as a path, then among the bundled fonts, then among the ``installed`` ones; Verdana, which may not be
    bundled, is replaced by DejaVu Sans where it is not installed. Raises FontError naming what there is.
    """
    path, index, stand_in = _find_file(name_or_path, installed)
    return Font(path, name_or_path, stand_in, index)


@lru_cache(maxsize=64)
def _find_file(name_or_path: str, installed: bool) -> tuple[Path, int, bool]:
    """(path, face, stands in) of a font."""
    try:
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path, 0, False
    except (OSError, RuntimeError, ValueError) as e:
        raise FontError(f"The font path {name_or_path!r} can't be used: {e}.", hint="Give a font file, or the name of a font.") from e
    stem = _plain(path.stem if path.suffix.lower() in SUFFIXES else path.name)
    # A path with folders means that very file. Verdana's is the exception: official configurations carry its path.
    if len(path.parts) == 1 or stem in STAND_INS:
        for face in () if stem in STAND_INS else bundled_faces():
            if stem in (_plain(face.path.stem), _plain(face.path.stem.removesuffix("-Regular")), _plain(face.family)):
                return face.path, 0, False
        match = _installed(stem) if installed else None
        if match is not None:
            return match.path, match.index, False
        if stem in STAND_INS:
            return resource_dir("fonts") / STAND_INS[stem], 0, True
    names = {face.path.stem for face in bundled_faces()}
    if installed:
        names |= {p.stem for p in system_fonts.font_files()}
    close = difflib.get_close_matches(path.stem, sorted(names), n=3)
    raise FontError(
        f"There is no font {name_or_path!r}: no such file, and neither a bundled nor an installed font has that name.",
        hint=f"Did you mean {' or '.join(map(repr, close))}?"
        if close
        else f"Bundled: {', '.join(face.path.stem for face in bundled_faces()[:3])} and more (glyph-compress fonts). Or give a path.",
    )


def _installed(plain: str) -> Face | None:
    """The installed face whose file has that name, else the regular face of that family."""
    for path in system_fonts.font_files():
        if _plain(path.stem) == plain:
            return Face(path, 0, "", "", ())
    if plain in STAND_INS:
        return None  # its file has its name everywhere; a first page should not wait for a look into every font
    family = [face for face in system_fonts.faces() if _plain(face.family) == plain]
    return min(family, key=lambda face: (not face.regular, face.style, face.path, face.index)) if family else None


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())
