"""The input of a set of shards: whatever a batch takes, without questions, and single files. Divides and draws nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from glyph_pipeline import storage
from glyph_pipeline.batch.items import read_items
from glyph_pipeline.batch.values import BatchItem, DocumentFile, Items
from glyph_pipeline.errors import InputError

# Files of which each line or row is an item; any other file is one.
_OF_ITEMS = (".jsonl", ".ndjson", ".parquet")


def read_sources(sources: Sequence[str | Path], encoding: str | None, leave_out: Collection[str | Path]) -> list[Items]:
    """The items of the sources, in order; single files that follow each other are together. Raises what ``read_items`` raises, and
    InputError if two sources have one id."""
    inputs = []
    for single, group in groupby(sources, _is_single_file):
        if single:
            inputs.append(_files(list(group), encoding))
        else:
            inputs += [read_items(source, questions=False, encoding=encoding, leave_out=leave_out) for source in group]
    _require_different(inputs)
    return inputs


def _is_single_file(source: str | Path) -> bool:
    if storage.is_url(source):
        return storage.suffix(source) not in _OF_ITEMS and not str(source).endswith("/") and storage.kind_of(source) == "file"
    return Path(source).suffix.lower() not in _OF_ITEMS and storage.kind_of(source) == "file"


def _files(files: Sequence[str | Path], encoding: str | None) -> Items:
    """Each of the files as an item; its id is the file's name as it was given."""

    def read() -> Iterator[BatchItem]:
        for file in files:
            id = storage.shown(file)
            # Absolute: the working folder may be another one before an item's turn comes.
            place = file if storage.is_url(file) else Path(file).absolute()
            yield BatchItem(id, "", (DocumentFile(place, id),), encoding)

    return Items([item.id for item in read()], read)


def _require_different(inputs: Sequence[Items]) -> None:
    seen: set[str] = set()
    for items in inputs:
        for id in items.ids:
            if id in seen:
                raise InputError(
                    f"Two documents of the sources are called {id!r}; pages are told apart by it.",
                    hint="Give each an id of its own, or draw the sources into a folder each.",
                )
            seen.add(id)
