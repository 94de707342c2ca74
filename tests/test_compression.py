"""compress(): pages and an account whose every number can be made again."""

from __future__ import annotations

import json

import pytest

from glyph_pipeline import Document, RenderConfig, compress, render
from glyph_pipeline.errors import EmptyDocumentError
from glyph_pipeline.tokens.vision import VisionArithmetic

TEXT = "The bell of Marrow Quay was cast in 1702 and cracked in 1816.\n" * 150


class CharacterTokenizer:
    name = "characters"

    def count(self, text: str) -> int:
        return len(text)


def test_the_numbers_of_a_report() -> None:
    compressed = compress(TEXT)
    report = compressed.report
    assert compressed.pages == tuple(render(TEXT))
    assert report.pages == len(compressed.pages) == 2
    assert report.vision_tokens == sum(page.vision_tokens for page in compressed.pages)
    assert (report.tokenizer, report.text_tokens) == ("cl100k_base (tiktoken)", 150 * 20)
    assert report.ratio == report.text_tokens / report.vision_tokens
    assert report.image_bytes == sum(len(page.png) for page in compressed.pages)
    assert (report.documents, report.characters, report.missing, report.removed) == (1, len(TEXT), {}, 0)
    (font,) = report.fonts
    assert (font.file, font.stand_in, len(font.sha256)) == ("DejaVuSans.ttf", False, 64)
    assert json.loads(json.dumps(report.to_dict()))["ratio"] == round(report.ratio, 4)


def test_several_documents_another_tokenizer_another_processor() -> None:
    small = VisionArithmetic(family="small", longest_edge=100_000)
    documents = [Document(TEXT, id="a"), Document("More.", id="b")]
    report = compress(documents, RenderConfig.preset("en").replace(dpi=96), tokenizer=CharacterTokenizer(), vision=small).report
    assert (report.documents, report.pages, report.family, report.tokenizer) == (2, 3, "small", "characters")
    assert report.text_tokens == report.characters == len(TEXT) + 5
    assert report.vision_tokens < 3 * 64


def test_what_is_drawn_otherwise_is_counted() -> None:
    report = compress("a\u00adb\u200bc \U0001f525\U0001f525 \u4e2d\n" * 2).report
    assert report.removed == 4
    assert report.missing == {"U+4E2D": 2, "U+1F525": 4}


def test_nothing_to_draw() -> None:
    with pytest.raises(EmptyDocumentError):
        compress("\n\n")
