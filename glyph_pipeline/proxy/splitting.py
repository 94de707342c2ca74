"""Splitting: where in one long text the question is, so that it stays text. Knows no messages and no tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

# A line of its own in a text that must not be drawn.
KEEP_MARKER = "<!-- glyph:text -->"
_MARKED = re.compile(rf"^[ \t]*{re.escape(KEEP_MARKER)}[ \t]*\r?$", re.MULTILINE)

# Characters. A question with its instructions rarely is longer; as text they cost some hundred tokens.
TAIL_MAX = 2000
HEAD_MAX = 500
# Where the last line is too long to be the question: whole sentences of it, up to this.
SENTENCES_MAX = 500

_COLON = ":\uff1a"
_LABEL = re.compile(
    r"^[#>*_ \t]*(?:(?:question|query|task|instructions?|prompt|q|问题|问|質問|질문|frage|pregunta)[*_ \t]*[" + _COLON + "]"
    r"|<(?:question|query|task|instructions?)>)",
    re.MULTILINE | re.IGNORECASE,
)
_BLANK = re.compile(r"\n[ \t\r]*\n")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
_WHITE = re.compile(r"\s+")
# "Answer:" alone asks nothing.
_MERE_LABEL = 40


@dataclass(frozen=True, slots=True)
class Split:
    """``text[:head]`` and ``text[tail:]`` stay text; ``text[head:tail]`` may be drawn. Offsets in characters, 0 <= head <= tail <= len(text)."""

    head: int
    tail: int


def is_kept(text: str) -> bool:
    """Whether a line of the text forbids drawing it."""
    return KEEP_MARKER in text and _MARKED.search(text) is not None


def split_question(text: str) -> Split:
    """Where the long part of a text begins and ends, between an instruction before it and a question after it.

    The tail is, whichever comes first: what begins with the first line labelled as a question (``Question:``, ``Task:``, ``<question>``
    and so on) within the last TAIL_MAX characters; the last paragraph of at most TAIL_MAX; the last line of at most TAIL_MAX; the last
    sentences, or at least words, within SENTENCES_MAX. A tail that is a mere label, such as ``Answer:``, takes the paragraph before it
    along. The head is the first paragraph, or else the first line, if that has at most HEAD_MAX characters and something is left to draw.
    """
    end = len(text.rstrip())
    tail = _tail(text, end)
    start = len(text) - len(text.lstrip())
    head = _head(text, start, tail)
    return Split(head, tail)


def _tail(text: str, end: int) -> int:
    window = max(0, end - TAIL_MAX)
    label = next((found for found in _LABEL.finditer(text, window, end) if found.start() > 0), None)
    if label is not None:
        return label.start()
    starts = [found.end() for found in _BLANK.finditer(text, window, end)]
    if starts:
        start = starts[-1]
        if len(starts) > 1 and end - start <= _MERE_LABEL and text[end - 1] in _COLON:
            start = starts[-2]
        return start
    line = text.rfind("\n", window, end)
    if line >= 0:
        return line + 1
    near = max(0, end - SENTENCES_MAX)
    for boundary in (_SENTENCE, _WHITE):
        found = boundary.search(text, near, end)
        if found is not None and found.end() < end:
            return found.end()
    return near


def _head(text: str, start: int, tail: int) -> int:
    limit = min(start + HEAD_MAX, tail)
    paragraph = _BLANK.search(text, start, limit)
    if paragraph is not None:
        return paragraph.end()
    line = text.find("\n", start, limit)
    return line + 1 if line >= 0 else 0
