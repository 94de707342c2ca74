"""Control marks of chat templates in texts."""

from __future__ import annotations

import pytest

from glyph_pipeline.exactness.controls import harmless, has_control_marks


@pytest.mark.parametrize(
    "mark", ["<|user|>", "<|begin_of_image|>", "[gMASK]", "<sop>", "</s>", "<think>", "<|im_end|>", "[/INST]", "<eop>"]
)
def test_marks_are_seen_inside_words(mark: str):
    assert has_control_marks(f"key{mark}x")


@pytest.mark.parametrize("text", ["a < b | c > d", "a <| b", "[MASK ed]", "<span>", "x[0]", "||", "<||>", "s/<s/x/"])
def test_ordinary_text_has_none(text: str):
    assert not has_control_marks(text)


def test_a_name_without_them_stays_as_it_is_and_one_with_them_is_made_harmless() -> None:
    assert harmless("report [2]_final|b.txt") == "report [2]_final|b.txt"
    assert harmless("a<|user|>b.txt") == "a__user__b.txt"
    assert not has_control_marks(harmless("[gMASK] <sop> </s> x"))
