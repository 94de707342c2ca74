"""A process that draws shards: tasks come in on standard input. Knows no plan and no other worker."""

from __future__ import annotations

from glyph_pipeline.batch.messages import serve
from glyph_pipeline.shards.work import perform


def main() -> None:
    """Do what comes until standard input ends."""
    serve(perform)
