"""Messages: pages and a question as an OpenAI chat message. Knows no HTTP and no model."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from glyph_pipeline.page import Page

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionUserMessageParam


def build_message(pages: Sequence[Page], question: str) -> ChatCompletionUserMessageParam:
    """One user message: the pages as PNG data URLs in order, then the question as text, as Glyph was trained."""
    content: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(page.png).decode("ascii")}} for page in pages
    ]
    content.append({"type": "text", "text": question})
    return {"role": "user", "content": content}
