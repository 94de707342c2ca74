"""A pipeline that puts right what was misread gives its answer once, as it is in the end."""

from __future__ import annotations

import pytest

from glyph_pipeline import Document, GlyphPipeline
from glyph_pipeline.integrations.streaming import AnswerText
from tests.support.fake_openai import Fake, running, says

KEY = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"


@pytest.mark.parametrize("repair", [True, False])
def test_a_repaired_answer_is_not_given_twice(repair: bool) -> None:
    wrong = KEY.replace("d8f1", "d8fl")
    fake = Fake(says([{"content": "<answer>It is "}, {"content": f"{wrong}."}]))
    with running(fake), GlyphPipeline(fake.base_url, repair=repair) as pipeline:
        text = AnswerText(at_end=pipeline.repairs)
        pieces = [piece for event in pipeline.stream(Document(f"The key is {KEY}."), "Which?") if (piece := text.feed(event))]
    assert "".join(pieces) == (f"It is {KEY}." if repair else f"It is {wrong}.")
    assert (len(pieces) == 1) == repair
