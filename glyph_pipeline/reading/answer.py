"""Answer: telling reasoning from answer in the pieces that a Glyph server sends. Knows no HTTP."""

from __future__ import annotations

import re
from enum import Enum

from glyph_pipeline.reading.reader import AnswerDelta, ReasoningDelta

_THINK, _END_THINK, _ANSWER, _END_ANSWER = "<think>", "</think>", "<answer>", "</answer>"
# Special tokens arrive as text because the reference sampling asks for them (skip_special_tokens false).
_DROPPED = (
    "<|begin_of_box|>",
    "<|end_of_box|>",
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|system|>",
    "[gMASK]",
    "<sop>",
    "<eop>",
)
_TAGS = (_THINK, _END_THINK, _ANSWER, _END_ANSWER, *_DROPPED)
_SPLIT = re.compile("(" + "|".join(map(re.escape, _TAGS)) + ")")
_LONGEST = max(map(len, _TAGS))


class _Part(Enum):
    UNDECIDED = "undecided"
    REASONING = "reasoning"
    ANSWER = "answer"


class AnswerSplitter:
    """Splits a stream of deltas into reasoning and answer.

    A server with a reasoning parser sends reasoning apart; without one it stands in the content as
    ``<think>...</think><answer>...</answer>``, sometimes without its opening tag. Content that opens with no tag is held
    back until ``</think>`` or the end tells what it is. ``reasoning`` and ``text`` are complete after :meth:`finish`.
    """

    def __init__(self) -> None:
        self._part = _Part.UNDECIDED
        self._held = ""  # the beginning of what may become a tag
        self._undecided = ""
        self._reasoning: list[str] = []
        self._answer: list[str] = []

    @property
    def reasoning(self) -> str:
        """The reasoning so far, without white space around it."""
        return "".join(self._reasoning).strip()

    @property
    def text(self) -> str:
        """The answer so far, without white space around it."""
        return "".join(self._answer).strip()

    def feed(self, content: str | None = None, reasoning: str | None = None) -> list[ReasoningDelta | AnswerDelta]:
        """Take one delta; give what is certain by now."""
        events: list[ReasoningDelta | AnswerDelta] = []
        if reasoning:
            if self._part is _Part.UNDECIDED:
                self._part = _Part.ANSWER  # whatever comes as content is the answer
            pieces = _SPLIT.split(reasoning)
            events += self._emit(_Part.REASONING, "".join(piece for piece in pieces if piece not in _TAGS))
        if content:
            events += self._consume(self._held + content, final=False)
        return events

    def finish(self, truncated: bool = False) -> list[ReasoningDelta | AnswerDelta]:
        """The stream has ended: give what was held back.

        Content without any tag is the answer; if it was ``truncated``, it is reasoning whose opening tag stood in the
        prompt and whose closing tag never came, because Glyph always thinks first.
        """
        events = self._consume(self._held, final=True)
        return events + self._decide(_Part.REASONING if truncated else _Part.ANSWER)

    def _consume(self, text: str, final: bool) -> list[ReasoningDelta | AnswerDelta]:
        events: list[ReasoningDelta | AnswerDelta] = []
        pieces = _SPLIT.split(text)
        self._held = "" if final else _tag_beginning(pieces[-1])
        pieces[-1] = pieces[-1][: len(pieces[-1]) - len(self._held)]
        for piece in pieces:
            if piece == _THINK:
                events += self._decide(_Part.ANSWER)
                self._part = _Part.REASONING
            elif piece in (_END_THINK, _ANSWER):
                events += self._decide(_Part.REASONING)
                self._part = _Part.ANSWER
            elif piece == _END_ANSWER or piece in _DROPPED:
                continue
            elif self._part is _Part.UNDECIDED:
                self._undecided += piece
            else:
                events += self._emit(self._part, piece)
        return events

    def _decide(self, part: _Part) -> list[ReasoningDelta | AnswerDelta]:
        """What was undecided turns out to be ``part``."""
        text, self._undecided = self._undecided, ""
        return self._emit(part, text)

    def _emit(self, part: _Part, text: str) -> list[ReasoningDelta | AnswerDelta]:
        target = self._reasoning if part is _Part.REASONING else self._answer
        if not target:
            text = text.lstrip()
        if not text:
            return []
        target.append(text)
        return [ReasoningDelta(text) if part is _Part.REASONING else AnswerDelta(text)]


def _tag_beginning(text: str) -> str:
    """The end of ``text`` that may be the beginning of a tag."""
    for length in range(min(_LONGEST - 1, len(text)), 0, -1):
        tail = text[-length:]
        if any(tag.startswith(tail) for tag in _TAGS):
            return tail
    return ""
