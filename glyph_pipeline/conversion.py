"""Conversion: the text of a PDF, a Word document or an HTML page, by markitdown. Knows no files and no documents of ours."""

from __future__ import annotations

import importlib
import io
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from glyph_pipeline.errors import EncodingError, GlyphError, InputError, MissingExtraError

NAMES = {"pdf": "a PDF", "docx": "a Word document", "html": "an HTML page"}
"""What is converted."""

_HTML_SUFFIXES = (".html", ".htm", ".xhtml")
_HTML_BEGIN = re.compile(
    # A comment ends at its first end: were it left open which, many comments would take for ever.
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*)?(?:<!--(?:(?!-->).)*-->\s*)*<(?:!doctype\s+html|html)\b",
    re.IGNORECASE | re.DOTALL,
)
# Bytes of all parts of a Word file, unpacked; the parsers take several times as much memory. A few MB may unpack to as many GB.
MAX_UNPACKED = 512_000_000
PDF_SECONDS = 600.0
PDF_MEMORY = 4 * 2**30
"""What the conversion of a PDF may take: seconds, and bytes of address space."""
_lock = threading.Lock()


def format_of(data: bytes, name: str) -> str | None:
    """``pdf``, ``docx`` or ``html``, if a file with this content and name is one; None for anything else.

    HTML goes by the end of the name, and by its first tag where the name has no end, as standard input's. A file such as ``x.txt``
    that begins with a tag is what its name says: text.
    """
    if data.startswith(b"%PDF-"):
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        return "docx" if _is_word(data) else None
    lower = name.lower()
    if lower.endswith(_HTML_SUFFIXES) or ("." not in re.split(r"[\\/]", lower)[-1] and _HTML_BEGIN.match(data[:4096])):
        return "html"
    return None


def converted(data: bytes, kind: str, name: str, encoding: str | None = None) -> str:
    """The text, with Markdown for headings, lists, tables and links; empty if there is none (a PDF of pictures).

    ``encoding`` is HTML's; without it a byte order mark or the page's own declaration decides, else UTF-8. Pictures are left out but for
    their names; nothing is fetched. Raises MissingExtraError, EncodingError, and InputError if it can't be converted (damaged, protected by a
    password, a Word document that unpacks to more than MAX_UNPACKED, or a PDF that takes longer than PDF_SECONDS or more than PDF_MEMORY).
    """
    if kind == "pdf":
        return _in_own_process(data, name)
    return _converted(data, kind, name, encoding)


def _in_own_process(data: bytes, name: str) -> str:
    """A PDF of a megabyte may unpack to a gigabyte and keep its parser busy for hours: it gets a process that can be ended."""
    # As in batch/drawing.py: not -m, which would put the working folder on the path.
    program = f"import sys; sys.path[:] = {[str(Path(entry).absolute()) for entry in sys.path]!r}; from glyph_pipeline.conversion import main; main()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=pickle.dumps((data, name, PDF_MEMORY)),
            capture_output=True,
            timeout=PDF_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError(
            f"{name!r} is a PDF that was not converted within {PDF_SECONDS:g} s.", hint="Save it as text, or in parts."
        ) from None
    try:
        answer = pickle.loads(done.stdout)
    except (EOFError, pickle.UnpicklingError):
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise InputError(
            f"{name!r} is a PDF that can't be converted: its process ended with {done.returncode}{f', {said[-1]}' if said else ''}.",
            hint="Save it as text, or in parts.",
        ) from None
    if isinstance(answer, GlyphError):
        raise answer
    return str(answer)


def main() -> None:
    """The process that converts one PDF: from standard input to standard output, as pickles; both ends are this package."""
    data, name, memory = pickle.loads(sys.stdin.buffer.read())
    # What a library may print must not get among the answer.
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(ImportError, ValueError, OSError):  # no such limits on Windows; a stricter one of the user's stands
        resource: Any = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        # It ends also if whoever started it was killed.
        resource.setrlimit(resource.RLIMIT_CPU, (int(PDF_SECONDS), int(PDF_SECONDS) + 5))
    answer: str | GlyphError
    try:
        answer = _converted(data, "pdf", name, None)
    except GlyphError as e:
        answer = e
    except MemoryError:
        answer = InputError(
            f"{name!r} is a PDF that needs more than {memory / 2**30:.1f} GiB of memory to be converted.",
            hint="Save it as text, or in parts.",
        )
    with outgoing:
        outgoing.write(pickle.dumps(answer))


def _converted(data: bytes, kind: str, name: str, encoding: str | None) -> str:
    converter = _converter(kind)
    if kind == "docx":
        _check_unpacked(data, name)
    if kind == "html":
        data, encoding = _decoded(data, name, encoding).encode("utf-8", "replace"), "utf-8"
    info = _markitdown("markitdown").StreamInfo(extension=f".{kind}", charset=encoding if kind == "html" else None)
    try:
        # One at a time: the parsers below are not said to be thread-safe, and neither is catching warnings.
        with _lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text: str = converter.convert(io.BytesIO(data), info).text_content
    except MemoryError:
        raise
    except Exception as e:  # whatever the parsers below it raise at a damaged file
        if type(e).__name__ == "MissingDependencyException":  # markitdown is here, but not its part for this format
            raise MissingExtraError("Reading PDF, Word and HTML files", "docs", package=f"markitdown[{kind}]") from e
        raise InputError(f"{name!r} is {NAMES[kind]} that can't be converted: {_reason(e)}.", hint=_hint(e)) from e
    return text


def _decoded(data: bytes, name: str, encoding: str | None) -> str:
    soup: Any = importlib.import_module("bs4.dammit")
    declared = encoding or soup.EncodingDetector.find_declared_encoding(data, is_html=True) or "utf-8"
    without_mark, marked = soup.EncodingDetector.strip_byte_order_mark(data)
    try:
        text: str = without_mark.decode(encoding or marked or declared)
    except UnicodeError as e:
        raise EncodingError(
            f"{name!r} is not valid {declared}: {e}.", hint="Name its encoding with --encoding (e.g. latin-1), or mend the file."
        ) from None
    except (LookupError, ValueError):  # a name with a NUL in it is a ValueError
        raise EncodingError(
            f"{name!r} says that it is in {declared!r}, which is no encoding.", hint="Name the right one with --encoding."
        ) from None
    return text


def _is_word(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return "word/document.xml" in archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def _check_unpacked(data: bytes, name: str) -> None:
    """Raise InputError if the parts are too large together. What they say of their size binds: zipfile hands out no more."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > MAX_UNPACKED:
        raise InputError(
            f"{name!r} is a Word document that unpacks to {size:,} bytes; more than {MAX_UNPACKED:,} are not read.",
            hint="Save it as text, or in parts, and without its pictures.",
        )


def _reason(error: Exception) -> str:
    """In one line."""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}{f', {words[0]}' if words else ''}"


def _hint(error: Exception) -> str:
    if any(word in _reason(error).lower() for word in ("password", "encrypt")):
        return "It is protected: save it without its password first."
    return "Open it in its own program and save it anew, or save it as text."


def _converter(kind: str) -> Any:
    """The one for this format: markitdown as a whole would take what its parser refuses for plain text, and loads a model to guess formats."""
    module = _markitdown("markitdown.converters")
    # pdfminer remarks on every oddity of a file, on standard error.
    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)
    return {"pdf": module.PdfConverter, "docx": module.DocxConverter, "html": module.HtmlConverter}[kind]()


def _markitdown(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError("Reading PDF, Word and HTML files", "docs", package="markitdown") from error
