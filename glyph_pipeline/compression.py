"""compress(): documents in, pages and the account of what they save out. Knows no model server."""

from __future__ import annotations

from dataclasses import dataclass

from glyph_pipeline.document import Document, Documents, as_documents
from glyph_pipeline.page import Page
from glyph_pipeline.pagestore import PageStore, StoredRenderer
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.packages import packages_with
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.report import CompressionReport
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic


@dataclass(frozen=True, slots=True)
class CompressedText:
    """The pages of one or more documents, in order, and their report."""

    pages: tuple[Page, ...]
    report: CompressionReport


def compress(
    source: Documents,
    config: RenderConfig | None = None,
    *,
    tokenizer: TextTokenizer | None = None,
    vision: VisionArithmetic = GLM_4V,
    store: PageStore | None = None,
) -> CompressedText:
    """Draw a text, a Document or several, and count both sides.

    ``config`` is the preset for the texts unless given (see RenderConfig.for_texts), ``tokenizer`` cl100k_base, ``vision`` GLM-4.1V's arithmetic.
    With ``store`` only documents are drawn whose pages it doesn't have. Raises EmptyDocumentError, ConfigError, FontError, OutputError.
    """
    documents = as_documents(source)
    config = config or RenderConfig.for_texts(document.text for document in documents)
    renderer = Renderer(config) if store is None else store.renderer(config)
    pages = tuple(page for document in documents for page in renderer.render(document))
    return CompressedText(pages, account(documents, pages, renderer, tokenizer or Cl100kTokenizer(), vision))


def account(
    documents: list[Document],
    pages: tuple[Page, ...],
    renderer: Renderer | StoredRenderer,
    tokenizer: TextTokenizer,
    vision: VisionArithmetic,
) -> CompressionReport:
    """The report of ``pages``, which ``renderer`` drew of ``documents``."""
    missing = sorted(renderer.losses.missing.items())
    return CompressionReport(
        text_tokens=sum(tokenizer.count(document.text) for document in documents),
        tokenizer=tokenizer.name,
        vision_tokens=sum(vision.tokens(page.width, page.height) for page in pages),
        family=vision.family,
        pages=len(pages),
        documents=len(documents),
        characters=sum(len(document.text) for document in documents),
        image_bytes=sum(len(page.png) for page in pages),
        fonts=renderer.fonts,
        missing={f"U+{ord(char):04X}": count for char, count in missing},
        removed=renderer.losses.removed,
        invisible=renderer.losses.invisible,
        # Where installed fonts are left out, installing one would change nothing.
        packages=packages_with(renderer.losses.missing) if renderer.config.system_fonts else (),
    )
