"""A batch: many questions about many documents, and their answers on disk, safe at every moment. Knows no command line."""

from __future__ import annotations

from glyph_pipeline.batch.items import BadItem, BatchItem, DocumentFile, Items, read_items
from glyph_pipeline.batch.result import BatchResult
from glyph_pipeline.batch.store import ResultStore, files_of

__all__ = ["BadItem", "BatchItem", "BatchResult", "DocumentFile", "Items", "ResultStore", "files_of", "read_items"]
