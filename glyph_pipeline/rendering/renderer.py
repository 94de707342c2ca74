"""Renderer: a document in, a lazy stream of Page objects out. Ties the room together; knows no tokens and no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from glyph_pipeline.document import Document, require_text
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.chain import FontChain
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.layout import PageLayout, column_edges, lay_out, line_texts
from glyph_pipeline.rendering.png import encode_png
from glyph_pipeline.rendering.raster import Rasteriser
from glyph_pipeline.report import FontUse

# Pages drawn together: enough places of each bitmap for one blit to pay, 8 MB of canvas at the default size.
PAGES_PER_BATCH = 16
_BATCH_PIXELS = 16_000_000


class Renderer:
    """Draws documents with one configuration; keeps the fonts, the glyph bitmaps and the account of losses.

    Raises FontError if the configured font can't be used.
    """

    def __init__(self, config: RenderConfig | None = None) -> None:
        self.config = config or RenderConfig.preset("en")
        self.chain = FontChain(self.config.font, self.config.system_fonts)
        self.losses = Losses()
        self._raster = Rasteriser(self.config, self.chain)

    @property
    def fonts(self) -> tuple[FontUse, ...]:
        """The font files that have drawn, the configured one first."""
        return self.chain.uses

    def render(self, document: str | Document, title: str | None = None, only: frozenset[int] | None = None) -> Iterator[Page]:
        """The document's pages, drawn a batch at a time as they are asked for. Raises EmptyDocumentError at once.

        ``title`` is a line drawn above the text; offsets stay those of the text, in which it is not. ``only``: the pages with these
        numbers; the others are laid out and left out.
        """
        if isinstance(document, str):
            document = Document(document)
        require_text(document)
        return self._pages(document, only) if title is None else self._titled(document, title, only)

    def _titled(self, document: Document, title: str, only: frozenset[int] | None) -> Iterator[Page]:
        above = f"{title}\n"
        for page in self._pages(replace(document, text=above + document.text), only):
            yield replace(page, start=max(0, page.start - len(above)), end=max(0, page.end - len(above)))

    def _pages(self, document: Document, only: frozenset[int] | None) -> Iterator[Page]:
        layouts = lay_out(document.text, self.config, self.chain, self.losses)
        size = max(1, min(PAGES_PER_BATCH, _BATCH_PIXELS // (self._raster.width * self._raster.height)))
        # The first page alone: whoever waits for it should not wait for fifteen more.
        batch, following = list(islice(layouts, 1)), list(islice(layouts, size))
        while batch:
            last = batch[-1] if not following else None
            wanted = batch if only is None else [layout for layout in batch if layout.number in only]
            if wanted:
                yield from self._draw(wanted, last, document.id or None)
            batch, following = following, list(islice(layouts, size))

    def _draw(self, batch: list[PageLayout], last: PageLayout | None, document: str | None) -> Iterator[Page]:
        for layout, pixels in zip(batch, self._raster.draw(batch), strict=True):
            cropped = self._raster.crop(pixels, last=layout is last)
            height, width = cropped.shape[:2]
            edges = column_edges(self.config, width)
            yield Page(layout.number, width, height, encode_png(cropped), layout.start, layout.end, line_texts(layout), document, edges)


def render(text: str | Document, config: RenderConfig | None = None) -> Iterator[Page]:
    """Draw a text: a lazy iterator of :class:`~glyph_pipeline.page.Page`.

    ``config`` is the preset for the text unless given (see RenderConfig.for_texts). Raises EmptyDocumentError and FontError at once, before the first page.
    """
    if config is None:
        config = RenderConfig.for_texts([text if isinstance(text, str) else text.text])
    return Renderer(config).render(text)
