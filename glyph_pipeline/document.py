"""Document: a text with an id and metadata, and reading one from a file or a stream. Knows no rendering."""

from __future__ import annotations

import codecs
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeAlias

from glyph_pipeline.conversion import NAMES, converted, format_of
from glyph_pipeline.errors import BinaryDocumentError, EmptyDocumentError, EncodingError, InputError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# First bytes of formats people point a text tool at.
_SIGNATURES = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP archive or an Office document",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x1f\x8b": "a gzip archive",
    b"\x7fELF": "a program",
    b"\xd0\xcf\x11\xe0": "an old Office document",
}
_CONTROLS = frozenset(range(0x20)) - {0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F}

# U+00AD and U+200B are not drawn (rendering/canonical.py), white space leaves no ink. A search ends at the first character that does.
_INK = re.compile("[^\\s\u00ad\u200b]")


@dataclass(frozen=True, slots=True)
class Document:
    """A text to be drawn. ``id`` names it in reports and quotes, empty for a text without a name; ``metadata`` is carried
    along, never interpreted."""

    text: str
    id: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path, encoding: str | None = None, *, convert: bool = True) -> Document:
        """The document of a file, or of standard input for ``-``; its id is the path as given.

        Without ``encoding`` a byte order mark decides, else UTF-8. PDF, DOCX and HTML are converted to text (conversion.py), which is
        what ``Page.start`` and ``end`` then count in; without ``convert`` HTML is text as it stands, and the others are refused.

        Raises InputError if it can't be read or converted, EmptyDocumentError, BinaryDocumentError, EncodingError with the offset of the
        first bad byte, or MissingExtraError if converting needs the extra ``docs``.
        """
        name = "standard input" if str(path) == "-" else str(path)
        try:
            data = _standard_input().read() if str(path) == "-" else Path(path).read_bytes()
        except FileNotFoundError:
            raise InputError(f"There is no file {name!r}.", hint="Check the path; '-' reads standard input.") from None
        except IsADirectoryError:
            raise InputError(f"{name!r} is a folder.", hint="Name the files in it.") from None
        except (OSError, ValueError) as e:
            raise InputError(f"{name!r} can't be read: {getattr(e, 'strerror', None) or e}.") from e
        return cls.from_bytes(data, name, encoding, convert=convert, id="stdin" if str(path) == "-" else str(path))

    @classmethod
    def from_bytes(cls, data: bytes, name: str, encoding: str | None = None, *, convert: bool = True, id: str | None = None) -> Document:
        """The document of a file's bytes; ``name`` is the file's, for messages and for its kind, and its id unless there is an ``id``.

        Raises what :meth:`read` raises of what is in the file.
        """
        kind = format_of(data, name) if convert else None
        text = decode(data, name, encoding) if kind is None else _converted(data, kind, name, encoding)
        return cls(text, id=name if id is None else id)


Documents: TypeAlias = "str | Document | Iterable[Document]"


def as_documents(source: Documents) -> list[Document]:
    """One or more documents from what the public functions take. Raises EmptyDocumentError if there is none, or one is blank."""
    if isinstance(source, str):
        documents = [Document(source)]
    else:
        documents = [source] if isinstance(source, Document) else list(source)
    if not documents:
        raise EmptyDocumentError("There is no document.", hint="Give at least one text.")
    for document in documents:
        require_text(document)
    return documents if len(documents) == 1 else _told_apart(documents)


def _told_apart(documents: list[Document]) -> list[Document]:
    """The documents, none without a name and no two with the same: quotes, citations and page folders go by them."""
    names: set[str] = set()
    again: dict[str, int] = {}
    named = []
    for number, document in enumerate(documents, 1):
        name = wanted = document.id or f"document {number}"
        while name in names:
            again[wanted] = again.get(wanted, 1) + 1
            name = f"{wanted} ({again[wanted]})"
        names.add(name)
        named.append(document if document.id == name else replace(document, id=name))
    return named


def require_text(document: Document) -> None:
    """Raise EmptyDocumentError if nothing of the document would leave ink on a page."""
    if not _INK.search(document.text):
        name = f"document {document.id!r}" if document.id else "text"
        raise EmptyDocumentError(f"The {name} is empty: there is nothing to draw.", hint="Give a text that is not only white space.")


def decode(data: bytes, name: str, encoding: str | None = None) -> str:
    """Bytes of a text file as str, see :meth:`Document.read`; ``name`` is for the messages. Line ends stay as they are."""
    if not data or data.isspace():
        raise EmptyDocumentError(f"{name!r} is empty: there is nothing to draw.", hint="Give a file with text in it.")
    for signature, kind in _SIGNATURES.items():
        if data.startswith(signature):
            raise BinaryDocumentError(f"{name!r} is {kind}, not a text file.", hint="Convert it to plain text first.")
    bom, marked = next(((bom, codec) for bom, codec in _BOMS if data.startswith(bom)), (b"", "utf-8"))
    try:
        codec = codecs.lookup(encoding or marked).name
    except LookupError:
        raise EncodingError(
            f"There is no encoding {encoding!r}.", hint="Examples: utf-8, latin-1, cp1252, utf-16, gb18030, shift_jis."
        ) from None
    skipped = 0
    if codec in {"utf-8", "utf-8-sig"}:
        codec, skipped = "utf-8", len(codecs.BOM_UTF8) if bom == codecs.BOM_UTF8 else 0
        offset = next((index for index, byte in enumerate(data[:65536]) if byte in _CONTROLS), None)
        if offset is not None:
            raise BinaryDocumentError(
                f"{name!r} is not a text file: byte {offset} is the control character 0x{data[offset]:02X}.",
                hint="Convert it to plain text, or name its encoding with --encoding (e.g. utf-16).",
            )
    try:
        text = data[skipped:].decode(codec)
    except UnicodeDecodeError as e:
        at = e.start + skipped
        line = data.count(b"\n", 0, at) + 1
        raise EncodingError(
            f"{name!r} is not valid {codec}: byte 0x{data[at]:02X} at offset {at} (line {line}): {e.reason}.",
            hint="Name its encoding with --encoding (e.g. latin-1), or mend the file.",
        ) from None
    except (UnicodeError, LookupError) as e:  # also codecs that are no text encodings, such as base64
        raise EncodingError(f"{name!r} can't be read as {codec}: {e}.", hint="Name another encoding with --encoding.") from None
    if not text or text.isspace():
        raise EmptyDocumentError(f"{name!r} is empty: there is nothing to draw.", hint="Give a file with text in it.")
    return text


def _converted(data: bytes, kind: str, name: str, encoding: str | None) -> str:
    text = converted(data, kind, name, encoding)
    if not text.strip():
        if kind == "pdf":
            raise EmptyDocumentError(
                f"{name!r} is a PDF without text: its pages may be pictures.", hint="Put a layer of text under them by OCR first."
            )
        raise EmptyDocumentError(
            f"{name!r} is {NAMES[kind]} without text.", hint="Pictures in it are not read, nor what a script would write."
        )
    return text


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise InputError("Standard input is closed.", hint="Name a file, or pipe the text in.")
    return sys.stdin.buffer
