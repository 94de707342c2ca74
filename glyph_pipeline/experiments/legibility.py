"""Legibility: how much of a page OCR reads back as it was drawn, seen as an image encoder would see it. Knows no grid.

It is a stand-in: what OCR can't read, a model may, and the other way round. Prose flatters, because a reader guesses words that it only
half sees; strings drawn by lot can't be guessed, so both are told apart.
"""

from __future__ import annotations

import importlib
import io
import random
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from glyph_pipeline.document import Document
from glyph_pipeline.errors import MissingExtraError
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.vision import VisionArithmetic

# Of identifiers and numbers: what nobody can guess from what stands beside it.
_LETTERS = string.ascii_letters + string.digits
_SEED = 20_26
_RANDOM_CHARACTERS = 1200

Transcribe = Callable[[Page], Sequence[str]]


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What came back: ``characters`` that were drawn on the pages (white space folded), and ``errors``: the characters to insert,
    delete or replace in what was read to make it what was drawn (Levenshtein)."""

    pages: int
    characters: int
    errors: int

    @property
    def rate(self) -> float:
        """Errors for each character that was drawn; 0 is perfect, above 1 is possible."""
        return self.errors / self.characters if self.characters else 0.0


def as_seen(page: Page, family: VisionArithmetic) -> Page:
    """The page as the model's image processor hands it to the encoder: resampled (bicubic) to whole cells."""
    from PIL import Image

    size = family.resized(page.width, page.height)
    if size == (page.width, page.height):
        return page
    resampled = page.to_image().resize(size, Image.Resampling.BICUBIC)
    data = io.BytesIO()
    resampled.save(data, "PNG")
    return replace(page, width=size[0], height=size[1], png=data.getvalue())


def sample(pages: Sequence[Page], count: int) -> list[Page]:
    """``count`` pages, evenly spread, the last one (which may be short) only if there are no others."""
    whole = list(pages[:-1] if len(pages) > 1 else pages)
    if len(whole) <= count:
        return whole
    return [whole[round(index * (len(whole) - 1) / max(1, count - 1))] for index in range(count)]


def random_page(config: RenderConfig) -> Page:
    """One page of identifiers drawn by lot, the same every time."""
    chance = random.Random(_SEED)
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(4, 12))) for _ in range(_RANDOM_CHARACTERS // 9)]
    return next(Renderer(config).render(" ".join(words)))


def measured(document: Document, config: RenderConfig, count: int, family: VisionArithmetic, transcribe: Transcribe) -> dict[str, Any]:
    """``count`` pages of a document and one of random strings, drawn with ``config`` and read back: a record's fields."""
    prose = read_back(sample(list(Renderer(config).render(document)), count), family, transcribe)
    by_lot = read_back([random_page(config)], family, transcribe)
    return {"text": asdict(prose), "random": asdict(by_lot)}


def rates(record: Mapping[str, Any]) -> dict[str, float]:
    """The error rates of a record: of the document's own text, and of random strings."""
    return {name: ReadBack(**record[name]).rate for name in ("text", "random")}


def read_back(pages: Sequence[Page], family: VisionArithmetic, transcribe: Transcribe) -> ReadBack:
    """What ``transcribe`` (OCRReader.transcribe, say) reads of the pages as ``family`` sees them. Raises MissingExtraError."""
    distance = _levenshtein()
    characters = errors = 0
    for page in pages:
        drawn = _folded(page.lines)
        characters += len(drawn)
        errors += distance(drawn, _folded(transcribe(as_seen(page, family))))
    return ReadBack(len(pages), characters, errors)


def _folded(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())


def _levenshtein() -> Callable[[str, str], int]:
    try:
        module: Any = importlib.import_module("rapidfuzz.distance.Levenshtein")
    except ImportError as error:
        raise MissingExtraError("Measuring legibility", "experiments", package="rapidfuzz") from error
    distance: Callable[[str, str], int] = module.distance
    return distance
