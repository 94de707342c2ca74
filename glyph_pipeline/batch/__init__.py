"""A batch: many questions about many documents, and their answers on disk, safe at every moment. Knows no command line."""

from __future__ import annotations

from glyph_pipeline.batch.items import BadItem, BatchItem, DocumentFile, Items, read_items
from glyph_pipeline.batch.parts import PartStore
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.results import open_results, places_of
from glyph_pipeline.batch.store import ResultStore, files_of
from glyph_pipeline.batch.units import InlineUnit, Unit, units_of

__all__ = [
    "BadItem",
    "BatchItem",
    "BatchResult",
    "DocumentFile",
    "InlineUnit",
    "Items",
    "PartStore",
    "ResultStore",
    "Unit",
    "files_of",
    "open_results",
    "places_of",
    "read_items",
    "units_of",
]
