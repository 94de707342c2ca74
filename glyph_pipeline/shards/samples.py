"""Sample: one page of a document as a training set has it, and the text forms of its parts. Knows no file format."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from glyph_pipeline.page import Page

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Origin:
    """The document that samples come from. ``id`` is its item's, ``pages`` the number of its pages, ``config`` the official JSON."""

    id: str
    document: str
    text: str
    pages: int
    config: Mapping[str, Any]
    metadata: Mapping[str, object]

    @cached_property
    def config_json(self) -> str:
        """``config`` as one line of JSON."""
        return to_json(self.config)

    @cached_property
    def metadata_json(self) -> str:
        """``metadata`` as one line of JSON."""
        return to_json(self.metadata)


@dataclass(frozen=True, slots=True)
class Sample:
    """A page and its origin. ``key`` names it in its set: shard, document and page, without a dot."""

    key: str
    origin: Origin
    page: Page

    @property
    def text(self) -> str:
        """The piece of the document that is drawn on the page: ``end - start`` characters, each of which has UTF-8."""
        return encodable(self.origin.text[self.page.start : self.page.end])

    def facts(self) -> dict[str, Any]:
        """What is told of the page besides its picture and its text, as plain JSON types."""
        page, origin = self.page, self.origin
        columns = {"columns": [list(edges) for edges in page.columns]} if page.columns else {}
        return {
            "id": origin.id,
            "document": origin.document,
            "page": page.number,
            "pages": origin.pages,
            "start": page.start,
            "end": page.end,
            "width": page.width,
            "height": page.height,
            "vision_tokens": page.vision_tokens,
            "dpi": origin.config["dpi"],
            "lines": list(page.lines),
            **columns,
            "config": dict(origin.config),
            "metadata": dict(origin.metadata),
        }


def sample_key(shard: int, document: int, page: int) -> str:
    """``000012-000034-00005``. The webdataset library takes what is behind a name's first dot for the kind of the file."""
    return f"{shard:06d}-{document:06d}-{page:05d}"


def encodable(text: str) -> str:
    """The text with every surrogate, which has no UTF-8, as U+FFFD: as many characters as before, so that offsets stay true."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def to_json(data: object, indent: int | None = None) -> str:
    """JSON that has UTF-8: a lone surrogate is an escape. What JSON has no form for (a date out of a table) is its text."""
    text = json.dumps(data, ensure_ascii=False, indent=indent, allow_nan=False, default=str)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
