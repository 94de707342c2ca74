"""Where the files live that ship with the package: fonts/, configs/, the tokenizer's ranks. Knows only paths."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from glyph_pipeline.errors import GlyphError

_PACKAGE = Path(__file__).resolve().parent


@cache
def resource_dir(name: str) -> Path:
    """The folder ``fonts`` or ``configs``: inside the installed package (the wheel carries it), else beside it in a checkout.

    Raises GlyphError if neither is there, which means a broken installation.
    """
    for base in (_PACKAGE / "_resources", _PACKAGE.parent):
        path = base / name
        if path.is_dir():
            return path
    raise GlyphError(
        f"The folder {name!r} that ships with glyph-pipeline is missing beside {_PACKAGE}.",
        hint="Reinstall: pip install --force-reinstall glyph-pipeline",
    )
