"""What a search measures: real drawings, read by the real OCR; several documents count together."""

from __future__ import annotations

import pytest

from glyph_pipeline import Document, RenderConfig, compress
from glyph_pipeline.errors import ConfigError
from glyph_pipeline.experiments.intervals import Count
from glyph_pipeline.experiments.legibility import Sample
from glyph_pipeline.experiments.objective import Accuracy, Legibility, Measured
from glyph_pipeline.experiments.questions import Question, Task
from glyph_pipeline.reading.ocr import OCRReader
from glyph_pipeline.tokens.vision import GLM_4V, QWEN_3_VL
from tests.support.command import SAMPLE

TEXT = Document.read(SAMPLE).text
SMALL = RenderConfig.preset("en").replace(page_size="300,300", font="DejaVuSans.ttf", system_fonts=False)
BOTH = (Document(TEXT[:1500], "a"), Document(TEXT[1500:2500], "b"))


@pytest.mark.ocr
def test_several_documents_count_together_and_the_second_sample_is_larger_and_other() -> None:
    reader = OCRReader()
    measure = Legibility(BOTH, GLM_4V, reader.transcribe, sample=Sample(1, 5), second=Sample(3, 0))
    first = measure.measure(SMALL)
    apart = [Legibility([document], GLM_4V, reader.transcribe, ("text",), Sample(1, 5)).measure(SMALL) for document in BOTH]
    assert first.counts["text"] == Count(sum(one.counts["text"].errors for one in apart), sum(one.counts["text"].of for one in apart))
    assert set(apart[0].counts) == {"text"}
    report = compress(BOTH, SMALL).report
    assert (first.text_tokens, first.vision_tokens, first.pages) == (report.text_tokens, report.vision_tokens, report.pages)
    assert first.ratio == report.ratio
    assert first.error.rate == pytest.approx((first.counts["text"].rate + first.counts["random"].rate) / 2)
    second = measure.confirm(SMALL)
    assert second is not None
    assert second.counts["text"].of > 3 * first.counts["text"].of
    assert second.counts["random"].of > 7000
    assert second.counts["random"].rate < 0.1  # the same strings, read right for the most part, though over many small pages
    assert second.ratio == first.ratio
    assert Measured.of({**first.to_dict(), "seconds": 1.0}).counts == first.counts


@pytest.mark.ocr
def test_smaller_print_saves_more_and_is_read_worse() -> None:
    measure = Legibility(BOTH, QWEN_3_VL, OCRReader().transcribe, sample=Sample(1, 10))
    large, small = measure.measure(SMALL), measure.measure(SMALL.replace(font_size=5, line_height=6))
    assert small.ratio > 1.5 * large.ratio
    assert small.error.rate > 3 * large.error.rate
    assert measure.confirm(SMALL) is None


def test_pages_that_the_family_does_not_read() -> None:
    strip = RenderConfig(page_size="5000,40", margin_x=0, margin_y=0, font_size=9, line_height=9, system_fonts=False, dpi=200)
    measure = Legibility([Document("word " * 4000)], GLM_4V, lambda page, choose=None: (), ("text",))
    with pytest.raises(ConfigError, match="200:1"):
        measure.measure(strip.replace(page_size="5000,21", font_size=4, line_height=4))


@pytest.mark.ocr
def test_accuracy_is_asked_of_whatever_reads() -> None:
    document = Document("The lantern burned on the harbour wall.\n\nThe ferry left at nine.\n", "a")
    questions = [Question("What burned on the harbour wall?", "lantern"), Question("When did the ferry leave?", "ten")]
    tasks = [Task((document,), question) for question in questions]
    measure = Accuracy([document], GLM_4V, tasks, {"reader": OCRReader()}, "OCR", second=tasks[:1])
    assert measure.measure(SMALL).counts == {"questions": Count(1, 2)}
    again = measure.confirm(SMALL)
    assert again is not None
    assert again.counts == {"questions": Count(0, 1)}
    assert measure.to_dict() != Accuracy([document], GLM_4V, tasks[:1], {}, "OCR").to_dict()
