"""Messages: the long texts in a chat request, and the request with pages in their place. Knows no HTTP, draws and counts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glyph_pipeline.proxy.refusal import RefusalError
from glyph_pipeline.proxy.settings import DrawPolicy
from glyph_pipeline.proxy.splitting import Split, is_kept, split_question

# The request's own field for us; it is not sent on.
FIELD = "glyph"
# Of a text part. One with more keys has a meaning that pages would lose (cache_control and the like).
_PART_KEYS = frozenset({"type", "text"})


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that may be drawn: ``text[split.head:split.tail]`` of message ``message``, whole or of its part number ``part``."""

    message: int
    part: int | None
    text: str
    split: Split

    @property
    def body(self) -> str:
        """What may be drawn."""
        return self.text[self.split.head : self.split.tail]


def wants_drawing(data: Mapping[str, Any], header: str | None) -> bool:
    """Whether the request lets texts be drawn, by its field ``glyph`` and the header X-Glyph-Draw. Raises RefusalError for other values."""
    field = data.get(FIELD, {})
    if not isinstance(field, dict) or set(field) - {"draw"} or not isinstance(field.get("draw", True), bool):
        raise RefusalError(
            400, 'The field "glyph" has to be {"draw": true} or {"draw": false}.', kind="bad_request", code="invalid_value", param=FIELD
        )
    if header is not None and header.lower() not in ("on", "off"):
        raise RefusalError(400, "The header X-Glyph-Draw has to be on or off.", kind="bad_request", code="invalid_value")
    return field.get("draw", True) is True and (header is None or header.lower() == "on")


def passages(data: Mapping[str, Any], policy: DrawPolicy) -> Iterator[Passage]:
    """The texts that the policy's roles let draw, in order, long or not.

    Of a user message's last text only what stands before the question in it; the same rule holds for every user message, first or last,
    so that a turn is drawn the same when a client sends it again as history. What has not the shape of a message is left to the upstream.
    """
    messages = data.get("messages")
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        role = message.get("role") if isinstance(message, dict) else None
        if not isinstance(role, str) or role not in policy.roles:
            continue
        content = message.get("content")
        asks = role == "user"
        if isinstance(content, str):
            yield from _passage(number, None, content, asks)
        elif isinstance(content, list):
            texts = [index for index, part in enumerate(content) if isinstance(part, dict) and part.get("type") == "text"]
            for index in texts:
                part = content[index]
                if set(part) == _PART_KEYS and isinstance(part["text"], str):
                    yield from _passage(number, index, part["text"], asks and index == texts[-1])


def _passage(message: int, part: int | None, text: str, asks: bool) -> Iterator[Passage]:
    if is_kept(text):
        return
    split = split_question(text) if asks else Split(0, len(text))
    if split.head < split.tail:
        yield Passage(message, part, text, split)


def with_pages(data: Mapping[str, Any], drawn: Sequence[tuple[Passage, Sequence[str]]]) -> dict[str, Any]:
    """A copy of the request with the images at these URLs in place of each passage's body, and without our own field."""
    result = {key: value for key, value in data.items() if key != FIELD}
    if not drawn:
        return result
    messages = list(result["messages"])
    # From the end, so that the places of those before stay right.
    for passage, urls in reversed(drawn):
        message = dict(messages[passage.message])
        parts = _parts(passage, urls)
        if passage.part is not None:
            content = message["content"]
            parts = [*content[: passage.part], *parts, *content[passage.part + 1 :]]
        message["content"] = parts
        messages[passage.message] = message
    result["messages"] = messages
    return result


def _parts(passage: Passage, urls: Sequence[str]) -> list[dict[str, Any]]:
    """Text before, pages, text after; white space between them would only cost tokens."""
    before, after = passage.text[: passage.split.head].rstrip(), passage.text[passage.split.tail :].strip()
    parts: list[dict[str, Any]] = [{"type": "text", "text": before}] if before else []
    parts += [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    if after:
        parts.append({"type": "text", "text": after})
    return parts
