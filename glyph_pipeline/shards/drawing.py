"""Drawing the documents of one item, page by page, onto a spool that holds them until all went well. Knows no shards and no formats."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from glyph_pipeline.batch.values import BatchItem
from glyph_pipeline.batch.worker import config_for
from glyph_pipeline.document import Document, as_documents
from glyph_pipeline.files import kept_aside
from glyph_pipeline.page import Page
from glyph_pipeline.pagestore import StoredRenderer, StorePlace
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.report import FontUse
from glyph_pipeline.shards.samples import Origin, to_json

# Bytes of pages held in memory; what is more goes to a temporary file.
_IN_MEMORY = 16_000_000


@dataclass(frozen=True, slots=True)
class SpooledDocument:
    """A document whose pages are on the spool: ``origin`` has their number. ``losses`` are what is drawn otherwise than it stands."""

    origin: Origin
    vision_tokens: int
    losses: Losses


class Drawer:
    """Draws items one after the other with one renderer for each configuration: making one takes as long as two pages."""

    def __init__(self, config: RenderConfig | Mapping[str, Any], store: StorePlace | None = None) -> None:
        self._config = config
        self._store = store
        self._renderers: dict[RenderConfig, Renderer | StoredRenderer] = {}

    def fonts(self) -> tuple[FontUse, ...]:
        """The font files that have drawn, in the order in which they were first needed."""
        return tuple(dict.fromkeys(font for renderer in self._renderers.values() for font in renderer.fonts))

    def draw(self, item: BatchItem, spool: Spool) -> list[SpooledDocument]:
        """Load an item and put the pages of all its documents on the spool. Raises InputError, ConfigError, FontError, OutputError."""
        documents = as_documents(item.load())
        config = config_for(documents, self._config)
        renderer = self._renderer(config)
        official = config.to_dict()
        return [self._drawn(item, document, renderer, official, spool) for document in documents]

    def _drawn(
        self, item: BatchItem, document: Document, renderer: Renderer | StoredRenderer, config: Mapping[str, Any], spool: Spool
    ) -> SpooledDocument:
        metadata = {**item.metadata, **document.metadata}
        to_json(metadata)  # what can't be written is found out before anything is
        renderer.losses = losses = Losses()  # of this document alone
        pages = vision_tokens = 0
        for page in renderer.render(document):
            spool.add(page)
            pages += 1
            vision_tokens += page.vision_tokens
        origin = Origin(item.id, document.id or item.id, document.text, pages, config, metadata)
        return SpooledDocument(origin, vision_tokens, losses)

    def _renderer(self, config: RenderConfig) -> Renderer | StoredRenderer:
        found = self._renderers.get(config)
        if found is None:
            found = Renderer(config) if self._store is None else self._store.open().renderer(config)
            self._renderers[config] = found
        return found


class Spool:
    """Pages in the order in which they came, in a temporary file. Raises OutputError if its disk is full."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, page: Page) -> None:
        """Put a page on it."""
        with kept_aside("The pages of a document", "the last is drawn"):
            pickle.dump(page, self._file, pickle.HIGHEST_PROTOCOL)

    def rewind(self) -> None:
        """Back to the first page, for :meth:`pages`."""
        with kept_aside("The pages of a document", "the last is drawn"):  # what was not yet written is now
            self._file.seek(0)

    def pages(self, number: int) -> Iterator[Page]:
        """The next pages."""
        for _ in range(number):
            page: Page = pickle.load(self._file)
            yield page

    def clear(self) -> None:
        """Take everything off."""
        with kept_aside("The pages of a document", "the last is drawn"):
            self._file.seek(0)
            self._file.truncate()


@contextmanager
def open_spool() -> Iterator[Spool]:
    """A spool that holds the first pages in memory; it goes away at the end."""
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        yield Spool(cast(IO[bytes], file))
