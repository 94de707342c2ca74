"""BatchResult: what came of one item of a batch, and its record. A plain value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from glyph_pipeline.answer import Answer
from glyph_pipeline.errors import GlyphError

Status: TypeAlias = Literal["ok", "truncated", "failed"]


@dataclass(frozen=True, slots=True)
class BatchResult:
    """An item's answer, or the error that it failed with. ``seconds`` is its time from the first stroke of drawing to the end."""

    id: str
    question: str
    answer: Answer | None
    error: GlyphError | None
    seconds: float
    metadata: Mapping[str, object] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """``ok``, ``truncated`` (a request was cut off; see Answer.truncated) or ``failed``."""
        if self.answer is None:
            return "failed"
        return "truncated" if self.answer.truncated else "ok"

    def to_dict(self) -> dict[str, Any]:
        """The line of OUT.jsonl: id, status, question, the fields of Answer.to_dict (with ``text`` as ``answer``), error, metadata."""
        record: dict[str, Any] = {"id": self.id, "status": self.status, "question": self.question}
        if self.answer is not None:
            data = self.answer.to_dict()
            record |= {"answer": data.pop("text"), **data}
        else:
            record["seconds"] = {"total": round(self.seconds, 3)}
        error = self.error
        record["error"] = None if error is None else {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        return record | {"metadata": dict(self.metadata)}
