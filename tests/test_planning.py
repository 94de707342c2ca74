"""Planning one request: its exact cost, and what is left for the answer."""

from __future__ import annotations

import pytest

from glyph_pipeline import Page
from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.planning import MIN_ANSWER_TOKENS, plan_window
from glyph_pipeline.tokens.vision import GLM_4V

PAGE = Page(1, 595, 842, b"", 0, 10, ("x",))  # 630 tokens and 2 marks


def test_the_cost_of_pages_and_question() -> None:
    window = plan_window([PAGE] * 3, GLM_4V, frame_tokens=25, max_model_len=131072, max_tokens=8192)
    assert (len(window.pages), window.prompt_tokens, window.max_tokens) == (3, 25 + 3 * 632, 8192)


def test_unknown_context_and_unknown_frame() -> None:
    window = plan_window([PAGE], GLM_4V, frame_tokens=None, max_model_len=None, max_tokens=8192)
    assert (window.prompt_tokens, window.max_tokens) == (None, 8192)


def test_the_answer_shrinks_to_what_the_context_leaves() -> None:
    assert plan_window([PAGE], GLM_4V, frame_tokens=25, max_model_len=1000, max_tokens=8192).max_tokens == 1000 - 632 - 25


def test_the_last_token_that_fits() -> None:
    limit = 632 + 25 + MIN_ANSWER_TOKENS
    assert plan_window([PAGE], GLM_4V, frame_tokens=25, max_model_len=limit, max_tokens=8192).max_tokens == MIN_ANSWER_TOKENS
    with pytest.raises(ContextLengthError):
        plan_window([PAGE], GLM_4V, frame_tokens=25, max_model_len=limit - 1, max_tokens=8192)
    # Who asks for less than that minimum gets it as long as it fits.
    assert plan_window([PAGE], GLM_4V, frame_tokens=25, max_model_len=632 + 25 + 5, max_tokens=5).max_tokens == 5


def test_too_many_pages_says_how_many_fit() -> None:
    with pytest.raises(ContextLengthError, match=r"10 pages take 6320 tokens.*4096 tokens.*about 6 such pages"):
        plan_window([PAGE] * 10, GLM_4V, frame_tokens=25, max_model_len=4096, max_tokens=8192)
