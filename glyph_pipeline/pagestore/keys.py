"""Keys: what decides the bytes of a document's pages, as one hash. Draws nothing and knows no files of the store."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from glyph_pipeline.rendering import renderer, system_fonts
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import Font
from glyph_pipeline.rendering.png import encode_png
from glyph_pipeline.resources import resource_dir

# Categories of characters that are drawn one by one: of these no other font is asked while the configured one has them. The rest may
# join what stands before them or call for an emoji font (rendering/chain.py).
_SINGLE = frozenset({"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Zs"})
_WHITE = frozenset("\t\n\r")  # never looked up in a font
_LIBRARIES = ("fonttools", "isal", "numpy", "regex", "uharfbuzz")


def key_of(text: str, title: str | None, only: frozenset[int] | None, config: RenderConfig, font: Font) -> str:
    """The key (64 hex digits) of the pages that ``config`` with its ``font`` makes of a text: equal keys, equal pages.

    In it are the text, the line above it, the numbers of the pages if not all are drawn, every key of the configuration, the bytes of
    the font's file, the code that draws, and the libraries under it. The bundled fonts, and the installed ones where they may be used, are
    in it only for texts with a character that the configured font lacks: others are the same whatever is installed.
    """
    characters = set(text).union(title or "", config.newline_markup)
    # A configured font keeps its place in the chain, so what it has all of is drawn by it alone.
    others = None if _has_all(font, characters) else [_bundled(), _installed() if config.system_fonts else None]
    decisive = {
        "code": _code(),
        "config": config.model_dump(mode="json"),
        "font": [font.sha256, font.index, font.family, font.path.name, font.stand_in],
        "fonts": others,
        "only": None if only is None else sorted(only),
        "text": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        "title": title,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode("ascii")).hexdigest()


def _has_all(font: Font, characters: Iterable[str]) -> bool:
    return all(char in _WHITE or (unicodedata.category(char) in _SINGLE and font.glyph_id(ord(char))) for char in characters)


@lru_cache(maxsize=1)
def _code() -> str:
    """The renderer's version: its files, not the package's number, which stays while it is worked on."""
    import freetype

    digest = hashlib.sha256()
    for path in sorted(Path(renderer.__file__).parent.iterdir()):
        if path.suffix in (".py", ".pyc"):
            _add(digest, path.name.encode("utf-8"), path.read_bytes())
    libraries = {name: version(name) for name in _LIBRARIES}
    # FreeType takes properties of its drivers from the environment.
    settings = os.environ.get("FREETYPE_PROPERTIES", "")
    _add(digest, json.dumps([freetype.version(), libraries, unicodedata.unidata_version, settings]).encode("ascii"), _png_probe())
    return digest.hexdigest()


def _png_probe() -> bytes:
    """What this machine's deflate makes of some pixels: ISA-L's bytes depend on the kind of processor (see encode_png)."""
    import numpy as np

    noise = np.frombuffer(hashlib.shake_256(b"pixels").digest(1 << 12), np.uint8)
    return encode_png(np.where(noise > 200, noise, 255).astype(np.uint8).repeat(3).reshape(96, 128))


@lru_cache(maxsize=1)
def _bundled() -> str:
    digest = hashlib.sha256()
    for path in sorted(resource_dir("fonts").iterdir()):
        if path.is_file():
            _add(digest, path.name.encode("utf-8"), path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _installed() -> str:
    """Path, size and time of each installed font: what rendering/system_fonts.py itself goes by. Looked at once, as there."""
    digest = hashlib.sha256()
    for path in system_fonts.font_files():
        try:
            stat = path.stat()
        except OSError:
            continue
        _add(digest, str(path).encode("utf-8", "surrogateescape"), f"{stat.st_size} {stat.st_mtime_ns}".encode("ascii"))
    return digest.hexdigest()


def _add(digest: hashlib._Hash, *pieces: bytes) -> None:
    """Each with its length before it, so that no two lists of pieces give the same."""
    for piece in pieces:
        digest.update(len(piece).to_bytes(8, "big"))
        digest.update(piece)
