"""The output of a batch by its name and format: one file of records, or a folder of parts. Knows no items and no models."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

from glyph_pipeline import storage
from glyph_pipeline.batch.lock import files_of
from glyph_pipeline.batch.partformats import FORMATS
from glyph_pipeline.batch.parts import PartStore
from glyph_pipeline.batch.store import ResultStore
from glyph_pipeline.errors import UsageError

Results: TypeAlias = "ResultStore | PartStore"


def open_results(output: str | Path, *, retry_failed: bool = False, format: str | None = None) -> Results:
    """Where the records of a batch go, as a context manager with ``done``, ``notices`` and ``add(record)``.

    A local path is a file of JSON Lines (:class:`ResultStore`), unless it ends with ``/`` or ``.parquet``, or another ``format`` than
    jsonl is asked for: then, as any URL, it is a folder of parts (:class:`PartStore`). ``format`` is jsonl, parquet or text; without it
    the name's end decides: ``.parquet``, or else jsonl. Raises UsageError for another format.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"There is no format {format!r} of results.", hint=f"Formats: {', '.join(FORMATS)}.")
    parquet = storage.suffix(output) == ".parquet"
    if not storage.is_url(output) and not str(output).endswith("/") and not parquet and format in (None, "jsonl"):
        return ResultStore(output, retry_failed=retry_failed)
    return PartStore(output, format=format or ("parquet" if parquet else "jsonl"), retry_failed=retry_failed)


def places_of(output: str | Path) -> tuple[str | Path, ...]:
    """Where an output of that name writes, links followed: what is no input, should it lie in a folder that is."""
    return (output,) if storage.is_url(output) else files_of(output)
