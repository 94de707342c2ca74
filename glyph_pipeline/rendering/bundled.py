"""Bundled fonts: the files that ship with the package, their families and characters, in the order they are asked. Draws nothing."""

from __future__ import annotations

import json
from functools import lru_cache

from glyph_pipeline.rendering.faces import Face
from glyph_pipeline.resources import resource_dir

EMOJI = "NotoEmoji-Regular.otf"


@lru_cache(maxsize=1)
def bundled_faces() -> tuple[Face, ...]:
    """What scripts/build_fonts.py wrote down of each font (fonts/coverage.json), so that none has to be opened to be passed over."""
    folder = resource_dir("fonts")
    table = json.loads((folder / "coverage.json").read_text("utf-8"))
    return tuple(Face(folder / name, 0, entry["family"], "Regular", tuple(_ranges(entry["ranges"]))) for name, entry in table.items())


def _ranges(written: str) -> list[int]:
    """ "20-7E A0" as flat (first, last, first, last)."""
    flat: list[int] = []
    for piece in written.split():
        first, _, last = piece.partition("-")
        flat += [int(first, 16), int(last or first, 16)]
    return flat
