"""The items of a JSON Lines file: each line is one, read again where its turn comes. Knows no other format."""

from __future__ import annotations

import codecs
import io
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import Self

from glyph_pipeline import storage
from glyph_pipeline.batch.fields import Common, item_of, parsed_object, string, unreadable
from glyph_pipeline.batch.units import file_size, grouped
from glyph_pipeline.batch.values import BadItem, BatchItem, DocumentFile, Items, Unit
from glyph_pipeline.errors import InputError

SUFFIXES = (".jsonl", ".ndjson")


# Bytes of a file at a URL that are fetched at a time when all of it is read, and of a few lines at least.
_AHEAD, _LEAST_AHEAD = 8 << 20, 1 << 16


@dataclass(frozen=True, slots=True)
class JsonLines:
    """A file of lines. ``place`` is absolute, ``name`` is as it was given, for the messages."""

    place: str | Path
    name: str
    common: Common

    def items(self) -> Items:
        """Its items. Raises InputError if it can't be read, has no items, or one id twice."""
        index = _Index(self)
        return Items(index.ids, index.read, index.divide)

    def open(self, ahead: int = _AHEAD) -> io.BufferedReader:
        """The stream of its bytes, see :func:`storage.open_read`. Raises InputError or OSError."""
        return storage.open_read(self.place, ahead) if storage.is_url(self.place) else Path(self.place).open("rb")

    def read(self) -> Iterator[tuple[int, int, int, BatchItem | BadItem]]:
        """(line number, offset, bytes, item) of each line that is not blank. Raises InputError."""
        try:
            with self.open() as stream:
                start = stream.peek(4)[:4]
                if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or start == codecs.BOM_UTF32_BE:
                    raise InputError(f"{self.name} is UTF-16 or UTF-32; JSON Lines are UTF-8.", hint="Convert it: iconv -t UTF-8.")
                offset = len(stream.read(len(codecs.BOM_UTF8))) if start.startswith(codecs.BOM_UTF8) else 0
                number = 0
                while raw := stream.readline():
                    number += 1
                    length, blank = len(raw), raw.isspace()
                    held = [raw]
                    del raw
                    if not blank:
                        yield number, offset, length, self.item(number, held)
                    offset += length
        except OSError as e:
            raise unreadable(self.place, e) from e

    def item(self, number: int, held: list[bytes]) -> BatchItem | BadItem:
        """The item of a line, which is taken out of ``held``."""
        id = f"line {number}"
        where = f"{self.name}, line {number}"
        try:
            fields = parsed_object(held, where)
            if "id" in fields:
                id = string(fields, "id", where)
            return item_of(fields, id, where, self.common)
        except InputError as e:
            e.__traceback__ = e.__context__ = None  # they hold the line's text for as long as the error lives
            return BadItem(id, e)

    def changed(self) -> InputError:
        """The error of an item that is no longer where it was."""
        return InputError(f"{self.name} was changed while the batch ran.", hint="Run the batch again: what is done stays done.")


@dataclass(frozen=True)
class LinesUnit(Unit):
    """Some lines of a file, by their numbers, offsets and bytes."""

    lines: JsonLines
    numbers: array[int]
    offsets: array[int]
    lengths: array[int]

    def load(self) -> Iterator[BatchItem | BadItem]:
        """The items, from these lines alone."""
        try:
            span = self.offsets[-1] + self.lengths[-1] - self.offsets[0]
            with self.lines.open(max(_LEAST_AHEAD, min(span, _AHEAD))) as stream:
                at = 0
                for id, number, offset, length in zip(self.ids, self.numbers, self.offsets, self.lengths, strict=True):
                    if offset != at:
                        stream.seek(offset)
                    at = offset + length
                    held = [stream.read(length)]
                    item = self.lines.item(number, held)
                    if item.id != id:
                        raise self.lines.changed()
                    yield item
                    del item
        except OSError as e:
            raise unreadable(self.lines.place, e) from e

    def only(self, ids: Collection[str]) -> Self:
        """Some of them."""
        kept = [position for position, id in enumerate(self.ids) if id in ids]
        numbers, offsets, lengths = (chosen(each, kept) for each in (self.numbers, self.offsets, self.lengths))
        return replace(self, ids=tuple(self.ids[position] for position in kept), numbers=numbers, offsets=offsets, lengths=lengths)


def chosen(numbers: array[int], positions: Sequence[int]) -> array[int]:
    """The numbers at these positions."""
    return array("q", map(numbers.__getitem__, positions))


class _Index:
    """Where the lines of a file are. A million of them take less than 150 MB, most of it their ids."""

    def __init__(self, lines: JsonLines) -> None:
        self.ids: list[str] = []
        self._lines = lines
        self._numbers, self._offsets, self._lengths = array("q"), array("q"), array("q")
        self._files = False
        seen: set[str] = set()
        for number, offset, length, item in lines.read():
            if item.id in seen:
                first = self._numbers[self.ids.index(item.id)]
                raise InputError(
                    f"{lines.name}: lines {first} and {number} have one id, {item.id!r}; results are told apart by it.",
                    hint="Give each line an 'id' of its own, or none: then it is named after its line.",
                )
            seen.add(item.id)
            self.ids.append(item.id)
            self._numbers.append(number)
            self._offsets.append(offset)
            self._lengths.append(length)
            self._files = self._files or (isinstance(item, BatchItem) and any(isinstance(each, DocumentFile) for each in item.documents))
            del item  # its text is not to be held while the next line is read
        if not self.ids:
            raise InputError(f"{lines.name} has no items: it is empty.", hint="Write one JSON object a line.")

    def read(self) -> Iterator[BatchItem | BadItem]:
        found = 0
        for *_, item in self._lines.read():
            if found >= len(self.ids) or item.id != self.ids[found]:
                raise self._lines.changed()
            found += 1
            held = [item]
            del item
            yield held.pop()  # and nothing here holds the text while the caller works on it
        if found < len(self.ids):
            raise self._lines.changed()

    def divide(self, wanted: Callable[[str], bool], max_items: int, max_bytes: int) -> Iterator[Unit]:
        weighed = ((position, size) for position, size in enumerate(self._sizes()) if wanted(self.ids[position]))
        for group, size in grouped(weighed, max_items, max_bytes):
            numbers, offsets, lengths = (chosen(each, group) for each in (self._numbers, self._offsets, self._lengths))
            yield LinesUnit(tuple(map(self.ids.__getitem__, group)), size, self._lines, numbers, offsets, lengths)

    def _sizes(self) -> Iterator[int]:
        """Of each line, with the files that it names."""
        if not self._files:
            yield from self._lengths
            return
        for length, item in zip(self._lengths, self.read(), strict=True):
            documents = item.documents if isinstance(item, BatchItem) else ()
            yield length + sum(file_size(each.path) for each in documents if isinstance(each, DocumentFile))
