"""Prepares requests: a document as text or as pages in the body of a chat request, and the seconds that took. Sends nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from glyph_pipeline.document import Document
from glyph_pipeline.page import Page
from glyph_pipeline.reading.messages import build_message, page_urls
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.png import encode_png
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.text import Cl100kTokenizer, encodable
from glyph_pipeline.tokens.vision import VisionArithmetic

Side: TypeAlias = Literal["text", "pages"]
SIDES: tuple[Side, Side] = ("text", "pages")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request's body, the seconds of the stages before it is sent (draw, encode, message), and what is in it."""

    side: Side
    body: bytes
    seconds: Mapping[str, float]
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Preparer:
    """Makes requests to ``model`` that generate exactly ``max_tokens`` tokens.

    ``frame`` is the number of prompt tokens beside the pages, None where it can't be counted; ``page_folder`` is where pages go as files.
    """

    model: str
    question: str
    max_tokens: int
    config: RenderConfig
    vision: VisionArithmetic
    frame: int | None = None
    page_folder: Path | None = None

    def prepare(self, side: Side, document: Document, files: ExitStack) -> Prepared:
        """The request for ``document``; files that it names live as long as ``files``. Raises FontError, OutputError."""
        facts: dict[str, Any] = {"text_tokens": Cl100kTokenizer().count(document.text)}
        seconds = {"draw": 0.0, "encode": 0.0}
        pages: list[Page] = []
        question = self.question if side == "pages" else self.text_message(document)
        if side == "pages":
            pages, seconds = draw(document, self.config)
            tokens = [self.vision.tokens(page.width, page.height) for page in pages]
            facts |= {"pages": len(pages), "vision_tokens": sum(tokens), "image_bytes": sum(len(page.png) for page in pages)}
            if self.frame is not None:
                facts["predicted"] = self.frame + sum(tokens) + self.vision.markers * len(pages)
        began = time.perf_counter()
        body = self._body(files.enter_context(page_urls(pages, self.page_folder)), question)
        seconds["message"] = time.perf_counter() - began
        return Prepared(side, body, seconds, facts | {"body_bytes": len(body)})

    def text_message(self, document: Document) -> str:
        """What stands in the message where the document is sent as text."""
        return f"{encodable(document.text)}\n\n{self.question}"

    def _body(self, urls: list[str], question: str) -> bytes:
        body = {
            "model": self.model,
            "messages": [build_message(urls, question)],
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
            # vLLM's: the end of an answer does not end it, so that both sides generate as much. No stop ids: they would.
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def draw(document: Document, config: RenderConfig) -> tuple[list[Page], dict[str, float]]:
    """The pages of a document, and the seconds of drawing and of PNG encoding, which together are what drawing the pages took.

    Encoding is timed on its own, once more on the same pixels, and taken off. Raises FontError.
    """
    began = time.perf_counter()
    pages = list(Renderer(config).render(document))
    whole = time.perf_counter() - began
    encode = 0.0
    for page in pages:
        pixels = np.asarray(page.to_image())
        began = time.perf_counter()
        encode_png(pixels)
        encode += time.perf_counter() - began
    encode = min(encode, whole)
    return pages, {"draw": whole - encode, "encode": encode}
