"""Pages kept in a folder by content, so that a text is drawn once. Knows no servers and no questions."""

from __future__ import annotations

from glyph_pipeline.pagestore.renderer import StoredRenderer
from glyph_pipeline.pagestore.store import DEFAULT_MAX_BYTES, PageStore, StorePlace

__all__ = ["DEFAULT_MAX_BYTES", "PageStore", "StorePlace", "StoredRenderer"]
