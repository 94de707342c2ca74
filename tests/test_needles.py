"""Facts planted in a document of 30 pages are found where they are: the OCR reader quotes them, and the answer's source is their page."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from glyph_pipeline import Document, GlyphPipeline, Page, RenderConfig, render
from glyph_pipeline.reading.ocr import OCRReader

pytestmark = [pytest.mark.ocr, pytest.mark.timeout(900)]

CONFIG = RenderConfig.preset("en").replace(font="DejaVuSans.ttf", system_fonts=False, page_size="298,420")
PAGES = 30
HAY = [
    "the",
    "harbour",
    "lantern",
    "ships",
    "came",
    "slowly",
    "rivers",
    "ran",
    "unhurriedly",
    "past",
    "quiet",
    "villages",
    "when",
    "light",
    "failed",
    "somebody",
    "rang",
    "bell",
    "twice",
    "winter",
    "had",
    "begun",
    "roads",
    "were",
    "closed",
    "letters",
    "arrived",
    "late",
    "nobody",
    "minded",
    "much",
    "since",
    "bread",
    "was",
    "good",
    "and",
    "evenings",
    "long",
    "by",
    "the",
    "stove",
    "with",
    "old",
    "maps",
]
# What is planted on which page, and what is asked about it.
NEEDLES = {
    1: (
        "The keeper of the Skarrow lighthouse was called Odile Brandvold.",
        "What was the keeper of the Skarrow lighthouse called?",
        "Odile Brandvold",
    ),
    15: ("The ferry Petrel was sold for 4,812 crowns in Vestmark.", "For how many crowns was the ferry Petrel sold?", "4,812 crowns"),
    30: (
        "The telescope mirror had been ground from Bohemian glass.",
        "Which glass had the telescope mirror been ground from?",
        "Bohemian glass",
    ),
}


def paragraphs(seed: int) -> Iterator[str]:
    chance = random.Random(seed)
    while True:
        yield " ".join(chance.choices(HAY, k=chance.randint(20, 60))).capitalize() + "."


def document() -> tuple[Document, list[Page]]:
    """Paragraphs by lot; each needle stands in the middle of its page."""
    source, lines = paragraphs(seed=4), []
    while len(list(render("\n".join(lines) or "x", CONFIG))) < PAGES:
        lines += [next(source) for _ in range(8)]
    text = "\n".join(lines)
    for number, (fact, _, _) in NEEDLES.items():
        page = list(render(text, CONFIG))[number - 1]
        at = text.index("\n", (page.start + page.end) // 2) + 1 or page.start
        text = f"{text[:at]}{fact}\n{text[at:]}"
    pages = list(render(text, CONFIG))
    last = pages[PAGES - 1]
    text = text[: last.end]
    return Document(text, id="hay.txt"), list(render(text, CONFIG))


def test_needles_on_the_first_the_middle_and_the_last_page() -> None:
    hay, pages = document()
    assert len(pages) == PAGES
    with GlyphPipeline(reader=OCRReader(), config=CONFIG) as pipeline:
        for number, (fact, question, answer) in NEEDLES.items():
            page = pages[number - 1]
            assert fact in hay.text[page.start : page.end]
            found = pipeline.ask(hay, question)
            assert answer in found.quotes[0].text
            assert f"[page {number}]" in found.text.split("\n\n")[0]
            source = found.sources[0]
            assert (source.document, source.page) == ("hay.txt", number)
            assert fact in hay.text[source.start : source.end]
