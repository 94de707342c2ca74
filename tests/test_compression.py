"""compress(): pages and an account whose every number can be made again."""

from __future__ import annotations

import json

import pytest

from glyph_pipeline import Document, GlyphPipeline, RenderConfig, compress, render
from glyph_pipeline.errors import EmptyDocumentError
from glyph_pipeline.pipeline import Drawn
from glyph_pipeline.rendering import packages, system_fonts
from glyph_pipeline.tokens.vision import VisionArithmetic
from tests.support.fake_openai import Fake, running, says

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
    # Verdana draws where it is installed; elsewhere DejaVu Sans does, and the report says so.
    assert (font.family, font.stand_in) in {("Verdana", False), ("DejaVu Sans", True)}
    assert (font.requested, len(font.sha256)) == ("Verdana", 64)
    assert json.loads(json.dumps(report.to_dict()))["ratio"] == round(report.ratio, 4)


def test_several_documents_another_tokenizer_another_processor() -> None:
    small = VisionArithmetic(family="small", longest_edge=100_000)
    documents = [Document(TEXT, id="a"), Document("More.", id="b")]
    report = compress(documents, RenderConfig.preset("en").replace(dpi=96), tokenizer=CharacterTokenizer(), vision=small).report
    assert (report.documents, report.pages, report.family, report.tokenizer) == (2, 3, "small", "characters")
    assert report.text_tokens == report.characters == len(TEXT) + 5
    assert report.vision_tokens < 3 * 64


def test_what_is_drawn_otherwise_is_counted() -> None:
    report = compress("a\u00adb\u200bc \U000f0001\U000f0001 \ue123\n" * 2).report
    assert report.removed == 4
    assert report.missing == {"U+E123": 2, "U+F0001": 4}


def test_nothing_to_draw() -> None:
    with pytest.raises(EmptyDocumentError):
        compress("\n\n")


def test_characters_without_a_picture_are_counted() -> None:
    report = compress("a\u200eb\ufeffc\u2060 d").report
    assert (report.invisible, report.missing, report.removed) == (3, {}, 0)
    assert report.to_dict()["invisible"] == 3


def test_packages_that_have_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_fonts, "faces", lambda: ())  # no matter what is installed here
    monkeypatch.setattr(packages, "_table", lambda: ((0x41, 0x5A, "fonts-latin"), (0xE000, 0x107FF, "fonts-old")))
    text = "A \U00010600\ue123"  # Linear A, which is not bundled, and private use
    report = compress(text).report
    assert (report.missing, report.packages) == ({"U+10600": 1, "U+E123": 1}, ("fonts-old",))
    assert report.to_dict()["packages"] == ["fonts-old"]
    assert compress("A \ue123").report.packages == ()
    # What is installed would not be used.
    assert compress(text, RenderConfig.preset("en").replace(system_fonts=False)).report.packages == ()


CHINESE = "守灯人每天傍晚点亮油灯，清晨再把它熄灭。\n" * 20


def test_the_preset_is_chosen_by_the_text_when_none_is_given() -> None:
    zh, en = RenderConfig.preset("zh"), RenderConfig.preset("en")
    assert compress(CHINESE) == compress(CHINESE, zh)
    assert compress(CHINESE, en).report.fonts[0].requested == "Verdana"
    assert list(render(CHINESE)) == list(render(CHINESE, zh))
    assert compress([Document(TEXT, id="a"), Document(CHINESE[:40], id="b")]).report.fonts[0].requested == "Verdana"


def test_the_pipeline_chooses_for_each_question() -> None:
    with running(Fake(says([{"content": "Yes"}]))) as fake, GlyphPipeline(fake.base_url) as pipeline:
        drawn = [next(e for e in pipeline.stream(text, "?") if isinstance(e, Drawn)) for text in (TEXT, CHINESE, TEXT)]
        assert pipeline.config is None
    with running(Fake(says([{"content": "Yes"}]))) as fake, GlyphPipeline(fake.base_url, config=RenderConfig.preset("en")) as pipeline:
        given = next(e for e in pipeline.stream(CHINESE, "?") if isinstance(e, Drawn))
    chosen = [event.report.fonts[0].requested for event in (*drawn, given)]
    assert chosen == ["Verdana", "NotoSansMonoCJKsc-Regular.otf", "Verdana", "Verdana"]
