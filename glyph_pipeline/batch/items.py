"""The input of a batch: items from a folder or a JSON Lines file, one at a time. Knows no models, pages or results."""

from __future__ import annotations

import codecs
import json
import math
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from glyph_pipeline.document import Document, require_text
from glyph_pipeline.errors import EmptyDocumentError, EncodingError, InputError, UsageError

_SUFFIXES = (".jsonl", ".ndjson")
_SOURCES = ("text", "path", "documents")
_KEYS = ("id", *_SOURCES, "question", "metadata")
_ALLOWED = "Allowed are 'id', 'question', 'metadata', and one of 'text', 'path' and 'documents'; anything else goes under 'metadata'."
_ALLOWED_DOCUMENT = "A document is {'text': ...} or {'path': ...}, with 'id' and 'metadata' if you like."
# Metadata is written into the result again, some levels deeper; Python's JSON gives up at about 1000.
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document that is still in its file, until its turn comes."""

    path: Path
    id: str
    metadata: Mapping[str, object] = field(default_factory=dict)

    def read(self, encoding: str | None = None) -> Document:
        """The document. Raises InputError as :meth:`Document.read` does, and for what is no file (a pipe would wait for ever)."""
        path = self.path.absolute()  # so that a file '-' is no standard input
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
    """A line of the input that can't be used, and why."""

    id: str
    error: InputError


class Items:
    """The items of a batch: ``len()``, ``ids``, and an iterator that reads them again each time, holding one at a time.

    Iterating raises InputError if the input can no longer be read, or has other items than when it was opened.
    """

    def __init__(self, ids: Sequence[str], read: Callable[[], Iterator[BatchItem | BadItem]]) -> None:
        self.ids = ids
        self._read = read

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[BatchItem | BadItem]:
        return self._read()


def read_items(
    path: str | Path, *, question: str | None = None, encoding: str | None = None, leave_out: Collection[str | Path] = ()
) -> Items:
    """The items of a folder (each text file is one, asked ``question``) or of a JSON Lines file (a line is one).

    Of a folder: every file in it and its subfolders, sorted, without names that begin with a dot, subfolders that are symbolic
    links, pipes and devices, and the files of ``leave_out`` (the batch's own output may lie there). ``question`` is for lines
    without one, ``encoding`` for the files that are read, not for the JSON Lines themselves, which are UTF-8.

    Raises UsageError for standard input, a blank question, or a folder without a question; EncodingError for an encoding that
    does not exist; InputError if the input can't be read, is neither, is empty, or has one id twice. A single line that can't be
    used is a :class:`BadItem`.
    """
    if str(path) == "-":
        raise UsageError("A batch can't be read from standard input: it is read twice, and again to resume.", hint="Name a file.")
    if question is not None and (fault := _question_fault(question)):
        raise UsageError(f"The question {fault}.", hint="Give a question to ask about each item.")
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise EncodingError(f"There is no encoding {encoding!r}.", hint="Examples: utf-8, latin-1, cp1252, utf-16.") from None
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise InputError(f"There is no file or folder {str(path)!r}.", hint="Check the path.") from None
    except (OSError, ValueError) as e:
        raise _unreadable(path, e) from e
    if stat.S_ISDIR(mode):
        return _folder_items(path, question, encoding, leave_out)
    if not stat.S_ISREG(mode):
        raise InputError(f"{str(path)!r} is not a file: a batch is read more than once.", hint="Write the lines to a file first.")
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(
            f"{str(path)!r} is neither a folder nor JSON Lines (one object a line, in a file that ends with .jsonl or .ndjson).",
            hint="Rename it if it is JSON Lines; for text files, name their folder.",
        )
    return _line_items(_JsonLines(path, question, encoding))


def _folder_items(folder: Path, question: str | None, encoding: str | None, leave_out: Collection[str | Path]) -> Items:
    if question is None:
        raise UsageError(f"What shall be asked about each file of {str(folder)!r}?", hint="Give a question.")
    root = folder.absolute()  # the folder may be changed before an item's turn comes
    left_out = {os.path.realpath(path) for path in leave_out}
    files = [file for file in _files(root) if os.path.realpath(file) not in left_out]
    ids = sorted(file.relative_to(root).as_posix() for file in files)
    if not ids:
        raise InputError(f"There is no file in the folder {str(folder)!r}.", hint="Hidden files and folders do not count.")

    def read() -> Iterator[BatchItem | BadItem]:
        for id in ids:
            yield BatchItem(id, question, (DocumentFile(root / id, id),), encoding)

    return Items(ids, read)


def _files(root: Path) -> Iterator[Path]:
    def failed(error: OSError) -> None:  # os.walk would pass over what it can't list
        raise _unreadable(Path(error.filename or root), error) from error

    for parent, folders, files in os.walk(root, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            file = Path(parent, name)
            # A link to nothing is an item too, one that fails: it is not to be missing without a word.
            if not name.startswith(".") and (file.is_file() or not file.exists()):
                yield file


def _line_items(lines: _JsonLines) -> Items:
    ids: list[str] = []
    numbers: dict[str, int] = {}
    for number, item in lines.read():
        if item.id in numbers:
            raise InputError(
                f"{lines.name}: lines {numbers[item.id]} and {number} have one id, {item.id!r}; results are told apart by it.",
                hint="Give each line an 'id' of its own, or none: then it is named after its line.",
            )
        numbers[item.id] = number
        ids.append(item.id)
        del item  # its text is not to be held while the next line is read
    if not ids:
        raise InputError(f"{lines.name} has no items: it is empty.", hint="Write one JSON object a line.")

    def read() -> Iterator[BatchItem | BadItem]:
        changed = InputError(f"{lines.name} was changed while the batch ran.", hint="Run the batch again: what is done stays done.")
        found = 0
        for _, item in lines.read():
            if found >= len(ids) or item.id != ids[found]:
                raise changed
            found += 1
            held = [item]
            del item
            yield held.pop()  # and nothing here holds the text while the caller works on it
        if found < len(ids):
            raise changed

    return Items(ids, read)


class _JsonLines:
    """The lines of a file as items, with their numbers."""

    def __init__(self, path: Path, question: str | None, encoding: str | None) -> None:
        self.name = repr(str(path))
        self._path = path.absolute()
        self._question = question
        self._encoding = encoding

    def read(self) -> Iterator[tuple[int, BatchItem | BadItem]]:
        try:
            with self._path.open("rb") as stream:
                start = stream.read(4)
                if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or start == codecs.BOM_UTF32_BE:
                    raise InputError(f"{self.name} is UTF-16 or UTF-32; JSON Lines are UTF-8.", hint="Convert it: iconv -t UTF-8.")
                stream.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
                number = 0
                while raw := stream.readline():
                    number += 1
                    if not raw.isspace():
                        held = [raw]
                        del raw
                        yield number, self._item(number, held)
        except OSError as e:
            raise _unreadable(self._path, e) from e

    def _item(self, number: int, held: list[bytes]) -> BatchItem | BadItem:
        id = f"line {number}"
        where = f"{self.name}, line {number}"
        try:
            fields = _parsed(held, where)
            if "id" in fields:
                id = _string(fields, "id", where)
            return self._built(id, fields, where)
        except InputError as e:
            e.__traceback__ = e.__context__ = None  # they hold the line's text for as long as the error lives
            return BadItem(id, e)

    def _built(self, id: str, fields: dict[str, Any], where: str) -> BatchItem:
        _known(fields, _KEYS, where, _ALLOWED)
        sources = [key for key in _SOURCES if key in fields]
        if len(sources) != 1:
            given = " and ".join(map(repr, sources)) + " stand together" if sources else "there is no text"
            raise InputError(f"{where}: {given}.", hint="Give exactly one of 'text', 'path' and 'documents'.")
        if "question" not in fields and self._question is None:
            raise InputError(f"{where}: there is no 'question'.", hint="Write one into the line, or give one for all lines.")
        question = fields.get("question", self._question)
        if not isinstance(question, str) or (fault := _question_fault(question)):
            fault = fault if isinstance(question, str) else f"is {_kind(question)}"
            raise InputError(f"{where}: 'question' {fault}.", hint="It must be text: what to ask about the item.")
        metadata = _metadata(fields, where)
        if "documents" not in fields:
            name = _string(fields, "path", where) if "path" in fields else id
            return BatchItem(id, question, (self._document(fields, name, {}, where),), self._encoding, metadata)
        return BatchItem(id, question, self._documents(fields["documents"], id, where), self._encoding, metadata)

    def _documents(self, entries: object, id: str, where: str) -> tuple[Document | DocumentFile, ...]:
        if not isinstance(entries, list) or not entries:
            kind = _kind(entries) if entries != [] else "empty"
            raise InputError(f"{where}: 'documents' is {kind}.", hint="It must be a list of at least one object with 'text' or 'path'.")
        documents: list[Document | DocumentFile] = []
        names: dict[str, int] = {}
        for number, entry in enumerate(entries, 1):
            at = f"{where}, document {number}"
            if not isinstance(entry, dict):
                raise InputError(f"{at} is {_kind(entry)}.", hint=_ALLOWED_DOCUMENT)
            _known(entry, ("text", "path", "id", "metadata"), at, _ALLOWED_DOCUMENT)
            if ("text" in entry) == ("path" in entry):
                raise InputError(f"{at} has {'both' if 'text' in entry else 'neither'} 'text' and 'path'.", hint=_ALLOWED_DOCUMENT)
            nameless = f"document {number}" if len(entries) > 1 else id
            name = next((_string(entry, key, at) for key in ("id", "path") if key in entry), nameless)
            if name in names:
                raise InputError(
                    f"{where}: documents {names[name]} and {number} have one id, {name!r}; quotes are told apart by it.",
                    hint="Give each an 'id' of its own.",
                )
            names[name] = number
            documents.append(self._document(entry, name, _metadata(entry, at), at))
        return tuple(documents)

    def _document(self, fields: dict[str, Any], name: str, metadata: dict[str, object], where: str) -> Document | DocumentFile:
        if "path" in fields:
            return DocumentFile(self._path.parent / _string(fields, "path", where), name, metadata)
        text = fields["text"]
        if not isinstance(text, str):
            raise InputError(f"{where}: 'text' is {_kind(text)}.", hint="It must be text.")
        document = Document(text, name, metadata)
        try:
            require_text(document)
        except EmptyDocumentError:
            raise EmptyDocumentError(f"{where}: 'text' is empty.", hint="Give a text that is not only white space.") from None
        return document


def _parsed(held: list[bytes], where: str) -> dict[str, Any]:
    """The object of a line, which is taken out of ``held``: a line of 100 MB is not kept beside its text."""
    try:
        text = held.pop().rstrip(b"\r\n").decode("utf-8")
        fields = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except UnicodeDecodeError as e:
        raise EncodingError(
            f"{where} is not valid UTF-8: byte 0x{e.object[e.start]:02X} at offset {e.start} of the line: {e.reason}.",
            hint="JSON Lines are UTF-8; convert the file.",
        ) from None
    except json.JSONDecodeError as e:
        raise InputError(f"{where} is not JSON: {e.msg} (character {e.pos + 1}).", hint="Write one JSON object a line.") from None
    except ValueError as e:
        raise InputError(f"{where} is not JSON that can be used: {e}.", hint="Mend the line.") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply.", hint=f"At most {_DEEPEST} levels.") from None
    if not isinstance(fields, dict):
        raise InputError(f"{where} is {_kind(fields)}, not an object.", hint='Write {"text": ..., "question": ...}.')
    return fields


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:30]} is too large")
    return number


def _known(fields: Mapping[str, object], keys: Sequence[str], where: str, allowed: str) -> None:
    unknown = [key for key in fields if key not in keys]
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}.", hint=allowed)


def _string(fields: Mapping[str, object], key: str, where: str) -> str:
    value = fields[key]
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {key!r} is {_kind(value) if value != '' else 'empty'}.", hint="It must be text, in quotes.")
    return value


def _metadata(fields: Mapping[str, object], where: str) -> dict[str, object]:
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        raise InputError(f"{where}: 'metadata' is {_kind(metadata)}.", hint="It must be an object; it is carried along as it is.")
    level: list[object] = [metadata]
    for _ in range(_DEEPEST):
        level = [
            inner for value in level for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
    if level:
        raise InputError(f"{where}: 'metadata' is nested too deeply.", hint=f"At most {_DEEPEST} levels.")
    return metadata


def _question_fault(question: str) -> str | None:
    """What keeps a question from being asked; half of a surrogate pair can't be sent to any server."""
    if not question.strip():
        return "is empty"
    try:
        question.encode("utf-8")
    except UnicodeEncodeError as e:
        return f"has half a character (the surrogate U+{ord(question[e.start]):04X}) at position {e.start}"
    return None


def _kind(value: object) -> str:
    """What a JSON value is, for people."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return (
        "text"
        if isinstance(value, str)
        else "an object"
        if isinstance(value, dict)
        else "a list"
        if isinstance(value, list)
        else "a number"
    )


def _unreadable(path: Path, error: OSError | ValueError) -> InputError:
    return InputError(
        f"{str(path)!r} can't be read: {getattr(error, 'strerror', None) or error}.", hint="Check the path and its permissions."
    )
