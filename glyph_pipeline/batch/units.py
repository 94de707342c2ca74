"""Dividing items into units that can be done elsewhere, and units that carry their items along. Knows no format of input."""

from __future__ import annotations

import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from typing_extensions import Self

from glyph_pipeline import storage
from glyph_pipeline.batch.values import BadItem, BatchItem, DocumentFile, Items, Unit
from glyph_pipeline.document import Document

__all__ = ["InlineUnit", "Unit", "file_size", "grouped", "inline_units", "size_of", "units_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class InlineUnit(Unit):
    """Items that are carried along as they are; what is in files is read where their turn comes."""

    items: tuple[BatchItem | BadItem, ...]

    def load(self) -> Iterator[BatchItem | BadItem]:
        """The items."""
        return iter(self.items)

    def only(self, ids: Collection[str]) -> Self:
        """Some of them."""
        items = tuple(item for item in self.items if item.id in ids)
        return replace(self, ids=tuple(item.id for item in items), items=items)


def units_of(
    items: Items | Iterable[BatchItem | BadItem], wanted: Callable[[str], bool], *, max_items: int, max_bytes: int
) -> Iterator[Unit]:
    """The wanted items as units, see :meth:`Items.units`; those of a plain iterable, which is taken as it is needed, carry their items along.

    Relative paths among those become absolute: they may be read by a process that runs elsewhere.
    """
    if isinstance(items, Items):
        return items.units(wanted, max_items=max_items, max_bytes=max_bytes)
    return inline_units(items, wanted, max_items, max_bytes)


def inline_units(
    items: Iterable[BatchItem | BadItem], wanted: Callable[[str], bool], max_items: int, max_bytes: int
) -> Iterator[InlineUnit]:
    """The wanted items as units that carry them along."""
    weighed = ((_settled(item), size_of(item)) for item in items if wanted(item.id))
    for group, size in grouped(weighed, max_items, max_bytes):
        yield InlineUnit(tuple(item.id for item in group), size, tuple(group))


def grouped(weighed: Iterable[tuple[T, int]], max_items: int, max_bytes: int) -> Iterator[tuple[list[T], int]]:
    """Runs of things with their bytes: each has at most ``max_items``, and ``max_bytes`` if it has more than one."""
    run: list[T] = []
    size = 0
    for thing, weight in weighed:
        if run and (len(run) >= max_items or size + weight > max_bytes):
            yield run, size
            run, size = [], 0
        run.append(thing)
        size += weight
    if run:
        yield run, size


def size_of(item: BatchItem | BadItem) -> int:
    """About the bytes of an item's texts, of files of this machine included."""
    return sum(map(_size, item.documents)) if isinstance(item, BatchItem) else 0


def file_size(path: str | Path) -> int:
    """Bytes of a file of this machine; 0 for all else: to ask a server about each would take too long."""
    if storage.is_url(path):
        return 0
    try:
        there = Path(path).stat()
    except (OSError, ValueError):
        return 0
    return there.st_size if stat.S_ISREG(there.st_mode) else 0


def _size(document: Document | DocumentFile | Path) -> int:
    if isinstance(document, Document):
        text = document.text
        return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    path = document if isinstance(document, Path) else getattr(document, "path", None)
    return 0 if path is None else file_size(path)


def _settled(item: BatchItem | BadItem) -> BatchItem | BadItem:
    if not isinstance(item, BatchItem):
        return item
    documents = tuple(map(_absolute, item.documents))
    return item if documents == item.documents else replace(item, documents=documents)


def _absolute(document: Document | DocumentFile | Path) -> Document | DocumentFile | Path:
    if isinstance(document, Path):
        return document if document.is_absolute() else DocumentFile(document.absolute(), str(document))
    if isinstance(document, DocumentFile) and not storage.is_url(document.path) and not Path(document.path).is_absolute():
        return replace(document, path=Path(document.path).absolute())
    return document
