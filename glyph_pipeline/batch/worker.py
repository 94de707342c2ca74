"""A process that draws: items come in on standard input, pages go out on standard output. Asks nobody, writes to no folder but the page store.

Run as a program of its own (see processes.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from glyph_pipeline.batch.items import BatchItem, DocumentFile
from glyph_pipeline.batch.messages import serve
from glyph_pipeline.compression import CompressedText, account
from glyph_pipeline.document import Document, as_documents
from glyph_pipeline.material import Source
from glyph_pipeline.pagestore import StoredRenderer, StorePlace
from glyph_pipeline.prompts import title_of
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.text import Cl100kTokenizer, TextTokenizer
from glyph_pipeline.tokens.vision import VisionArithmetic

_FONT_KEYS = ("font", "font-path", "font_path")


@dataclass(frozen=True, slots=True)
class DrawTask:
    """Documents to draw. ``config``: or else the changes to the preset that its texts get. Without ``count`` the counting of
    text tokens is left to the caller. ``store``: where pages are kept, None to draw all."""

    id: str
    documents: tuple[Document | DocumentFile | Path, ...]
    encoding: str | None
    config: RenderConfig | Mapping[str, Any]
    vision: VisionArithmetic
    count: bool
    store: StorePlace | None = None

    @classmethod
    def of(
        cls,
        item: BatchItem,
        config: RenderConfig | Mapping[str, Any],
        vision: VisionArithmetic,
        count: bool,
        store: StorePlace | None = None,
    ) -> DrawTask:
        """What of an item is needed to draw it: metadata of the user's own kinds would not get through the pipe, and need not."""
        documents = tuple(document if isinstance(document, Path) else _bare(document) for document in item.documents)
        return cls(item.id, documents, item.encoding, config, vision, count, store)


def _bare(document: Document | DocumentFile) -> Document | DocumentFile:
    title = document.metadata.get("title")
    return replace(document, metadata={"title": title} if isinstance(title, str) else {})


@dataclass(frozen=True, slots=True)
class DrawnItem:
    """The pages of an item and their report, its documents, and the configuration that drew them. ``seconds`` is the time that loading
    and drawing took, ``drawn_before`` how many of its documents the store had."""

    compressed: CompressedText
    sources: tuple[Source, ...]
    config: RenderConfig
    seconds: float
    drawn_before: int = 0


def draw(task: DrawTask) -> DrawnItem:
    """Load and draw an item. Raises InputError, ConfigError, FontError, OutputError."""
    began = time.monotonic()
    documents = as_documents(BatchItem(task.id, "", task.documents, task.encoding).load())
    config = config_for(documents, task.config)
    renderer = Renderer(config) if task.store is None else task.store.open().renderer(config)
    sources = tuple(Source(document, title_of(document, documents)) for document in documents)
    pages = [page for source in sources for page in renderer.render(source.document, source.title)]
    tokenizer: TextTokenizer = Cl100kTokenizer() if task.count else _NotCounted()
    report = account(documents, tuple(pages), renderer, tokenizer, task.vision)
    before = renderer.hits if isinstance(renderer, StoredRenderer) else 0
    return DrawnItem(CompressedText(tuple(pages), report), sources, config, time.monotonic() - began, before)


def config_for(documents: Sequence[Document], config: RenderConfig | Mapping[str, Any]) -> RenderConfig:
    """The configuration, or the preset for the documents' texts with these changes."""
    return config if isinstance(config, RenderConfig) else RenderConfig.for_texts((document.text for document in documents), config)


def with_absolute_font(config: RenderConfig | Mapping[str, Any]) -> RenderConfig | Mapping[str, Any]:
    """The same, with the path of a font file absolute: the working folder is another one on other machines, or in a later run."""
    if isinstance(config, RenderConfig):
        return config.replace(font=absolute_file(config.font))
    return {key: absolute_file(value) if key in _FONT_KEYS and isinstance(value, str) else value for key, value in config.items()}


def absolute_file(name: str) -> str:
    """The name of a file as an absolute path, or the name as it is, if no file is called so here."""
    try:
        path = Path(name).expanduser()
        return str(path.absolute()) if path.is_file() else name
    except (OSError, RuntimeError, ValueError):
        return name  # whoever opens it says what is wrong


class _NotCounted:
    name = ""

    def count(self, text: str) -> int:
        return 0


def accounted(drawn: DrawnItem, tokenizer: TextTokenizer | None, vision: VisionArithmetic) -> CompressedText:
    """The drawn item with its vision tokens by ``vision``, which may not have been known where it was drawn, and its text tokens as
    ``tokenizer`` counts them; None leaves those as they are. Blocks if that asks a server."""
    pages, report = drawn.compressed.pages, drawn.compressed.report
    tokens = sum(vision.tokens(page.width, page.height) for page in pages)
    report = replace(report, vision_tokens=tokens, family=vision.family)
    if tokenizer is not None:
        text_tokens = sum(tokenizer.count(source.document.text) for source in drawn.sources)
        report = replace(report, text_tokens=text_tokens, tokenizer=tokenizer.name)
    return CompressedText(pages, report)


def main() -> None:
    """Draw what comes until standard input ends."""
    serve(draw)
