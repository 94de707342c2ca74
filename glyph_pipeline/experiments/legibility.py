"""Legibility: how much of a page OCR reads back as it was drawn, seen as an image encoder would see it. Knows no grid.

It is a stand-in: what OCR can't read, a model may, and the other way round. Prose flatters, because a reader guesses words that it only
half sees; strings drawn by lot can't be guessed, so both are told apart.
"""

from __future__ import annotations

import io
import random
import string
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

from rapidfuzz.distance import Levenshtein

from glyph_pipeline.document import Document
from glyph_pipeline.page import Page
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.rendering.renderer import Renderer
from glyph_pipeline.tokens.vision import VisionArithmetic

# Of identifiers and numbers: what nobody can guess from what stands beside it.
_LETTERS = string.ascii_letters + string.digits
_SEED = 20_26
_RANDOM_CHARACTERS = 1200


MEASURES = ("text", "random")
"""What error rates are of: the document's own text, and strings drawn by lot."""


class Transcribe(Protocol):
    """Reads a page's lines, top to bottom, or those that ``choose`` picks when told how many there are: OCRReader.transcribe."""

    def __call__(self, page: Page, choose: Callable[[int], Collection[int]] | None = None) -> Sequence[str]:
        """The lines that were read."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is read of a document: ``pages`` of its pages, evenly spread, and of each ``lines`` lines, evenly spread (0: all)."""

    pages: int = 1
    lines: int = 40


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What came back: ``characters`` that were drawn in the lines read (white space folded), and ``errors``: the characters to insert,
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
    data = io.BytesIO()
    page.to_image().resize(size, Image.Resampling.BICUBIC).save(data, "PNG")
    scale = size[0] / page.width
    columns = tuple((round(left * scale), round(right * scale)) for left, right in page.columns)
    return replace(page, width=size[0], height=size[1], png=data.getvalue(), columns=columns)


def sample_pages(pages: Sequence[Page], count: int) -> list[Page]:
    """``count`` pages, evenly spread, the last one (which may be short) only if there are no others."""
    whole = list(pages[:-1] if len(pages) > 1 else pages)
    return [whole[place] for place in _spread(len(whole), count)]


def random_page(config: RenderConfig) -> Page:
    """One page of identifiers drawn by lot, the same every time."""
    chance = random.Random(_SEED)
    words = ["".join(chance.choices(_LETTERS, k=chance.randint(4, 12))) for _ in range(_RANDOM_CHARACTERS // 9)]
    return next(Renderer(config).render(" ".join(words)))


def text_read_back(
    document: Document, config: RenderConfig, sample: Sample, family: VisionArithmetic, transcribe: Transcribe
) -> dict[str, int]:
    """What comes back of a sample of the document: the fields of a ReadBack."""
    pages = sample_pages(list(Renderer(config).render(document)), sample.pages)
    return asdict(read_back(pages, family, transcribe, sample.lines))


def random_read_back(config: RenderConfig, family: VisionArithmetic, transcribe: Transcribe) -> dict[str, int]:
    """What comes back of the page of random strings, which is the same for every document: the fields of a ReadBack."""
    return asdict(read_back([random_page(config)], family, transcribe))


def rates(record: Mapping[str, Any]) -> dict[str, float]:
    """The error rates by MEASURES; of each the record has the fields of a ReadBack."""
    return {name: ReadBack(**record[name]).rate for name in MEASURES}


def read_back(pages: Sequence[Page], family: VisionArithmetic, transcribe: Transcribe, lines: int = 0) -> ReadBack:
    """What is read of ``lines`` lines (0: all) of each page, as ``family`` sees it. Raises MissingExtraError.

    A page of which not as many lines are found as were drawn (print too small to tell them apart) is read whole.
    """
    distance = Levenshtein.distance
    characters = errors = 0
    for page in pages:
        drawn = [line for line in page.lines if line.strip()]
        chosen: Collection[int] = range(len(drawn))

        def choose(found: int, drawn: Sequence[str] = drawn) -> Collection[int]:
            nonlocal chosen
            chosen = _spread(found, lines) if lines and found == len(drawn) else range(len(drawn))
            return chosen if found == len(drawn) else range(found)

        read = transcribe(as_seen(page, family), choose)
        expected = _folded([drawn[place] for place in chosen])
        characters += len(expected)
        errors += distance(expected, _folded(read))
    return ReadBack(len(pages), characters, errors)


def _spread(whole: int, count: int) -> list[int]:
    """``count`` places of ``whole``, from the first to the last, evenly spread; all if there are no more."""
    if whole <= count:
        return list(range(whole))
    return [round(index * (whole - 1) / max(1, count - 1)) for index in range(count)]


def _folded(lines: Sequence[str]) -> str:
    return " ".join(" ".join(lines).split())
