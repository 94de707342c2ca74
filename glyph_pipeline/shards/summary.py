"""What became of a shard: the file beside it that says so, and its sums. Plain values; draws and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from glyph_pipeline.errors import GlyphError

# Failed documents that a summary names; all are in the file beside the shard.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """A document that has no pages in its shard, and why. ``id`` is its item's, ``kind`` the error's class."""

    id: str
    kind: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, id: str, error: GlyphError) -> Failure:
        """What is told of an error."""
        return cls(id, type(error).__name__, error.message, error.hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, Any]:
        """As it stands beside the shard."""
        return {"id": self.id, "type": self.kind, "message": self.message, "hint": self.hint}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Failure:
        """The failure that stands beside a shard. Raises KeyError."""
        return cls(data["id"], data["type"], data["message"], data["hint"])


@dataclass(frozen=True, slots=True)
class Counts:
    """Sums over documents, or over shards. ``text_tokens`` by cl100k_base; ``bytes`` of the shard files."""

    documents: int = 0
    failed: int = 0
    pages: int = 0
    characters: int = 0
    text_tokens: int = 0
    vision_tokens: int = 0
    bytes: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    @property
    def ratio(self) -> float:
        """Text tokens for each vision token."""
        return self.text_tokens / self.vision_tokens if self.vision_tokens else 0.0

    def to_dict(self) -> dict[str, Any]:
        """The sums and ``ratio`` (rounded to 4 places)."""
        return {name: getattr(self, name) for name in self.__slots__} | {"ratio": round(self.ratio, 4)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Counts:
        """The sums out of :meth:`to_dict`. Raises KeyError."""
        return cls(**{name: data[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """A shard that is done: its sums, and the first of its failed documents."""

    number: int
    file: str
    counts: Counts
    failures: tuple[Failure, ...] = field(default=())


def sidecar(
    summary: ShardSummary,
    *,
    identity: str,
    sha256: str,
    fonts: Iterable[Mapping[str, Any]],
    documents: list[dict[str, Any]],
    failed: Iterable[Failure],
) -> dict[str, Any]:
    """What stands beside a shard: the shard's checksum and sums, its documents and those that failed."""
    return {
        "shard": summary.number,
        "file": summary.file,
        "identity": identity,
        "sha256": sha256,
        "counts": summary.counts.to_dict(),
        "fonts": list(fonts),
        "documents": documents,
        "failed": [failure.to_dict() for failure in failed],
    }


def summary_of(data: bytes, identity: str) -> ShardSummary | None:
    """The summary in a file beside a shard; None if it is none of that plan."""
    try:
        fields = json.loads(data)
        if fields["identity"] != identity:
            return None
        failures = tuple(Failure.from_dict(each) for each in fields["failed"][:NAMED])
        return ShardSummary(int(fields["shard"]), str(fields["file"]), Counts.from_dict(fields["counts"]), failures)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
