"""Savings: what the proxy drew of one request, as a value, and how the client is told. Draws and counts nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

FIELD = "glyph_pipeline"


@dataclass(frozen=True, slots=True)
class Savings:
    """What pages stand for in one request. ``texts`` were drawn on ``pages``; ``text_tokens`` are those of the drawn texts by
    ``tokenizer``, ``vision_tokens`` those of their pages by ``family``'s arithmetic, with the two markers of each page."""

    texts: int = 0
    pages: int = 0
    text_tokens: int = 0
    vision_tokens: int = 0
    tokenizer: str = ""
    family: str = ""

    @property
    def ratio(self) -> float:
        """Text tokens for each vision token; 0 if nothing was drawn."""
        return self.text_tokens / self.vision_tokens if self.vision_tokens else 0.0

    def headers(self) -> dict[str, str]:
        """The X-Glyph headers of the response."""
        return {
            "x-glyph-pages": str(self.pages),
            "x-glyph-text-tokens": str(self.text_tokens),
            "x-glyph-vision-tokens": str(self.vision_tokens),
            "x-glyph-ratio": f"{self.ratio:.4f}",
        }

    def field(self) -> dict[str, Any]:
        """What stands in the response's JSON under FIELD."""
        return {
            "texts": self.texts,
            "pages": self.pages,
            "text_tokens": self.text_tokens,
            "tokenizer": self.tokenizer,
            "vision_tokens": self.vision_tokens,
            "family": self.family,
            "ratio": round(self.ratio, 4),
        }

    def spliced(self, document: bytes) -> bytes:
        """A JSON object with the field as its last; not one byte of the rest is changed. What is no object is returned as it is."""
        body = document.rstrip()
        if not (body.lstrip().startswith(b"{") and body.endswith(b"}")):
            return document
        inner = body[:-1].rstrip()
        comma = b"" if inner.endswith(b"{") else b","
        member = json.dumps({FIELD: self.field()}).encode()[1:-1]
        return inner + comma + member + b"}" + document[len(body) :]
