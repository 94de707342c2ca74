"""Packages: which Debian package has a font for a character. Knows no fonts' contents."""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import lru_cache

from glyph_pipeline.rendering.chain import drawable
from glyph_pipeline.resources import resource_dir


def packages_with(characters: Iterable[str]) -> tuple[str, ...]:
    """Debian packages whose fonts have these characters, in name order; nothing for those that no font could have.

    From fonts/packages.json: Unicode ranges, their script, the package. Without that file there is no advice.
    """
    codepoints = sorted({ord(char) for char in characters if _in_some_font(char)})
    within = ((bisect_left(codepoints, first), bisect_right(codepoints, last), package) for first, last, package in _table())
    return tuple(sorted({package for begin, end, package in within if begin < end}))


def _in_some_font(char: str) -> bool:
    """False for private use, too: no two fonts agree on it."""
    return drawable(ord(char)) and unicodedata.category(char) != "Co"


@lru_cache(maxsize=1)
def _table() -> tuple[tuple[int, int, str], ...]:
    """(first, last, package), code points, both ends included."""
    path = resource_dir("fonts") / "packages.json"
    if not path.is_file():
        return ()
    entries = json.loads(path.read_text("utf-8"))
    return tuple((int(first, 16), int(last, 16), entry["debian"]) for entry in entries for first, last in entry["ranges"])
