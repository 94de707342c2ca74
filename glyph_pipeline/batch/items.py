"""The input of a batch: the items of whatever is named as one, by its kind. Knows no models, pages or results."""

from __future__ import annotations

import codecs
import stat
from collections.abc import Collection
from pathlib import Path

from glyph_pipeline import storage
from glyph_pipeline.batch import jsonlines
from glyph_pipeline.batch.fields import Common, question_fault, unreadable
from glyph_pipeline.batch.folder import files_in, folder_items
from glyph_pipeline.batch.jsonlines import JsonLines
from glyph_pipeline.batch.parquet import SUFFIX, Parquet, parquet_files
from glyph_pipeline.batch.values import BadItem, BatchItem, DocumentFile, Items
from glyph_pipeline.errors import EncodingError, InputError, UsageError

__all__ = ["BadItem", "BatchItem", "DocumentFile", "Items", "read_items"]


def read_items(
    path: str | Path,
    *,
    question: str | None = None,
    encoding: str | None = None,
    leave_out: Collection[str | Path] = (),
    questions: bool = True,
) -> Items:
    """The items of a folder (each text file is one, asked ``question``), of a JSON Lines file (a line is one), or of Parquet (a row is
    one): one file, a folder whose name ends so, or a folder in which all files are Parquet. Any of them may be a URL (storage.py).

    A line or a row without an id is named after its place: ``line 7``, ``in.parquet row 7``. A path in it is relative to the folder of
    its file, or a URL. A cell that is null is not there; ``documents`` and ``metadata`` may be structs, maps or JSON text.

    Of a folder: every file in it and its subfolders, sorted, without names that begin with a dot, subfolders that are symbolic
    links, pipes and devices, and the files and folders of ``leave_out`` (the batch's own output may lie there). ``question`` is for
    lines without one, ``encoding`` for the files that are read, not for the JSON Lines themselves, which are UTF-8. Without
    ``questions`` nothing is asked: no item needs a question, and none has one.

    Raises UsageError for standard input, a blank question, or a folder without a question; EncodingError for an encoding that
    does not exist; InputError if the input can't be read, is none of these, is empty, has one id twice, or columns that no item has;
    MissingExtraError if something that reads it is not installed. A single line or row that can't be used is a :class:`BadItem`.
    """
    if str(path) == "-":
        raise UsageError("A batch can't be read from standard input: it is read twice, and again to resume.", hint="Name a file.")
    if questions and question is not None and (fault := question_fault(question)):
        raise UsageError(f"The question {fault}.", hint="Give a question to ask about each item.")
    require_encoding(encoding)
    place = path if storage.is_url(path) else Path(path)
    if _is_folder(place):
        return _items_of_folder(place, question, encoding, leave_out, questions)
    # Absolute: the working folder may be another one before an item's turn comes.
    place = place if isinstance(place, str) else place.absolute()
    common = Common(question, encoding, storage.parent(place), questions)
    if storage.suffix(place) in jsonlines.SUFFIXES:
        return JsonLines(place, repr(storage.shown(path)), common).items()
    if storage.suffix(place) == SUFFIX:
        return Parquet(question, encoding, questions).items_of_file(path)
    raise InputError(
        f"{storage.shown(path)!r} is neither a folder nor JSON Lines (one object a line, in a file that ends with .jsonl or .ndjson) "
        "nor Parquet (.parquet).",
        hint="Rename it if it is JSON Lines; for text files, name their folder.",
    )


def require_encoding(encoding: str | None) -> None:
    """Raise EncodingError if there is none of that name."""
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError:
        raise EncodingError(f"There is no encoding {encoding!r}.", hint="Examples: utf-8, latin-1, cp1252, utf-16.") from None


def _is_folder(place: str | Path) -> bool:
    if isinstance(place, str):
        kind = "folder" if place.endswith("/") else storage.kind_of(place)
        if kind is None:
            raise storage.no_such(place)
        return kind == "folder"
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        raise storage.no_such(place) from None
    except (OSError, ValueError) as e:
        raise unreadable(place, e) from e
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InputError(f"{str(place)!r} is not a file: a batch is read more than once.", hint="Write the lines to a file first.")
    return stat.S_ISDIR(mode)


def _items_of_folder(
    place: str | Path, question: str | None, encoding: str | None, leave_out: Collection[str | Path], questions: bool
) -> Items:
    files = files_in(place, leave_out)
    if rows := parquet_files(place, [name for name, _ in files]):
        return Parquet(question, encoding, questions).items(place, rows)
    if questions and question is None:
        raise UsageError(f"What shall be asked about each file of {storage.shown(place)!r}?", hint="Give a question.")
    return folder_items(place, files, question if questions and question is not None else "", encoding)
