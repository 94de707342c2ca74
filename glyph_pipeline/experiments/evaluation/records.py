"""Records: objects out of JSON, JSON Lines and Parquet files, and their fields, checked. Knows no benchmark."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glyph_pipeline.errors import InputError, MissingExtraError

SUFFIXES = (".parquet", ".jsonl", ".json")
# Rows of a Parquet file that are held at a time: one of MRCR's may have 5 MB.
_BATCH = 4


@dataclass(frozen=True, slots=True)
class Record:
    """An object of a file, and where it stands: ``FILE, line 3`` or ``FILE, row 3`` (from 1)."""

    where: str
    number: int
    data: Mapping[str, Any]

    def text(self, name: str, default: str | None = None) -> str:
        """A field that is text. Raises InputError if it is not there (and has no default) or is anything else."""
        value = self.data.get(name, default)
        if not isinstance(value, str):
            raise self.wrong(name, "text", value)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that is a list of texts, at least one; a single text counts as a list of it. Raises InputError."""
        value = self.data.get(name)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not values or not all(isinstance(one, str) for one in values):
            raise self.wrong(name, "a list of texts, at least one", value)
        return tuple(values)

    def told(self, *names: str) -> dict[str, str | int]:
        """Fields that only go into a row, such as a length: as they are if they are text or whole numbers, else left out."""
        return {name: self.data[name] for name in names if isinstance(self.data.get(name), (str, int))}

    def wrong(self, name: str, expected: str, value: object) -> InputError:
        """The error that says what a field should be and what it is."""
        found = "it is missing" if name not in self.data else f"it is {json.dumps(value, ensure_ascii=False, default=str)[:80]}"
        return InputError(f"{self.where}: the field {name!r} should be {expected}; {found}.", hint="Use the files as they were published.")


def folder_of(data: str | Path) -> Path:
    """The folder of a benchmark's files. Raises InputError if it is none."""
    folder = Path(data)
    if not folder.is_dir():
        fault = "is a file, not a folder" if folder.exists() else "is not there"
        raise InputError(f"The folder {str(data)!r} {fault}.", hint="--data names the folder with the benchmark's files.")
    return folder


def records(path: Path, needed: Sequence[str] = ()) -> Iterator[Record]:
    """The objects of a file, by the end of its name: ``.jsonl`` one a line, ``.json`` a list, ``.parquet`` one a row.

    ``needed`` are the columns that a Parquet file has to have. Raises InputError naming file and line, and for a file with nothing in it (a
    download that broke off would else be a task that nobody misses), MissingExtraError for Parquet without pyarrow.
    """
    empty = True
    for record in _records(path, needed):
        empty = False
        yield record
    if empty:
        raise InputError(f"{path}: there is nothing in it.", hint="Download the file again, or take it away.")


def _records(path: Path, needed: Sequence[str]) -> Iterator[Record]:
    if path.suffix == ".parquet":
        yield from _rows(path, needed)
        return
    for number, data in _listed(path) if path.suffix == ".json" else _lines(path):
        where = f"{path}, {'element' if path.suffix == '.json' else 'line'} {number}"
        if not isinstance(data, dict):
            raise InputError(f"{where}: expected a JSON object, found {type(data).__name__}.", hint="Use the files as they were published.")
        yield Record(where, number, data)


def json_object(path: Path) -> Mapping[str, str]:
    """A file that is one JSON object of texts, such as prompts by task. Raises InputError."""
    data = _parsed(path, _read(path), str(path))
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        raise InputError(f"{path}: expected a JSON object of texts.", hint="Use the file as it was published.")
    return data


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _parsed(path, line, f"{path}, line {number}")
    except OSError as e:
        raise _unreadable(path, e) from e


def _listed(path: Path) -> Iterator[tuple[int, Any]]:
    data = _parsed(path, _read(path), str(path))
    if not isinstance(data, list):
        raise InputError(f"{path}: expected a JSON list, found {type(data).__name__}.", hint="Use the files as they were published.")
    yield from enumerate(data, 1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise _unreadable(path, e) from e


def _parsed(path: Path, data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as e:
        raise InputError(f"{where}: not valid UTF-8 ({e.reason}).", hint="Download the file again.") from e
    except (ValueError, RecursionError) as e:
        raise InputError(f"{where}: not valid JSON ({e}).", hint="Download the file again.") from e


def _rows(path: Path, needed: Sequence[str]) -> Iterator[Record]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MissingExtraError(f"Reading {path.name}", "experiments", package="pyarrow") from error
    arrow: Any = importlib.import_module("pyarrow")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for name in needed:
                if name not in names:
                    raise InputError(
                        f"{path}: there is no column {name!r}; there are {', '.join(names)}.", hint="Use the files as they were published."
                    )
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(needed) or None):
                for data in batch.to_pylist():
                    number += 1
                    yield Record(f"{path}, row {number}", number, data)
    except (arrow.ArrowException, OSError, ValueError) as e:  # ValueError: text that is no UTF-8
        if isinstance(e, OSError) and e.errno is not None:
            raise _unreadable(path, e) from e
        raise InputError(f"{path}: not a readable Parquet file ({' '.join(str(e).split())}).", hint="Download the file again.") from e


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} can't be read: {error.strerror or error}.", hint="Check the path and its permissions.")
