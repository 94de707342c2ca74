"""Visual-text compression: long text in, dense page images out, an answer and an honest account back.

Names are imported when they are first used, so that ``import glyph_pipeline`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from glyph_pipeline.version import __version__ as __version__

if TYPE_CHECKING:
    from glyph_pipeline.compression import CompressedText, compress
    from glyph_pipeline.document import Document
    from glyph_pipeline.errors import GlyphError
    from glyph_pipeline.page import Page
    from glyph_pipeline.pipeline import Answer, GlyphPipeline
    from glyph_pipeline.rendering.config import RenderConfig
    from glyph_pipeline.rendering.renderer import render
    from glyph_pipeline.report import CompressionReport
    from glyph_pipeline.serving import GlyphServer

__all__ = [
    "Answer",
    "CompressedText",
    "CompressionReport",
    "Document",
    "GlyphError",
    "GlyphPipeline",
    "GlyphServer",
    "Page",
    "RenderConfig",
    "compress",
    "render",
]

_HOME = {
    "Answer": "pipeline",
    "CompressedText": "compression",
    "CompressionReport": "report",
    "Document": "document",
    "GlyphError": "errors",
    "GlyphPipeline": "pipeline",
    "GlyphServer": "serving",
    "Page": "page",
    "RenderConfig": "rendering.config",
    "compress": "compression",
    "render": "rendering.renderer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
