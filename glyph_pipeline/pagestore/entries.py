"""Entries: the pages of one document in one file, written as they are drawn and read as they are asked for. Knows no folder and no fonts.

An entry is a ZIP file without compression: each page as a PNG, and ``pages.json`` with what else there is to a page, the fonts that
drew and what was lost. Its times are fixed, so the same pages give the same bytes.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from glyph_pipeline.page import Page
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.report import FontUse

FORMAT = 1
_INDEX = "pages.json"
_TIME = (1980, 1, 1, 0, 0, 0)  # the first that ZIP can tell
# What reading a file raises that is no entry, or no longer whole.
_BROKEN = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    OverflowError,
    NotImplementedError,  # ways of packing that are not ours
    RuntimeError,  # encrypted
    RecursionError,
    MemoryError,  # a size in the file that can't be
)


class BrokenEntryError(Exception):
    """The file is no entry of that key, or not a whole one."""


class EntryWriter:
    """Writes an entry into an open file, a page at a time. Raises OSError."""

    def __init__(self, file: BinaryIO, key: str) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_STORED)
        self._key = key
        self._pages: list[dict[str, Any]] = []

    def add(self, page: Page) -> None:
        """Write one page."""
        self._write(_name(page.number), page.png)
        # Its document is left out: equal texts share an entry.
        self._pages.append(
            {
                "number": page.number,
                "width": page.width,
                "height": page.height,
                "start": page.start,
                "end": page.end,
                "lines": page.lines,
                "columns": page.columns,
            }
        )

    def finish(self, fonts: tuple[FontUse, ...], losses: Losses) -> None:
        """Write the index, which makes the entry whole."""
        index = {
            "format": FORMAT,
            "key": self._key,
            "fonts": [asdict(font) for font in fonts],
            "missing": dict(sorted(losses.missing.items())),
            "removed": losses.removed,
            "invisible": losses.invisible,
            "pages": self._pages,
        }
        # ASCII: a text may hold lone surrogates, which have no UTF-8.
        self._write(_INDEX, json.dumps(index, separators=(",", ":")).encode("ascii"))
        self.close()

    def close(self) -> None:
        """Let go of the file; without an index it is no entry."""
        self._zip.close()

    def _write(self, name: str, data: bytes) -> None:
        entry = zipfile.ZipInfo(name, _TIME)
        entry.create_system = 3  # not the system's own number: the same bytes everywhere
        entry.external_attr = 0o600 << 16
        self._zip.writestr(entry, data)


class Entry:
    """An entry, open for reading. Raises BrokenEntryError if the file is none of that key."""

    def __init__(self, path: Path, key: str) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except _BROKEN as e:
            raise BrokenEntryError(str(path)) from e
        try:
            index = json.loads(self._read(_INDEX))
            if (index["format"], index["key"]) != (FORMAT, key):
                raise ValueError("another entry")
            self.fonts = tuple(FontUse(**font) for font in index["fonts"])
            self.losses = Losses(Counter(index["missing"]), int(index["removed"]), int(index["invisible"]))
            self._pages: list[dict[str, Any]] = list(index["pages"])
        except _BROKEN as e:
            self.close()
            raise BrokenEntryError(str(path)) from e
        except BaseException:
            self.close()
            raise

    def pages(self, document: str | None) -> Iterator[Page]:
        """The pages, read one at a time, with this document's id. Raises BrokenEntryError where the file is damaged."""
        for facts in self._pages:
            try:
                columns = tuple((left, right) for left, right in facts["columns"])
                png = self._read(_name(facts["number"]))
                page = Page(**{**facts, "png": png, "lines": tuple(facts["lines"]), "document": document, "columns": columns})
            except _BROKEN as e:
                raise BrokenEntryError(str(self._zip.filename)) from e
            yield page

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def _read(self, name: str) -> bytes:
        """A file of the entry, whose checksum is right."""
        entry = self._zip.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED:
            raise ValueError("packed")
        return self._zip.read(entry)


def _name(number: int) -> str:
    return f"page_{number:04d}.png"
