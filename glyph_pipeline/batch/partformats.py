"""The formats of a part of a batch's output: records as bytes, and bytes as ids and statuses. Knows no files and no store."""

from __future__ import annotations

import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, ClassVar

from glyph_pipeline.batch.recordlines import STATUSES, parse_line
from glyph_pipeline.errors import MissingExtraError

_FAILED = "failed"
_TEXTS = ("id", "status", "question", "answer", "reasoning", "finish_reason", "reader")
_NESTED = ("usage", "windows", "merges", "sources", "quotes", "report", "checks", "seconds", "error", "metadata")
COLUMNS = (*_TEXTS[:5], "finish_reason", "truncated", *_NESTED[:7], "reader", "drawn_before", *_NESTED[7:])
"""The columns of Parquet, in order: the keys of a record. Those with objects and lists in them hold JSON text."""
# Ids that are no UTF-8 (of a file name that isn't) stand escaped in their column, and as they are under this key of the file.
_ESCAPED_IDS = b"glyph_pipeline.ids"


class PartFormat(ABC):
    """A format. A part is made of rows, in the order in which they were added."""

    name: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def require(self) -> None:
        """Raise MissingExtraError if what writes it is not installed."""

    @abstractmethod
    def row(self, record: Mapping[str, Any], line: bytes) -> Any:
        """A record, and its line of JSON, as what :meth:`encode` takes. Raises ValueError if it can't be written in this format."""

    @abstractmethod
    def encode(self, rows: Sequence[Any]) -> bytes:
        """A part of these rows."""

    @abstractmethod
    def statuses(self, stream: BinaryIO) -> Iterator[tuple[str, str]]:
        """(id, status) of each row of a part. Raises ValueError if it is no part of ours."""

    @abstractmethod
    def without_failed(self, stream: BinaryIO) -> bytes:
        """The part without the rows that failed; empty if none is left."""


class _Lines(PartFormat):
    """A row is a line."""

    def require(self) -> None:
        """Nothing is needed."""

    def encode(self, rows: Sequence[Any]) -> bytes:
        return b"".join(rows)

    def statuses(self, stream: BinaryIO) -> Iterator[tuple[str, str]]:
        for number, line in enumerate(stream, 1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("it has no end")
                yield self.parsed(line)
            except ValueError as e:
                raise ValueError(f"line {number} is no result: {e}") from None

    def without_failed(self, stream: BinaryIO) -> bytes:
        return b"".join(line for line in stream if self.parsed(line)[1] != _FAILED)

    @abstractmethod
    def parsed(self, line: bytes) -> tuple[str, str]:
        """(id, status) of a line."""


class JsonLinesParts(_Lines):
    """A record a line, as in a file of results."""

    name, suffix = "jsonl", ".jsonl"

    def row(self, record: Mapping[str, Any], line: bytes) -> bytes:
        """The line."""
        return line

    def parsed(self, line: bytes) -> tuple[str, str]:
        """(id, status) of a line. Raises ValueError."""
        return parse_line(line)


class TextParts(_Lines):
    r"""``id<TAB>status<TAB>answer``, of a failed item its error's message; ``\\``, ``\t``, ``\n``, ``\r`` stand for those characters."""

    name, suffix = "text", ".txt"

    def row(self, record: Mapping[str, Any], line: bytes) -> bytes:
        """The line."""
        error = record.get("error")
        failed = record["status"] == _FAILED and isinstance(error, Mapping)
        text = error.get("message") if failed and isinstance(error, Mapping) else record.get("answer")
        return f"{_escaped(record['id'])}\t{record['status']}\t{_escaped('' if text is None else str(text))}\n".encode()

    def parsed(self, line: bytes) -> tuple[str, str]:
        """(id, status) of a line. Raises ValueError."""
        cells = line.decode("utf-8").split("\t")
        if len(cells) != 3 or not cells[0]:
            raise ValueError("it is not an id, a status and a text")
        if cells[1] not in STATUSES:
            raise ValueError(f"its status is none of {', '.join(STATUSES)}")
        return _unescaped(cells[0]), cells[1]


class ParquetParts(PartFormat):
    """A row a record, with :data:`COLUMNS`. What a failed item has not is null."""

    name, suffix = "parquet", ".parquet"

    def require(self) -> None:
        """Raise MissingExtraError without pyarrow."""
        _pyarrow()

    def row(self, record: Mapping[str, Any], line: bytes) -> dict[str, Any]:
        """The cells. Raises ValueError for a key that has no column, or a value that its column can't hold."""
        unknown = next((key for key in record if key not in COLUMNS), None)
        if unknown is not None:
            raise ValueError(f"The record of {record['id']!r} has the key {unknown!r}; the columns are {', '.join(COLUMNS)}.")
        return {key: _cell(key, value) for key, value in record.items()}

    def encode(self, rows: Sequence[Any]) -> bytes:
        """The file."""
        pa = _pyarrow()
        types = dict.fromkeys(COLUMNS, pa.string()) | {"truncated": pa.bool_(), "drawn_before": pa.int64()}
        ids = [row["id"] for row in rows]
        cells = [row | {"id": _utf8(row["id"])} for row in rows]
        return self._file(pa.Table.from_pylist(cells, pa.schema(list(types.items()))), ids)

    def statuses(self, stream: BinaryIO) -> Iterator[tuple[str, str]]:
        """(id, status) of each row; no other column is read."""
        table, ids = self._read(stream, ["id", "status"])
        for number, (id, status) in enumerate(zip(ids, table.column("status").to_pylist(), strict=True), 1):
            if not isinstance(id, str) or status not in STATUSES:
                raise ValueError(f"row {number} is no result: its 'id' is {id!r}, its 'status' {status!r}")
            yield id, status

    def without_failed(self, stream: BinaryIO) -> bytes:
        """The file without the rows that failed."""
        pa = _pyarrow()
        table, ids = self._read(stream, None)
        kept = [status != _FAILED for status in table.column("status").to_pylist()]
        return self._file(table.filter(pa.array(kept)), [id for id, keep in zip(ids, kept, strict=True) if keep]) if any(kept) else b""

    def _read(self, stream: BinaryIO, columns: list[str] | None) -> tuple[Any, list[str]]:
        pa = _pyarrow()
        import pyarrow.parquet as pq

        try:
            # Were it Arrow's own threads that read, one might still hold the stream when Python ends, and Python would abort.
            file = pq.ParquetFile(stream, pre_buffer=False)
            missing = [name for name in COLUMNS[:2] if name not in file.schema_arrow.names]
            if missing:
                raise ValueError(f"it has no column {missing[0]!r}")
            table = file.read(columns, use_threads=False)
            ids = table.column("id").to_pylist()
            for row, id in json.loads((file.schema_arrow.metadata or {}).get(_ESCAPED_IDS, b"{}")).items():
                ids[int(row)] = id
        except (pa.ArrowException, UnicodeDecodeError, OSError) as e:
            if isinstance(e, OSError) and e.errno is not None:  # else it is Arrow's, of what is in the file
                raise
            raise ValueError(f"it can't be read as Parquet: {str(e).strip().splitlines()[0]}") from e
        return table, ids

    def _file(self, table: Any, ids: Sequence[str]) -> bytes:
        import pyarrow.parquet as pq

        escaped = {str(row): id for row, id in enumerate(ids) if _utf8(id) != id}
        metadata = {_ESCAPED_IDS: json.dumps(escaped).encode("ascii")} if escaped else None
        stream = io.BytesIO()
        pq.write_table(table.replace_schema_metadata(metadata), stream)
        return stream.getvalue()


FORMATS: Mapping[str, PartFormat] = {each.name: each for each in (JsonLinesParts(), ParquetParts(), TextParts())}
"""By name: ``jsonl``, ``parquet``, ``text``."""


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise MissingExtraError("Writing Parquet files", "data", package="pyarrow") from None
    return pa


def _cell(key: str, value: Any) -> Any:
    if value is None or key == "id":
        return value
    if key in _NESTED:
        return _utf8(json.dumps(value, ensure_ascii=False, allow_nan=False))
    if key == "truncated" or key == "drawn_before":
        if not isinstance(value, bool if key == "truncated" else int):
            raise ValueError(f"{key!r} is {value!r}, which its column can't hold.")
        return value
    if not isinstance(value, str):
        raise ValueError(f"{key!r} is {value!r}, which is no text.")
    return _utf8(value)


def _utf8(text: str) -> str:
    """Half of a surrogate pair, which UTF-8 has not, as an escape, as in JSON."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_MEANT = {escape: character for character, escape in _ESCAPES.items()}


def _escaped(text: str) -> str:
    return _utf8(re.sub(r"[\\\t\n\r]", lambda found: _ESCAPES[found[0]], text))


def _unescaped(text: str) -> str:
    def meant(found: re.Match[str]) -> str:
        if found[1] is None and found[0] not in _MEANT:
            raise ValueError(f"it has {found[0]!r} in its id, which is no escape")
        return chr(int(found[1], 16)) if found[1] else _MEANT[found[0]]

    return re.sub(r"\\u([0-9a-f]{4})|\\.", meant, text)
