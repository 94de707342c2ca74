"""What a line or a row of an input says, as an item: which keys there are and what they may hold. Reads no files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glyph_pipeline import storage
from glyph_pipeline.batch.values import BatchItem, DocumentFile
from glyph_pipeline.document import Document, require_text
from glyph_pipeline.errors import EmptyDocumentError, EncodingError, InputError

SOURCES = ("text", "path", "documents")
KEYS = ("id", *SOURCES, "question", "metadata")
ALLOWED = "Allowed are 'id', 'question', 'metadata', and one of 'text', 'path' and 'documents'; anything else goes under 'metadata'."
_ALLOWED_DOCUMENT = "A document is {'text': ...} or {'path': ...}, with 'id' and 'metadata' if you like."
# Metadata is written into the result again, some levels deeper; Python's JSON gives up at about 1000.
_DEEPEST = 100


@dataclass(frozen=True, slots=True)
class Common:
    """What holds for all items of an input: the question of those that bring none, the encoding of their files, the folder that their
    paths are relative to, and whether they are to be asked anything at all."""

    question: str | None
    encoding: str | None
    folder: str | Path
    questions: bool = True


def item_of(fields: Mapping[str, Any], id: str, where: str, common: Common) -> BatchItem:
    """The item of a line's or a row's fields. Raises InputError that says what is wrong ``where``."""
    known(fields, KEYS, where, ALLOWED)
    sources = [key for key in SOURCES if key in fields]
    if len(sources) != 1:
        given = " and ".join(map(repr, sources)) + " stand together" if sources else "there is no text"
        raise InputError(f"{where}: {given}.", hint="Give exactly one of 'text', 'path' and 'documents'.")
    question = _question(fields, where, common) if common.questions else ""
    metadata = _metadata(fields, where)
    if "documents" not in fields:
        name = string(fields, "path", where) if "path" in fields else id
        return BatchItem(id, question, (_document(fields, name, {}, where, common),), common.encoding, metadata)
    return BatchItem(id, question, _documents(fields["documents"], id, where, common), common.encoding, metadata)


def _question(fields: Mapping[str, Any], where: str, common: Common) -> str:
    if "question" not in fields and common.question is None:
        raise InputError(f"{where}: there is no 'question'.", hint="Write one into the line, or give one for all lines.")
    question = fields.get("question", common.question)
    if not isinstance(question, str) or (fault := question_fault(question)):
        fault = fault if isinstance(question, str) else f"is {_kind(question)}"
        raise InputError(f"{where}: 'question' {fault}.", hint="It must be text: what to ask about the item.")
    return question


def _documents(entries: object, id: str, where: str, common: Common) -> tuple[Document | DocumentFile, ...]:
    if not isinstance(entries, list) or not entries:
        kind = _kind(entries) if entries != [] else "empty"
        raise InputError(f"{where}: 'documents' is {kind}.", hint="It must be a list of at least one object with 'text' or 'path'.")
    documents: list[Document | DocumentFile] = []
    names: dict[str, int] = {}
    for number, entry in enumerate(entries, 1):
        at = f"{where}, document {number}"
        if not isinstance(entry, dict):
            raise InputError(f"{at} is {_kind(entry)}.", hint=_ALLOWED_DOCUMENT)
        known(entry, ("text", "path", "id", "metadata"), at, _ALLOWED_DOCUMENT)
        if ("text" in entry) == ("path" in entry):
            raise InputError(f"{at} has {'both' if 'text' in entry else 'neither'} 'text' and 'path'.", hint=_ALLOWED_DOCUMENT)
        nameless = f"document {number}" if len(entries) > 1 else id
        name = next((string(entry, key, at) for key in ("id", "path") if key in entry), nameless)
        if name in names:
            raise InputError(
                f"{where}: documents {names[name]} and {number} have one id, {name!r}; quotes are told apart by it.",
                hint="Give each an 'id' of its own.",
            )
        names[name] = number
        documents.append(_document(entry, name, _metadata(entry, at), at, common))
    return tuple(documents)


def _document(fields: Mapping[str, Any], name: str, metadata: dict[str, object], where: str, common: Common) -> Document | DocumentFile:
    if "path" in fields:
        place = storage.join(common.folder, string(fields, "path", where))
        return DocumentFile(place if storage.is_url(place) else Path(place), name, metadata)
    text = fields["text"]
    if not isinstance(text, str):
        raise InputError(f"{where}: 'text' is {_kind(text)}.", hint="It must be text.")
    document = Document(text, name, metadata)
    try:
        require_text(document)
    except EmptyDocumentError:
        raise EmptyDocumentError(f"{where}: 'text' is empty.", hint="Give a text that is not only white space.") from None
    return document


def parsed_object(held: list[bytes], where: str) -> dict[str, Any]:
    """The object of a line, which is taken out of ``held``: a line of 100 MB is not kept beside its text. Raises InputError."""
    try:
        text = held.pop().rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as e:
        raise EncodingError(
            f"{where} is not valid UTF-8: byte 0x{e.object[e.start]:02X} at offset {e.start} of the line: {e.reason}.",
            hint="JSON Lines are UTF-8; convert the file.",
        ) from None
    fields = parsed(text, where, "Write one JSON object a line.")
    if not isinstance(fields, dict):
        raise InputError(f"{where} is {_kind(fields)}, not an object.", hint='Write {"text": ..., "question": ...}.')
    return fields


def parsed(text: str, where: str, hint: str) -> Any:
    """The value of some JSON, as strict as it is written again. Raises InputError."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as e:
        raise InputError(f"{where} is not JSON: {e.msg} (character {e.pos + 1}).", hint=hint) from None
    except ValueError as e:
        raise InputError(f"{where} is not JSON that can be used: {e}.", hint="Mend it.") from None
    except RecursionError:
        raise InputError(f"{where} is nested too deeply.", hint=f"At most {_DEEPEST} levels.") from None


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


def known(fields: Mapping[str, object], keys: Sequence[str], where: str, allowed: str) -> None:
    """Raise InputError for a key that is none of ``keys``."""
    unknown = [key for key in fields if key not in keys]
    if unknown:
        raise InputError(f"{where}: unknown key {unknown[0]!r}.", hint=allowed)


def string(fields: Mapping[str, object], key: str, where: str) -> str:
    """A value that must be text. Raises InputError."""
    value = fields[key]
    if not isinstance(value, str) or not value:
        raise InputError(f"{where}: {key!r} is {_kind(value) if value != '' else 'empty'}.", hint="It must be text, in quotes.")
    return value


def _metadata(fields: Mapping[str, object], where: str) -> dict[str, object]:
    metadata = fields.get("metadata", {})
    if not isinstance(metadata, dict):
        raise InputError(f"{where}: 'metadata' is {_kind(metadata)}.", hint="It must be an object; it is carried along as it is.")
    level: list[object] = [metadata]
    depth = 0
    while level:
        if depth == _DEEPEST:
            raise InputError(f"{where}: 'metadata' is nested too deeply.", hint=f"At most {_DEEPEST} levels.")
        level = [
            inner for value in level for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
        ]
        depth += 1
    return metadata


def question_fault(question: str) -> str | None:
    """What keeps a question from being asked; half of a surrogate pair can't be sent to any server."""
    if not question.strip():
        return "is empty"
    try:
        question.encode("utf-8")
    except UnicodeEncodeError as e:
        return f"has half a character (the surrogate U+{ord(question[e.start]):04X}) at position {e.start}"
    return None


def unreadable(place: str | Path, error: OSError | ValueError) -> InputError:
    """The error that says why an input can't be read."""
    return InputError(
        f"{storage.shown(place)!r} can't be read: {getattr(error, 'strerror', None) or error}.", hint="Check the path and its permissions."
    )


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
