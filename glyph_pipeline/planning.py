"""Planning: which pages go into a request, and what that request will cost. Token budgets only; knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glyph_pipeline.errors import ContextLengthError
from glyph_pipeline.page import Page
from glyph_pipeline.tokens.vision import VisionArithmetic

# Below this an answer is not worth a request: it would be cut off in its first sentence.
MIN_ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Window:
    """The pages of one request. ``prompt_tokens`` is its exact predicted length (None where the template can't be counted),
    ``max_tokens`` what is left for reasoning and answer."""

    pages: tuple[Page, ...]
    prompt_tokens: int | None
    max_tokens: int


def plan_window(
    pages: Sequence[Page], vision: VisionArithmetic, *, frame_tokens: int | None, max_model_len: int | None, max_tokens: int
) -> Window:
    """All pages in one request.

    ``frame_tokens`` are those of template and question, ``max_model_len`` the model's context in tokens, each None if
    unknown; ``max_tokens`` is reduced to what the context leaves. Raises ContextLengthError if that is too little.
    """
    images = sum(vision.tokens(page.width, page.height) + vision.markers for page in pages)
    prompt = None if frame_tokens is None else frame_tokens + images
    if max_model_len is None:
        return Window(tuple(pages), prompt, max_tokens)
    room = max_model_len - images - (frame_tokens or 0)
    if room < min(max_tokens, MIN_ANSWER_TOKENS):
        fit = max(0, (max_model_len - MIN_ANSWER_TOKENS - (frame_tokens or 0)) * len(pages) // images)
        raise ContextLengthError(
            f"The {len(pages)} pages take {images} tokens and the question {frame_tokens if frame_tokens is not None else 'some'}; "
            f"the model's context is {max_model_len} tokens, answer included, which is room for about {fit} such pages.",
            hint="Ask about fewer documents, draw denser (--dpi, --font-size), or serve the model with a larger --max-model-len.",
        )
    return Window(tuple(pages), prompt, min(max_tokens, room))
