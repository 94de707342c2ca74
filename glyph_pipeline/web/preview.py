"""Preview: a document drawn as the page's controls say, with its account, for looking at and for taking away. Knows no web."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from glyph_pipeline.compression import CompressedText, compress
from glyph_pipeline.document import Document
from glyph_pipeline.errors import ConfigError
from glyph_pipeline.page import page_facts
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.tokens.text import TextTokenizer
from glyph_pipeline.tokens.vision import GLM_4V, VisionArithmetic

_N = TypeVar("_N", int, float)

AUTO = "auto"
"""The preset that the text decides."""

MARKS = {"as in the preset": None, "line break": "<br/>", "red \\n": '<font color="#FF0000"> \\n </font>'}
"""What the page offers for newline-markup, by its label."""


@dataclass(frozen=True, slots=True)
class Controls:
    """What is chosen on the page; None or an empty font leaves the preset's value. ``font_size`` in pt, ``mark`` a key of MARKS."""

    preset: str = AUTO
    font: str = ""
    dpi: int | None = None
    font_size: float | None = None
    mark: str = next(iter(MARKS))

    def config_for(self, text: str) -> RenderConfig:
        """The configuration of a text. Raises ConfigError."""
        if self.mark not in MARKS:
            raise ConfigError(f"There is no line mark {self.mark!r}.", hint=f"Marks: {', '.join(MARKS)}.")
        chosen = {"font-path": self.font or None, "dpi": self.dpi, "font-size": self.font_size, "newline-markup": MARKS[self.mark]}
        changes: dict[str, object] = {key: value for key, value in chosen.items() if value is not None}
        if self.font_size is not None:
            changes["line-height"] = None  # a leading made for another size would squeeze or stretch this one
        return RenderConfig.for_texts([text], changes) if self.preset == AUTO else RenderConfig.resolve(self.preset).replace(**changes)


def number(name: str, written: str | None, kind: Callable[[str], _N]) -> _N | None:
    """What is written in a box, None if nothing is. Raises ConfigError, which calls the box ``name``."""
    if not written or not written.strip():
        return None
    try:
        return kind(written.strip())
    except ValueError:
        raise ConfigError(f"{name} is {written.strip()!r}, which is no number.", hint="Leave it empty for the preset's.") from None


@dataclass(frozen=True, slots=True)
class Preview:
    """A document, how it is drawn, and what came of it."""

    document: Document
    config: RenderConfig
    compressed: CompressedText

    @classmethod
    def draw(
        cls, document: Document, controls: Controls, tokenizer: TextTokenizer | None = None, vision: VisionArithmetic = GLM_4V
    ) -> Preview:
        """Draw it. Raises EmptyDocumentError, ConfigError, FontError."""
        config = controls.config_for(document.text)
        return cls(document, config, compress(document, config, tokenizer=tokenizer, vision=vision))

    @property
    def saves(self) -> bool:
        """Whether the pages cost fewer tokens than the text."""
        return self.compressed.report.ratio > 1

    def archive(self) -> bytes:
        """A ZIP of the pages as ``page_0001.png`` and so on, and ``pages.json`` with report, configuration, offsets and checksums.

        The same preview gives the same bytes.
        """
        entries = []
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for page in self.compressed.pages:
                name = f"page_{page.number:04d}.png"
                archive.writestr(zipfile.ZipInfo(name), page.png)
                entries.append({"file": name, **page_facts(page)})
            archive.writestr(zipfile.ZipInfo("pages.json"), json.dumps({**self.account(), "pages": entries}, indent=2, ensure_ascii=False))
        return packed.getvalue()

    def account(self) -> dict[str, object]:
        """Report and configuration, as JSON."""
        return {"document": self.document.id, "report": self.compressed.report.to_dict(), "config": self.config.to_dict()}
