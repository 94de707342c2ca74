"""Rows of Parquet files, a row group at a time: which columns there may be, and going through rows in small batches. Knows no items."""

from __future__ import annotations

import datetime
import decimal
import hashlib
import io
import math
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from glyph_pipeline import storage
from glyph_pipeline.batch.fields import ALLOWED, KEYS, SOURCES, known, parsed, unreadable
from glyph_pipeline.errors import EncodingError, GlyphError, InputError, MissingExtraError

_BATCH_BYTES, _BATCH_ROWS = 8 << 20, 4096
_BUFFER = 4 << 20  # bytes of a column that are read at a time
_KEPT = 4


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group: its file, ``name`` for messages, ``stamp`` of what the file says that it holds, and its place in it. ``before``: rows of the file
    that stand before it. ``row_size``: about the bytes of a row, on average. ``paths``: whether its rows may name files."""

    place: str
    name: str
    stamp: str
    index: int
    before: int
    rows: int
    row_size: int
    paths: bool

    def changed(self) -> InputError:
        """The error of rows that are no longer where they were."""
        return InputError(f"{self.name} was changed while the batch ran.", hint="Run the batch again: what is done stays done.")


def scan(place: str, name: str) -> list[tuple[RowGroup, list[str | None] | None]]:
    """The row groups of a file, each with its ids; None without the column. Raises InputError, also for columns that can't be used."""
    with _opened(place, name) as (file, stamp):
        columns = _checked(file.schema_arrow, name)
        groups = []
        before = 0
        for index in range(file.metadata.num_row_groups):
            about = file.metadata.row_group(index)
            chunks = [about.column(number) for number in range(about.num_columns)]
            total = sum(chunk.total_uncompressed_size for chunk in chunks)
            row_size = max(1, total // max(1, about.num_rows))
            group = RowGroup(place, name, stamp, index, before, about.num_rows, row_size, "path" in columns)
            groups.append((group, column_of(file, group, "id") if "id" in columns else None))
            before += about.num_rows
        return groups


def paths_of(group: RowGroup) -> list[str | None]:
    """The ``path`` of each row. Raises InputError."""
    with _opened(group.place, group.name) as (file, stamp):
        if stamp != group.stamp:
            raise group.changed()
        return column_of(file, group, "path")


def column_of(file: Any, group: RowGroup, column: str) -> list[str | None]:
    """All of a column of text. Raises EncodingError if it isn't UTF-8."""
    try:
        values: list[str | None] = file.read_row_group(group.index, columns=[column], use_threads=False).column(column).to_pylist()
    except UnicodeDecodeError as e:
        raise EncodingError(f"{group.name}: the column {column!r} is not valid UTF-8: {e.reason}.", hint="Write it as UTF-8.") from None
    return values


class Rows:
    """The rows of a row group, forwards; a few of them are held at a time. Raises InputError, also if the file is no longer the same."""

    def __init__(self, group: RowGroup, leave_out: Sequence[str] = ()) -> None:
        self.group = group
        self._batch: Any = None
        self._open = ExitStack()
        with ExitStack() as opening:
            file, stamp = opening.enter_context(_opened(group.place, group.name))
            if stamp != group.stamp:
                raise group.changed()
            schema = file.schema_arrow
            self._types = {key: schema.field(key).type for key in KEYS if key in schema.names and key not in leave_out}
            size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // group.row_size))
            self._batches = file.iter_batches(size, row_groups=[group.index], columns=list(self._types), use_threads=False)
            self._open = opening.pop_all()
        self.start = 0  # of the rows that are held; what is before is passed

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def id(self, row: int) -> str | None:
        """The id of a row, counted from 0; None if there is none, or an empty one. Raises InputError."""
        return (self._value(row, "id") or None) if "id" in self._types else None

    def fields(self, row: int, where: str) -> dict[str, Any]:
        """The cells of a row that are not null, as JSON would have them. Raises InputError."""
        cells = {}
        for key, kind in self._types.items():
            try:
                value = _plain(self._value(row, key), kind)
            except UnicodeDecodeError as e:
                raise EncodingError(f"{where}: {key!r} is not valid UTF-8: {e.reason}.", hint="Write it as UTF-8.") from None
            except ValueError as e:
                raise InputError(f"{where}: {key!r} has no JSON: {e}.", hint="Write it as text.") from None
            if value is not None:
                cells[key] = value
        return _unfolded(cells, where)

    def _value(self, row: int, key: str) -> Any:
        while self._batch is None or row >= self.start + self._batch.num_rows:
            with _told(self.group.name, self.group.place):
                self.start += 0 if self._batch is None else self._batch.num_rows
                self._batch = next(self._batches, None)
            if self._batch is None:
                raise self.group.changed()
        return self._batch.column(key)[row - self.start].as_py()


_kept: OrderedDict[tuple[str, str, int], Rows] = OrderedDict()
_mutex = threading.Lock()


@contextmanager
def borrowed(group: RowGroup, first: int, leave_out: Sequence[str], run: str) -> Iterator[Rows]:
    """The rows of a group from ``first`` on: where another unit of the same ``run`` left off in this process, if that was before. A few
    are kept for the next, open."""
    key = (run, group.place, group.index)
    with _mutex:
        rows = _kept.pop(key, None)
    if rows is not None and rows.start > first:
        rows.close()
        rows = None
    rows = Rows(group, leave_out) if rows is None else rows
    try:
        yield rows
    except BaseException:
        rows.close()
        raise
    with _mutex:
        old = [_kept.pop(key, None)]  # of another thread
        _kept[key] = rows
        old += [_kept.popitem(last=False)[1]] if len(_kept) > _KEPT else []
    for each in old:
        if each is not None:
            each.close()


# -- files -------------------------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(place: str, name: str) -> Iterator[tuple[Any, str]]:
    """(file, stamp of what it says that it holds): where its columns are, how long they are, and mostly their least and greatest values."""
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("Reading Parquet files", "data", package="pyarrow") from None
    with _told(name, place), ExitStack() as stack:
        stream = stack.enter_context(storage.open_read(place))
        about = pq.read_metadata(stream)
        texts = {about.schema.column(number).path for number in range(about.num_columns)} & {*KEYS}
        # As dictionaries, texts that are repeated take as little room here as in the file, on whose size the number of rows depends.
        # Neither ahead nor otherwise may Arrow's own threads read: one might still hold the stream when Python ends, and Python would abort.
        file = pq.ParquetFile(stream, metadata=about, buffer_size=_BUFFER, read_dictionary=sorted(texts), pre_buffer=False)
        stream.seek(-8, io.SEEK_END)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(-8 - length, io.SEEK_END)
        yield file, hashlib.sha256(stream.read(length)).hexdigest()


@contextmanager
def _told(name: str, place: str) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (GlyphError, UnicodeDecodeError):
        raise
    except OSError as e:
        raise unreadable(place, e) from e
    except (ArrowException, ValueError) as e:
        words = str(e).strip().splitlines()
        raise InputError(f"{name} can't be read as Parquet: {words[0].rstrip('.')}.", hint="Is it whole? Write it anew.") from e


def _checked(schema: Any, name: str) -> list[str]:
    """The names of the columns. Raises InputError for one that no item has, or that can't hold what it should."""
    import pyarrow as pa

    columns: list[str] = schema.names
    for number, column in enumerate(columns):
        if column in columns[:number]:
            raise InputError(f"{name}: the column {column!r} is there twice.", hint=ALLOWED)
    try:
        known(dict.fromkeys(columns), KEYS, name, ALLOWED)
    except InputError:
        unknown = next(column for column in columns if column not in KEYS)
        raise InputError(f"{name}: unknown column {unknown!r}.", hint=ALLOWED) from None
    if not any(column in SOURCES for column in columns):
        raise InputError(f"{name}: there is no column of texts.", hint="It needs one of 'text', 'path' and 'documents'.")
    for field in schema:
        kind = field.type
        if _is_text(kind) or pa.types.is_null(kind):
            continue
        if field.name == "metadata" and (pa.types.is_struct(kind) or pa.types.is_map(kind)):
            continue
        if field.name == "documents" and _is_list(kind) and pa.types.is_struct(kind.value_type):
            continue
        wanted = {"metadata": "a struct, a map or JSON text", "documents": "a list of structs or JSON text"}.get(field.name, "text")
        raise InputError(f"{name}: the column {field.name!r} is of type {kind}.", hint=f"It must be {wanted}.")
    return columns


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or (hasattr(types, "is_string_view") and types.is_string_view(kind)))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


# -- values ------------------------------------------------------------------------------------------------------------------------


def _plain(value: Any, kind: Any) -> Any:
    """A cell as JSON would have it: dates and decimals as text. Raises ValueError for what JSON has no form for."""
    import pyarrow as pa

    if value is None or isinstance(value, str | bool | int):
        return value
    if pa.types.is_map(kind):
        found = {key: _plain(inner, kind.item_type) for key, inner in value}
        if len(found) < len(value) or not all(isinstance(key, str) for key in found):
            raise ValueError("the keys of a map must be text, each once")
        return found
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if _is_list(kind):
        return [_plain(inner, kind.value_type) for inner in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no JSON number")
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    raise ValueError(f"it holds values of type {kind}")


def _unfolded(cells: dict[str, Any], where: str) -> dict[str, Any]:
    """The cells, with JSON text as what it says, and without what is null in a document."""
    cells = {key: _from_json(value, key, where) if key in {"documents", "metadata"} else value for key, value in cells.items()}
    if isinstance(entries := cells.get("documents"), list):
        cells["documents"] = [_document(entry, f"{where}, document {number}") for number, entry in enumerate(entries, 1)]
    return cells


def _document(entry: Any, where: str) -> Any:
    if not isinstance(entry, dict):
        return entry
    fields = {key: value for key, value in entry.items() if value is not None}
    return fields | ({"metadata": _from_json(fields["metadata"], "metadata", where)} if "metadata" in fields else {})


def _from_json(value: Any, key: str, where: str) -> Any:
    return parsed(value, f"{where}: {key!r}", "Write JSON, or a column of structs.") if isinstance(value, str) else value
