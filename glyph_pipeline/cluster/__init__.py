"""Batches on a Ray cluster. Knows no command line; each machine draws and asks as a single one does."""

from __future__ import annotations

from glyph_pipeline.cluster.engine import ask_many
from glyph_pipeline.cluster.session import session
from glyph_pipeline.cluster.spec import AskSpec, Engines

__all__ = ["AskSpec", "Engines", "ask_many", "session"]
