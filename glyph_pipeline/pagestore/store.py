"""PageStore: a folder of drawn pages, bounded in size, for several processes at once. Draws nothing; knows no fonts."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from glyph_pipeline.errors import ConfigError, OutputError
from glyph_pipeline.page import Page
from glyph_pipeline.pagestore.entries import BrokenEntryError, Entry, EntryWriter
from glyph_pipeline.pagestore.renderer import StoredRenderer
from glyph_pipeline.rendering.canonical import Losses
from glyph_pipeline.rendering.config import RenderConfig
from glyph_pipeline.report import FontUse

DEFAULT_MAX_BYTES = 10_000_000_000
# Making room, a little more is made than is needed: else a full folder would be listed for every document.
_ROOM = 0.9
# What a process left behind that was killed while it wrote. A living one may wait that long between two pages.
_STALE_S = 24 * 3600.0
_ENTRY = re.compile(r"[0-9a-f]{64}\.zip")


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a store is and how large it may become, for other processes."""

    folder: Path
    max_bytes: int

    def open(self) -> PageStore:
        """The store, one for each process and place. Raises OutputError."""
        return _opened(self)


class PageStore:
    """Pages kept in ``folder`` by their content, ``max_bytes`` of them at most: those used least recently go first.

    Several processes may use a folder at the same time. Nothing in it is trusted: what is broken or foreign is drawn again and
    replaced, and only files of the store's own names are ever removed. An entry being written comes on top of the bound; one larger than
    the bound is not kept. Entries are readable by their owner alone, for the pages are the documents.

    ``hits`` counts the documents whose pages all came from the store, ``misses`` those that were drawn. Safe to use from several threads.

    Raises OutputError if the folder can't be made or written, ConfigError for a bound below 1 or a folder without a name.
    """

    def __init__(self, folder: str | Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        if max_bytes < 1:
            raise ConfigError(f"A page store of {max_bytes} bytes can hold nothing.", hint="Give a larger size, or leave the store out.")
        if not str(folder):  # an unset variable of a shell; Path would take it for the current folder
            raise ConfigError("The page store has no name.", hint="Name a folder for it (--cache DIR).")
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self.hits = 0
        self.misses = 0
        self._counting = threading.Lock()
        self._unfinished = self.folder / "unfinished"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder_within in (self._unfinished, self.sent_folder):
                folder_within.mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._unfinished):
                pass
            self._lock = FileLock(str(self.folder / "lock"))
            with self._lock:
                self._remove_stale()
                self._note(self._make_room(0))  # counted anew: someone may have copied or removed entries
        except (OSError, NotImplementedError) as e:
            raise self.unusable(e) from e

    @property
    def place(self) -> StorePlace:
        """The store as something to send to another process."""
        return StorePlace(self.folder.absolute(), self.max_bytes)

    @property
    def sent_folder(self) -> Path:
        """Where a reader may keep which images a server was sent (see VLLMReader, ``uuid_folder``)."""
        return self.folder / "sent"

    def renderer(self, config: RenderConfig | None = None) -> StoredRenderer:
        """A renderer that draws only what the store doesn't have. Raises FontError as Renderer does."""
        return StoredRenderer(self, config or RenderConfig.preset("en"))

    def entry(self, key: str) -> Entry | None:
        """The entry of that key, now the one used last; None if there is no whole one. Close it."""
        path = self._path(key)
        try:
            entry = Entry(path, key)
        except BrokenEntryError:
            return None
        with suppress(OSError):  # removed by another process in this moment; what is open can still be read
            os.utime(path)
        return entry

    def draft(self, key: str) -> Draft:
        """A new entry, to be written. Raises OutputError."""
        try:
            for folder in (self.folder, self._unfinished):  # someone may have removed them
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Not in the way of what looks for entries, and on the same file system.
            handle, name = tempfile.mkstemp(dir=self._unfinished)
        except OSError as e:
            raise self.unusable(e) from e
        return Draft(self, os.fdopen(handle, "w+b"), Path(name), key)

    def count(self, *, hit: bool) -> None:
        """Count one document."""
        with self._counting:
            self.hits += hit
            self.misses += not hit

    def keep(self, written: Path, key: str) -> None:
        """Make a whole entry out of a written file, and room for it. Raises OSError."""
        path = self._path(key)
        with self._lock:
            size = written.stat().st_size
            if size > self.max_bytes:
                return
            total = self._total() - _size(path)
            if total + size > self.max_bytes:
                path.unlink(missing_ok=True)  # what is replaced needs no room
                total = self._make_room(size)
            # Before the file is there: killed in between, the store believes it is larger than it is, and counts again when it is full.
            self._note(total + size)
            written.replace(path)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.zip"

    def _total(self) -> int:
        """Bytes of all entries, as last noted. Whoever calls holds the lock."""
        with suppress(OSError, ValueError):
            total = int((self.folder / "total").read_text("ascii"))
            if total >= 0:
                return total
        return sum(size for _, _, size in self._entries())

    def _note(self, total: int) -> None:
        (self.folder / "total").write_text(f"{max(0, total)}\n", "ascii")

    def _make_room(self, size: int) -> int:
        """Remove the entries used least recently until ``size`` more bytes fit; the bytes of those that are left."""
        entries = sorted(self._entries())
        total = sum(size for _, _, size in entries)
        if total + size <= self.max_bytes:
            return total
        for _, path, entry_size in entries:
            if total + size <= self.max_bytes * _ROOM or not total:
                break
            with suppress(OSError):
                path.unlink()
                total -= entry_size
        return total

    def _entries(self) -> Iterator[tuple[int, Path, int]]:
        """(time of last use in ns, path, bytes) of each."""
        for path in self.folder.iterdir():
            if _ENTRY.fullmatch(path.name):
                with suppress(OSError):
                    stat = path.stat()
                    yield stat.st_mtime_ns, path, stat.st_size

    def _remove_stale(self) -> None:
        for path in self._unfinished.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()

    def unusable(self, error: Exception) -> OutputError:
        """The error that says why nothing can be kept."""
        reason = getattr(error, "strerror", None) or error
        return OutputError(
            f"The page store {str(self.folder)!r} can't be written: {reason}.",
            hint="Name another folder (--cache), make room, or go without.",
        )


class Draft:
    """An entry that is being written; ``close`` removes what was not kept. Raises OutputError."""

    def __init__(self, store: PageStore, file: BinaryIO, path: Path, key: str) -> None:
        self._store = store
        self._file = file
        self._path = path
        self._key = key
        self._writer = EntryWriter(file, key)

    def add(self, page: Page) -> None:
        """Write one page."""
        try:
            self._writer.add(page)
        except OSError as e:
            raise self._store.unusable(e) from e

    def keep(self, fonts: tuple[FontUse, ...], losses: Losses) -> None:
        """Finish the entry and put it in its place, if there is room for it."""
        try:
            self._writer.finish(fonts, losses)
            self._file.close()
            with suppress(FileNotFoundError):  # taken for one that a dead process left
                self._store.keep(self._path, self._key)
        except (OSError, NotImplementedError) as e:
            raise self._store.unusable(e) from e

    def close(self) -> None:
        """Remove what was not kept."""
        with suppress(OSError, ValueError):
            self._writer.close()
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


@lru_cache(maxsize=8)
def _opened(place: StorePlace) -> PageStore:
    return PageStore(place.folder, place.max_bytes)
