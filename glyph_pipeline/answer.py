"""What asking gives: the answer with its account, and the events on the way. Plain values; reads and asks nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from glyph_pipeline.exactness.checking import Check
from glyph_pipeline.page import Page
from glyph_pipeline.reading.reader import AnswerDelta, FinishReason, PageRead, Quote, ReasoningDelta, Retrying, Usage
from glyph_pipeline.report import CompressionReport


@dataclass(frozen=True, slots=True)
class Source:
    """A page that the answer cites: ``text[start:end]`` of the document is what is drawn on it, in characters."""

    document: str | None
    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """What one request gave: its pages (1-based over all pages, both ends included), its tokens as predicted and as served.

    ``label`` names the pages as the model was told them. ``found`` is False if the window said that nothing on its pages
    helps; it is then left out of the merged answer.
    """

    first_page: int
    last_page: int
    predicted_prompt_tokens: int | None
    text: str
    reasoning: str
    finish_reason: FinishReason
    usage: Usage
    label: str = ""
    found: bool = True


@dataclass(frozen=True, slots=True)
class MergeAnswer:
    """What one merging request gave: the ``labels`` of the partial answers it merged, its tokens as predicted and as served.

    ``round`` counts from 1; in the last round one request gives the answer (``final``).
    """

    labels: tuple[str, ...]
    round: int
    final: bool
    predicted_prompt_tokens: int | None
    text: str
    reasoning: str
    finish_reason: FinishReason
    usage: Usage


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question about documents, and the account of it.

    ``reasoning`` is put together window by window. ``finish_reason`` is ``stop``, ``length`` (a request was cut off: see
    :attr:`truncated`) or ``quote`` (passages, by OCR). ``usage`` sums the tokens of all requests as the server counted
    them. ``windows`` are the requests with pages, ``merges`` those that merged their answers; ``sources`` the pages that
    the text cites. ``reader`` names what read. ``seconds`` is the time of each stage. ``checks`` tell of each string in the text that has
    to be right to the letter whether the source has it; ``report.sent`` what was sent, and why so. ``drawn_before``: of how many
    documents the pages came from a store; None without one.
    """

    text: str
    reasoning: str
    finish_reason: FinishReason
    usage: Usage
    windows: tuple[WindowAnswer, ...]
    report: CompressionReport
    reader: str
    quotes: tuple[Quote, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    merges: tuple[MergeAnswer, ...] = ()
    sources: tuple[Source, ...] = ()
    checks: tuple[Check, ...] = ()
    drawn_before: int | None = field(default=None, compare=False)

    @property
    def truncated(self) -> bool:
        """True if the model was cut off in any request; ``text`` may then lack something, or be empty if the cut fell into the reasoning."""
        return self.finish_reason == "length"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types."""
        data = asdict(self)
        data["report"] = self.report.to_dict()
        data["seconds"] = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
        return data | {"truncated": self.truncated}


@dataclass(frozen=True, slots=True)
class PageDrawn:
    """One more page is drawn."""

    page: Page


@dataclass(frozen=True, slots=True)
class Drawn:
    """All pages are drawn and counted; reading begins."""

    pages: tuple[Page, ...]
    report: CompressionReport


@dataclass(frozen=True, slots=True)
class WindowStarted:
    """A window, ``window`` of ``windows`` (1-based), is being asked about its pages."""

    window: int
    windows: int
    first_page: int
    last_page: int
    predicted_prompt_tokens: int | None


@dataclass(frozen=True, slots=True)
class WindowDone:
    """A window has answered."""

    window: int
    windows: int
    answer: WindowAnswer


@dataclass(frozen=True, slots=True)
class Merged:
    """Partial answers have been merged."""

    answer: MergeAnswer


PipelineEvent: TypeAlias = (
    PageDrawn | Drawn | WindowStarted | PageRead | ReasoningDelta | AnswerDelta | Retrying | WindowDone | Merged | Answer
)
