"""The public names: exactly these, and cheap to import."""

from __future__ import annotations

import subprocess
import sys

import glyph_pipeline


def test_the_curated_names() -> None:
    assert glyph_pipeline.__all__ == [
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
    for name in glyph_pipeline.__all__:
        assert getattr(glyph_pipeline, name).__name__ == name
        assert getattr(glyph_pipeline, name).__doc__
    assert set(glyph_pipeline.__all__) <= set(dir(glyph_pipeline))


def test_importing_costs_nothing_and_drawing_loads_no_server_code() -> None:
    code = """
import sys, glyph_pipeline
heavy = {"numpy", "openai", "httpx", "pydantic", "tiktoken", "PIL", "rapidocr", "onnxruntime"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
next(glyph_pipeline.render("text"))
assert not {"openai", "httpx", "tiktoken", "rapidocr", "onnxruntime", "glyph_pipeline.serving"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
