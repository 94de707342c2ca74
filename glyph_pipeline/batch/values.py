"""An item of a batch, its documents that are still in their files, and all items together. Plain values: they know no format."""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from typing_extensions import Self

from glyph_pipeline import storage
from glyph_pipeline.document import Document
from glyph_pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document that is still in its file, until its turn comes. ``path`` is a ``str`` if it is a URL."""

    path: Path | str
    id: str
    metadata: Mapping[str, object] = field(default_factory=dict)

    def read(self, encoding: str | None = None) -> Document:
        """The document. Raises InputError as :meth:`Document.read` does, and for what is no file (a pipe would wait for ever)."""
        if storage.is_url(self.path):
            data = storage.read_bytes(self.path)
            return replace(Document.from_bytes(data, storage.shown(self.path), encoding), id=self.id, metadata=self.metadata)
        path = Path(self.path).absolute()  # so that a file '-' is no standard input
        try:
            mode = path.stat().st_mode
        except (OSError, ValueError):
            mode = stat.S_IFREG  # Document.read says what is wrong
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InputError(f"{str(path)!r} is a pipe, a socket or a device, not a file.", hint="Give a file with text in it.")
        return replace(Document.read(path, encoding), id=self.id, metadata=self.metadata)


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One question about one or more documents. A ``Path`` among them stands for a file whose id is the path as it is."""

    id: str
    question: str
    documents: tuple[Document | DocumentFile | Path, ...]
    encoding: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> list[Document]:
        """The documents, files read now. Raises InputError (EmptyDocumentError, BinaryDocumentError, EncodingError)."""
        return [self._loaded(document) for document in self.documents]

    def _loaded(self, document: Document | DocumentFile | Path) -> Document:
        if isinstance(document, Document):
            return document
        return (DocumentFile(document, str(document)) if isinstance(document, Path) else document).read(self.encoding)


@dataclass(frozen=True, slots=True)
class BadItem:
    """A line or a row of the input that can't be used, and why."""

    id: str
    error: InputError


@dataclass(frozen=True)
class Unit(ABC):
    """A few items of an input, for whoever is to do them, on whatever machine: a plain value that can be pickled.

    ``size``: about the bytes of their input. Of files that are named in it, those of this machine count.
    """

    ids: tuple[str, ...]
    size: int

    @abstractmethod
    def load(self) -> Iterator[BatchItem | BadItem]:
        """Exactly the items with these ids, in this order, read now. Raises InputError if the input can't be read, or has other items
        there than when it was opened, and MissingExtraError if something that reads it is not installed here."""

    @abstractmethod
    def only(self, ids: Collection[str]) -> Self:
        """Those of the items whose ids are among these, of which there must be one; the others are not read. ``size`` stays."""


class Items:
    """The items of a batch: ``len()``, ``ids``, and an iterator that reads them again each time, holding one at a time.

    Iterating raises InputError if the input can no longer be read, or has other items than when it was opened.
    """

    def __init__(
        self,
        ids: Sequence[str],
        read: Callable[[], Iterator[BatchItem | BadItem]],
        divide: Callable[[Callable[[str], bool], int, int], Iterator[Unit]] | None = None,
    ) -> None:
        self.ids = ids
        self._read = read
        self._divide = divide

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[BatchItem | BadItem]:
        return self._read()

    def units(self, wanted: Callable[[str], bool], *, max_items: int, max_bytes: int) -> Iterator[Unit]:
        """The items whose id is wanted, in their order, divided: a unit has at most ``max_items`` of them, and ``max_bytes`` of input if it
        has more than one. Depends on the input alone. Raises InputError if it can no longer be read."""
        if self._divide is None:
            from glyph_pipeline.batch.units import inline_units

            return inline_units(self, wanted, max_items, max_bytes)
        return self._divide(wanted, max_items, max_bytes)
