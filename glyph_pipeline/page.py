"""Page: one drawn page as a value. Knows no fonts, no layout, no network."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glyph_pipeline.tokens.vision import GLM_4V

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Page:
    """One page image and the piece of source text that is drawn on it.

    ``number`` counts from 1 within its document. ``width`` and ``height`` are in pixels. ``png`` holds the encoded
    image. ``text[start:end]`` is the source of the page, in characters; the pages of a document tile its source with
    no gap. ``lines`` are the visual lines, top to bottom, as drawn. ``document`` is the id of the document it belongs to.
    ``columns`` are the left and right edges (px) of its columns of text, where it has several; none, and it has one.
    """

    number: int
    width: int
    height: int
    png: bytes
    start: int
    end: int
    lines: tuple[str, ...]
    document: str | None = None
    columns: tuple[tuple[int, int], ...] = ()

    @property
    def vision_tokens(self) -> int:
        """Tokens that GLM-4.1V's image processor makes of this page, without the two that mark its begin and end."""
        return GLM_4V.tokens(self.width, self.height)

    def to_image(self) -> Image.Image:
        """The page as a loaded PIL image, mode ``L`` (grey inks) or ``RGB``."""
        from PIL import Image

        image = Image.open(io.BytesIO(self.png))
        image.load()
        return image


def page_facts(page: Page) -> dict[str, Any]:
    """What ``pages.json`` tells of a page whose picture lies beside it."""
    return {
        "number": page.number,
        "width": page.width,
        "height": page.height,
        "start": page.start,
        "end": page.end,
        "vision_tokens": page.vision_tokens,
        "sha256": hashlib.sha256(page.png).hexdigest(),
    }
