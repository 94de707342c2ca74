"""StoredRenderer: pages from a store, drawn where it has none. Knows nothing of the store's files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from glyph_pipeline.document import Document, require_text
from glyph_pipeline.page import Page
from glyph_pipeline.pagestore.entries import BrokenEntryError
from glyph_pipeline.pagestore.keys import key_of
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.fonts import find_font
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.report import FontUse

if TYPE_CHECKING:
    from glyph_pipeline.pagestore.store import PageStore


class StoredRenderer:
    """Stands where a Renderer does: the same pages, fonts and losses, drawn only if the store doesn't have them.

    A document is kept when its last page has been asked for. ``hits`` and ``misses`` count this renderer's documents as the store's do.
    Raises FontError if the configured font can't be used.
    """

    def __init__(self, store: PageStore, config: RenderConfig) -> None:
        self.config = config
        self.losses = Losses()
        self.hits = 0
        self.misses = 0
        self._store = store
        self._font = find_font(config.font, config.system_fonts)
        self._fonts = {self._font.use: None}

    @property
    def fonts(self) -> tuple[FontUse, ...]:
        """The font files that have drawn, the configured one first."""
        return tuple(self._fonts)

    def render(self, document: str | Document, title: str | None = None, only: frozenset[int] | None = None) -> Iterator[Page]:
        """The document's pages, read or drawn as they are asked for. As :meth:`Renderer.render`; raises OutputError besides."""
        if isinstance(document, str):
            document = Document(document)
        require_text(document)
        return self._pages(document, title, only)

    def _pages(self, document: Document, title: str | None, only: frozenset[int] | None) -> Iterator[Page]:
        key = key_of(document.text, title, only, self.config, self._font)
        given = 0
        entry = self._store.entry(key)
        if entry is not None:
            try:
                pages = entry.pages(document.id or None)
                while True:
                    try:
                        page = next(pages, None)
                    except BrokenEntryError:
                        break
                    if page is None:
                        self._account(entry.fonts, entry.losses, hit=True)
                        return
                    yield page
                    given += 1
            finally:
                entry.close()
        yield from self._drawn(document, title, only, key, given)

    def _drawn(self, document: Document, title: str | None, only: frozenset[int] | None, key: str, given: int) -> Iterator[Page]:
        """Draw and keep; the first ``given`` pages are out already."""
        # A new one for each document: one that has drawn others could not tell which fonts and losses are this document's.
        renderer = Renderer(self.config)
        draft = self._store.draft(key)
        try:
            for place, page in enumerate(renderer.render(document, title, only)):
                draft.add(page)
                if place >= given:
                    yield page
            draft.keep(renderer.fonts, renderer.losses)
        finally:
            draft.close()
            self._account(renderer.fonts, renderer.losses, hit=False)

    def _account(self, fonts: tuple[FontUse, ...], losses: Losses, *, hit: bool) -> None:
        self._fonts |= dict.fromkeys(fonts)
        self.losses.missing.update(losses.missing)
        self.losses.removed += losses.removed
        self.losses.invisible += losses.invisible
        self.hits += hit
        self.misses += not hit
        self._store.count(hit=hit)
