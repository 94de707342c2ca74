"""Items that kill the process that draws them, brought along by the task: no file can be made that does so on demand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from glyph_pipeline.batch.units import InlineUnit
from glyph_pipeline.batch.values import BadItem, BatchItem
from glyph_pipeline.document import Document


@dataclass(frozen=True)
class DeadlyFile:
    """A document that kills the process that reads it."""

    id: str

    def read(self, encoding: str | None = None) -> Document:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


@dataclass(frozen=True)
class DeadlyUnit(InlineUnit):
    """Items whose input kills the process that reads it."""

    def load(self) -> Iterator[BatchItem | BadItem]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("still alive")


@dataclass(frozen=True)
class DeadlyRow(InlineUnit):
    """Items of which the one that is called x kills the process that reads it."""

    def load(self) -> Iterator[BatchItem | BadItem]:
        for item in self.items:
            if item.id == "x":
                os.kill(os.getpid(), signal.SIGKILL)
            yield item


def unit(*items: BatchItem, kind: type[InlineUnit] = InlineUnit) -> InlineUnit:
    """The items of a task."""
    return kind(tuple(item.id for item in items), 0, items)


def fine(id: str) -> BatchItem:
    return BatchItem(id, "", (Document(f"The ferry of {id}.\n" * 30, id),))


def deadly(id: str) -> BatchItem:
    return BatchItem(id, "", (DeadlyFile(id),))  # type: ignore[arg-type]
