"""The protocol every reader follows, and the events it emits. Knows no HTTP, no model, no rendering."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from glyph_pipeline.parts import Part

FinishReason: TypeAlias = Literal["stop", "length", "quote"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counted them; None where the reader is no language model or the server did not say."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """A passage that was quoted: its page (1-based, counted over all pages given to the reader, as pictures or as text), its document, its text as read."""

    page: int
    document: str | None
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class PageRead:
    """A reader that reads page by page has finished one: ``page`` of ``total``."""

    page: int
    total: int


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """More of the reasoning. ``window`` is set by the pipeline: the window that reasons (1-based), None for the merging of several."""

    text: str
    window: int | None = None


@dataclass(frozen=True, slots=True)
class AnswerDelta:
    """More of the answer; ``window`` as in :class:`ReasoningDelta`."""

    text: str
    window: int | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """Reading failed in a way that may pass: it begins anew in ``seconds``, and what came of it so far is void.

    ``reason`` is the error's message; ``window`` as in :class:`ReasoningDelta`.
    """

    reason: str
    seconds: float
    window: int | None = None


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What a reader made of pages and question; always the last event.

    ``finish_reason``: ``stop`` the model ended by itself; ``length`` it was cut off at max_tokens or the end of its
    context, so answer (or even reasoning) is incomplete; ``quote`` passages were quoted, nothing was generated.
    ``text`` is empty only if there was no answer, e.g. when the cut fell into the reasoning.
    """

    text: str
    reasoning: str
    finish_reason: FinishReason
    usage: Usage
    quotes: tuple[Quote, ...] = ()


ReadEvent: TypeAlias = PageRead | ReasoningDelta | AnswerDelta | Retrying | ReadResult


class Reader(Protocol):
    """Something that answers a question from page images, and texts that stand in their place."""

    @property
    def name(self) -> str:
        """What reads, in a few words, e.g. ``zai-org/Glyph`` or ``OCR quotes (RapidOCR)``."""
        ...

    def read(self, parts: Sequence[Part], question: str, *, max_tokens: int | None = None) -> AsyncIterator[ReadEvent]:
        """Events in the order they happen; the last is a :class:`ReadResult`.

        ``parts`` are pages; where a pipeline's ``mode`` or ``exact`` say so, also texts in the place of pages, and lists of what has to be
        read to the letter (see :mod:`glyph_pipeline.parts`). With ``mode="pages", exact="off"`` there are only pages.
        ``max_tokens`` bounds reasoning and answer together; a reader that generates nothing has no use for it.
        Raises ContextLengthError, ReadError, ServerError, MissingExtraError.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and engines. The reader must not be used afterwards."""
        ...
