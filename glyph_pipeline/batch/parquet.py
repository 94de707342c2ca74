"""The items of Parquet files: each row is one, its columns the keys of a JSON line. Knows no other format."""

from __future__ import annotations

import itertools
import uuid
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from typing_extensions import Self

from glyph_pipeline import storage
from glyph_pipeline.batch.fields import Common, item_of, string
from glyph_pipeline.batch.rowgroups import RowGroup, Rows, borrowed, paths_of, scan
from glyph_pipeline.batch.units import file_size, grouped
from glyph_pipeline.batch.values import BadItem, BatchItem, Items, Unit
from glyph_pipeline.errors import EncodingError, InputError

SUFFIX = ".parquet"
# Files of an object store that are opened at a time: each takes a few requests.
_OPENERS = 8


_BESIDE = ("_SUCCESS", "_metadata", "_common_metadata", "_committed_", "_started_")


def parquet_files(place: str | Path, names: Sequence[str]) -> list[str]:
    """Those of a folder's files that have its rows; none if they are items themselves, as they are unless all end with .parquet, or
    the folder's name does. What Spark writes beside them (``_SUCCESS`` and the like) does not count. Raises InputError."""
    rows = [name for name in names if not storage.basename(name).startswith(_BESIDE)]
    others = [name for name in rows if storage.suffix(name) != SUFFIX]
    if storage.suffix(place) == SUFFIX and (others or not rows):
        what = f"{others[0]!r} in it is none" if others else "there is no file in it"
        raise InputError(f"The folder {storage.shown(place)!r} is not Parquet: {what}.", hint="Remove that file, or rename the folder.")
    return [] if others else rows


@dataclass(frozen=True, slots=True)
class _File:
    """A file: its absolute path or URL, what it is called in messages, and in the ids of rows that have none."""

    place: str
    shown: str
    name: str


@dataclass(frozen=True, slots=True)
class Parquet:
    """How rows become items. Their paths are relative to the folder that their file lies in. ``run`` tells one opening from another:
    a process that served an earlier one must not go on with what that left open."""

    question: str | None
    encoding: str | None
    questions: bool
    run: str = field(default_factory=lambda: uuid.uuid4().hex)

    def items(self, folder: str | Path, names: Sequence[str]) -> Items:
        """The items of these files of a folder. Raises InputError if one can't be read, has columns that no item has, if there is no
        row, or one id twice."""
        # Absolute: the working folder may be another one before a row's turn comes.
        root = folder if storage.is_url(folder) else Path(folder).absolute()
        return self._items([_File(storage.below(root, name), storage.shown(storage.below(folder, name)), name) for name in names])

    def items_of_file(self, place: str | Path) -> Items:
        """Its items; see :meth:`items`."""
        return self._items(
            [_File(str(place if storage.is_url(place) else Path(place).absolute()), storage.shown(place), storage.basename(place))]
        )

    def _items(self, files: Sequence[_File]) -> Items:
        index = _Index(self, files)
        return Items(index.ids, index.read, index.divide)

    @property
    def unneeded(self) -> tuple[str, ...]:
        """The columns that are not read."""
        return () if self.questions else ("question",)

    def item(self, rows: Rows, row: int, default: str) -> BatchItem | BadItem:
        """The item of a row; ``default`` is its id if it has none. Raises InputError if it can't be read at all."""
        group = rows.group
        where = f"{group.name}, row {group.before + row + 1}"
        id = rows.id(row) or default
        try:
            fields = rows.fields(row, where)
            if "id" in fields:
                string(fields, "id", where)
            return item_of(fields, id, where, Common(self.question, self.encoding, storage.parent(group.place), self.questions))
        except InputError as e:
            e.__traceback__ = e.__context__ = None  # they hold the row for as long as the error lives
            return BadItem(id, e)


@dataclass(frozen=True)
class RowsUnit(Unit):
    """Some rows of some row groups."""

    parquet: Parquet
    parts: tuple[tuple[RowGroup, array[int]], ...]

    def load(self) -> Iterator[BatchItem | BadItem]:
        """The items, from these row groups alone; the next unit of this process goes on in the last one where this ends."""
        ids = iter(self.ids)
        for group, numbers in self.parts:
            with borrowed(group, numbers[0], self.parquet.unneeded, self.parquet.run) as rows:
                for row in numbers:
                    id = next(ids)
                    item = self.parquet.item(rows, row, id)
                    if item.id != id:
                        raise group.changed()
                    yield item
                    del item

    def only(self, ids: Collection[str]) -> Self:
        """Some of them."""
        rows = [(group, row) for group, numbers in self.parts for row in numbers]
        kept = [(id, *row) for id, row in zip(self.ids, rows, strict=True) if id in ids]
        return replace(self, ids=tuple(id for id, _, _ in kept), parts=_parts((group, row) for _, group, row in kept))


def _parts(rows: Iterable[tuple[RowGroup, int]]) -> tuple[tuple[RowGroup, array[int]], ...]:
    """Rows that follow each other, by their row groups."""
    groups = itertools.groupby(rows, lambda each: each[0])
    return tuple((group, array("q", (row for _, row in each))) for group, each in groups)


class _Index:
    """The row groups of some files, and the ids of their rows."""

    def __init__(self, parquet: Parquet, files: Sequence[_File]) -> None:
        self.ids: list[str] = []
        self._parquet = parquet
        self._groups: list[RowGroup] = []
        seen: set[str] = set()
        for file, groups in zip(files, _scanned(files), strict=True):
            for group, given in groups:
                self._groups.append(group)
                for row in range(group.rows):
                    id = (given[row] if given is not None else None) or f"{file.name} row {group.before + row + 1}"
                    if id in seen:
                        raise self._twice(id)
                    seen.add(id)
                    self.ids.append(id)
        if not self.ids:
            raise InputError(f"{files[0].shown!r} has no rows.", hint="Write one row an item.")

    def read(self) -> Iterator[BatchItem | BadItem]:
        """The items, holding a few rows at a time."""
        ids = iter(self.ids)
        for group in self._groups:
            with closing(Rows(group, self._parquet.unneeded)) as rows:
                for row in range(group.rows):
                    yield self._parquet.item(rows, row, next(ids))

    def divide(self, wanted: Callable[[str], bool], max_items: int, max_bytes: int) -> Iterator[Unit]:
        """The units, see :meth:`Items.units`. A row counts as the average of its row group, in which a text that
        is repeated may count once, and with the file of this machine that it names."""
        weighed = (((id, group, row), size) for id, group, row, size in self._weighed() if wanted(id))
        for run, size in grouped(weighed, max_items, max_bytes):
            parts = _parts((group, row) for _, group, row in run)
            yield RowsUnit(tuple(id for id, _, _ in run), size, self._parquet, parts)

    def _weighed(self) -> Iterator[tuple[str, RowGroup, int, int]]:
        ids = iter(self.ids)
        for group in self._groups:
            folder = storage.parent(group.place)
            try:
                paths = paths_of(group) if group.paths else []
            except EncodingError:  # the row in question is told when its turn comes
                paths = []
            for row in range(group.rows):
                path = paths[row] if paths else None
                yield next(ids), group, row, group.row_size + (file_size(storage.join(folder, path)) if path else 0)

    def _twice(self, id: str) -> InputError:
        places = (f"{group.name}, row {group.before + row + 1}" for group in self._groups for row in range(group.rows))
        first = self.ids.index(id)
        before, again = itertools.islice(places, first, len(self.ids) + 1, len(self.ids) - first)
        return InputError(
            f"{before} and {again} have one id, {id!r}; results are told apart by it.",
            hint="Give each row an 'id' of its own, or none: then it is named after its file and its number.",
        )


def _scanned(files: Sequence[_File]) -> Iterator[list[tuple[RowGroup, list[str | None] | None]]]:
    def scanned(file: _File) -> list[tuple[RowGroup, list[str | None] | None]]:
        return scan(file.place, repr(file.shown))

    if not storage.is_url(files[0].place):
        yield from map(scanned, files)
        return
    with ThreadPoolExecutor(_OPENERS) as openers:
        yield from openers.map(scanned, files)
