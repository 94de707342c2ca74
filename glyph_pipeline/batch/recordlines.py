"""What a line of a batch's output is, and a few moves with files that its store makes. Knows no store."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

STATUSES = ("ok", "truncated", "failed")

_OPENING = b'{"id": "'  # of every line we write


class UnfinishedError(ValueError):
    """Not JSON: a line that broke off, or nothing of ours."""


def parse_line(line: bytes) -> tuple[str, str]:
    """(id, status) of a record's line. Raises UnfinishedError for what is not JSON, ValueError for what is no record."""
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as e:
        raise UnfinishedError("it is not JSON") from e
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise ValueError("it has no 'id'")
    if record.get("status") not in STATUSES:
        raise ValueError(f"its 'status' is none of {', '.join(STATUSES)}")
    return record["id"], record["status"]


def is_ours(line: bytes) -> bool:
    """Whether a first line can be the rest of a record of ours; a lost write may leave NUL bytes."""
    return not line.strip(b"\0 \r\n\t") or line[: len(_OPENING)] == _OPENING[: len(line)]


def record_line(record: Mapping[str, Any]) -> tuple[str, bytes]:
    """(id, line) of a record. Raises ValueError if it is none, or can't be read back as it is."""
    id, status = record.get("id"), record.get("status")
    if not isinstance(id, str) or status not in STATUSES:
        raise ValueError(f"A record needs an 'id' that is text and a 'status' of {', '.join(STATUSES)}: {id!r}, {status!r}.")
    if json.loads(json.dumps(id)) != id:
        raise ValueError(f"The id {id!r} would be another one when it is read: JSON joins surrogates.")
    try:
        # id first, by which an unfinished line is known; what has no UTF-8 becomes an escape, which is JSON too.
        text = json.dumps({"id": id, "status": status, **record}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise ValueError(f"The record of {id!r} has no JSON: {e}.") from e
    return id, text.encode("utf-8", "backslashreplace") + b"\n"


def copy_part(fd: int, out: BinaryIO, start: int, end: int) -> None:
    """Bytes ``start`` to ``end`` of an open file. Raises OSError if it has fewer."""
    os.lseek(fd, start, os.SEEK_SET)
    while start < end:
        data = os.read(fd, min(end - start, 1 << 20))
        if not data:
            raise OSError(errno.EIO, "the file is shorter than it was")
        out.write(data)
        start += len(data)


def free_name(path: Path, word: str) -> Path:
    """A name beside ``path`` that nothing has: ``out.WORD-1.jsonl`` for ``out.jsonl``."""
    number = 1
    while os.path.lexists(found := path.with_name(f"{path.stem}.{word}-{number}{path.suffix}")):
        number += 1
    return found


def records_of(path: Path) -> dict[str, Mapping[str, Any]]:
    """The records of a file that a store has checked, by id, in the order in which they were written."""
    with path.open(encoding="utf-8") as file:
        return {record["id"]: record for record in map(json.loads, file)}
