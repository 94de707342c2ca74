"""Control marks of chat templates in texts."""

from __future__ import annotations

import pytest

from glyph_pipeline.exactness.controls import has_control_marks


@pytest.mark.parametrize(
    "mark", ["<|user|>", "<|begin_of_image|>", "[gMASK]", "<sop>", "</s>", "<think>", "<|im_end|>", "[/INST]", "<eop>"]
)
def test_marks_are_seen_inside_words(mark: str):
    assert has_control_marks(f"key{mark}x")


@pytest.mark.parametrize("text", ["a < b | c > d", "a <| b", "[MASK ed]", "<span>", "x[0]", "||", "<||>", "s/<s/x/"])
def test_ordinary_text_has_none(text: str):
    assert not has_control_marks(text)
