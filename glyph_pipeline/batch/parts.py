"""The output of a batch as a folder of parts, local or at a URL: each appears whole, and none is changed after. Knows no items."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from glyph_pipeline import storage
from glyph_pipeline.batch.lock import RunLock, files_of
from glyph_pipeline.batch.partformats import FORMATS
from glyph_pipeline.batch.recordlines import record_line
from glyph_pipeline.errors import InputError, OutputError

RECORDS, BYTES, SECONDS = 5_000, 64 << 20, 30.0
"""A part is written when there are so many records, or bytes of them as JSON, or when the first has waited so long."""
_NAME = re.compile(r"part-(\d{6,})-([0-9a-f]{8})(\.\w+)")
_TEMPORARY = ".glyph-"
# Parts of an object store that are read at a time.
_READERS = 8


@contextmanager
def _as_output() -> Iterator[None]:
    """What can't be read of an output is an error of the output."""
    try:
        yield
    except InputError as e:
        raise OutputError(e.message, hint=e.hint) from e
    except OSError as e:
        raise OutputError(f"{e.filename!r} can't be used: {e.strerror or e}.", hint="Name another folder with --output.") from e


@dataclass
class _Part:
    """Records on their way. Once there is ``data``, it is what is written under the name, however often that is tried."""

    name: str
    rows: list[Any] = field(default_factory=list)
    size: int = 0
    data: bytes | None = None


class PartStore:
    """Records of items in a folder of parts, as a context manager; what is there when it is opened stays.

    ``done`` maps the ids of the items that need not be done again to their status, as of the opening; ``notices`` tells, for people,
    what went wrong when it was closed after another error. With ``retry_failed`` the records of failed items are removed first, part by
    part, and not in ``done``.

    A record is safe when its part is written: after ``records`` of them, ``bytes`` or ``seconds``, and when the store is left, also by
    an error. A process that is killed loses what it had not written; a second run does that again.

    A local folder is locked while it is open. At a URL two runs at once are not kept apart; parts of another run that turn up are an
    error when the next part is written, and items of both may be there twice, which the next opening refuses.

    Entering raises OutputError if the folder can't be written, another run writes it, or it holds anything but parts of this
    format, each id once; then nothing is changed. Leaving raises OutputError if records can't be written, or parts are gone.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        format: str = "jsonl",
        retry_failed: bool = False,
        records: int = RECORDS,
        bytes: int = BYTES,
        seconds: float = SECONDS,
    ) -> None:
        self.folder = str(folder)
        # Absolute: the working folder may be another one when a part is written.
        self._place = self.folder if storage.is_url(self.folder) else os.path.realpath(self.folder)
        self.done: Mapping[str, str] = MappingProxyType({})
        self.notices: list[str] = []
        self._format = FORMATS[format]
        self._retry_failed = retry_failed
        self._limits = records, bytes, seconds
        self._run = os.urandom(4).hex()
        self._number = 0
        self._there: set[str] = set()
        self._waiting: list[_Part] = []
        self._ids: set[str] = set()
        self._lock: RunLock | None = None
        # Guards all of these; told of when there is something to wait for.
        self._changed = threading.Condition()
        self._open = False
        self._due = 0.0
        self._timer: threading.Thread | None = None
        self._broken = False

    def __enter__(self) -> PartStore:
        self._format.require()
        try:
            with _as_output():
                self._make_folder()
                self._recover()
        except BaseException:
            self._release()
            raise
        self._open = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        try:
            with self._changed:
                self._open = False
                self._changed.notify_all()
                try:
                    with _as_output():
                        self._flush()
                        self._check_parts()
                except Exception as e:
                    if error is None:
                        raise
                    self.notices.append(str(e))  # what ended the run is not to be hidden by this
        finally:
            if self._timer is not None:
                self._timer.join()
            self._release()

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record; it is written with others, see the class. Thread-safe.

        Raises ValueError for what is no record (``id``, ``status``, JSON), can't be written in this format, or has an id that is
        already there; and OutputError if a part can't be written. The record is taken all the same, and tried again with the next.
        """
        id, line = record_line(record)
        row = self._format.row(record, line)
        with self._changed:
            if not self._open:
                raise ValueError("The store is not open.")
            if id in self._ids or id in self.done:
                raise ValueError(f"There is a record of {id!r} already.")
            self._ids.add(id)
            part = self._part()
            part.rows.append(row)
            part.size += len(line)
            records, size, _ = self._limits
            if self._broken or len(part.rows) >= records or part.size >= size:
                self._broken = False
                with _as_output():
                    self._flush()

    # -- opening ---------------------------------------------------------------------------------------------------------------

    def _make_folder(self) -> None:
        if self.folder == "-":
            raise OutputError("Results can't go to standard output: nothing could be resumed.", hint="Name a folder.")
        storage.make_folder(self._place)
        if not storage.is_url(self.folder):
            _, beside = files_of(self._place)
            lock = RunLock(beside, Path(self.folder))
            lock.take()
            self._lock = lock
        probe = storage.below(self._place, f"{_TEMPORARY}{self._run}")  # now, not when the first answers are there
        storage.write_whole(probe, b"")
        storage.remove(probe)

    def _recover(self) -> None:
        names = sorted(self._listed())
        for name in names:
            self._check_name(name)
        found: dict[str, str] = {}
        counts: list[int] = []
        failed: list[str] = []
        for name, rows in zip(names, self._read(names), strict=True):
            for id, status in rows:
                if id in found:
                    raise self._twice(id, list(found).index(id), names, counts)
                found[id] = status
            counts.append(len(rows))
            if any(status == "failed" for _, status in rows):
                failed.append(name)
        self._there = set(names)  # what arrives while they are read is another run's
        if self._retry_failed:
            for name in failed:
                self._remove_failed(name)
            found = {id: status for id, status in found.items() if status != "failed"}
        self.done = MappingProxyType(found)
        if not storage.is_url(self.folder):
            for left in Path(self._place).glob(f"{_TEMPORARY}*"):  # by a run that was killed
                left.unlink(missing_ok=True)
        self._number = max((int(match[1]) for name in names if (match := _NAME.fullmatch(name))), default=0)

    def _listed(self) -> set[str]:
        return {name for name, _ in storage.list_files(self._place) if not any(part.startswith(".") for part in name.split("/"))}

    def _check_name(self, name: str) -> None:
        match = _NAME.fullmatch(name)
        if match is None:
            raise self._foreign(name, "is no part of one")
        if match[3] != self._format.suffix:
            other = next((each.name for each in FORMATS.values() if each.suffix == match[3]), None)
            if other is None:
                raise self._foreign(name, "is no part of one")
            raise OutputError(
                f"{self._shown} holds parts of the format {other!r}, not {self._format.name!r}.",
                hint=f"Go on with --output-format {other}, or name another folder with --output.",
            )

    def _read(self, names: Sequence[str]) -> Iterator[list[tuple[str, str]]]:
        def read(name: str) -> list[tuple[str, str]]:
            with storage.open_read(storage.below(self._place, name)) as stream:
                try:
                    return list(self._format.statuses(stream))
                except ValueError as e:
                    raise self._foreign(name, f"is none of its parts: {e}") from None

        if not storage.is_url(self.folder):
            yield from map(read, names)
            return
        with ThreadPoolExecutor(_READERS) as readers:
            yield from readers.map(read, names)

    def _remove_failed(self, name: str) -> None:
        place = storage.below(self._place, name)
        with storage.open_read(place) as stream:
            data = self._format.without_failed(stream)
        if data:
            storage.write_whole(place, data)
        else:
            storage.remove(place)
            self._there.discard(name)

    # -- writing ---------------------------------------------------------------------------------------------------------------

    def _part(self) -> _Part:
        """The part that takes the next record."""
        if not self._waiting or self._waiting[-1].data is not None:
            self._number += 1
            self._waiting.append(_Part(f"part-{self._number:06d}-{self._run}{self._format.suffix}"))
            self._due = time.monotonic() + self._limits[2]
            if self._timer is None:
                self._timer = threading.Thread(target=self._watch, name="glyph-parts", daemon=True)
                self._timer.start()
            self._changed.notify_all()
        return self._waiting[-1]

    def _flush(self) -> None:
        """Write what waits, oldest first. Tried again after a failure, or Ctrl-C, a part has the same name and the same bytes: an object
        store may have it all the same, or get it later."""
        while self._waiting:
            part = self._waiting[0]
            if part.data is None:
                part.data = self._format.encode(part.rows)
            try:
                storage.write_whole(storage.below(self._place, part.name), part.data)
            except OutputError as e:
                raise OutputError(
                    f"{e.message} {sum(len(each.rows) for each in self._waiting):,} results are not written.",
                    hint="See to it, then run the same command again: it does what is not in the parts.",
                ) from e
            self._there.add(part.name)
            self._waiting.pop(0)
        self._check_runs()

    def _watch(self) -> None:
        """Write what has waited long enough, also where no further record comes."""
        with self._changed:
            while self._open:
                left = self._due - time.monotonic()
                if not self._waiting or left > 0:
                    self._changed.wait(left if self._waiting else None)
                    continue
                try:
                    with _as_output():
                        self._flush()
                    self._broken = False
                except BaseException:  # the next record tries again, and tells if that fails too
                    self._broken = True
                    self._due = time.monotonic() + self._limits[2]

    def _check_runs(self) -> None:
        others = sorted(name for name in self._listed() - self._there if self._run not in name)
        if others:
            raise OutputError(
                f"Another run is writing {self._shown}: {others[0]!r} is none of ours.",
                hint="Keep the parts of one of them, which have one ending each, and run that again.",
            )

    def _check_parts(self) -> None:
        gone = sorted(self._there - self._listed())
        if gone:
            raise OutputError(
                f"{len(gone)} parts of {self._shown} were removed while the batch ran, {gone[0]!r} among them.",
                hint="Run the same command again: it does their items again.",
            )

    # -- the rest --------------------------------------------------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        return repr(storage.shown(self.folder))

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _foreign(self, name: str, fault: str) -> OutputError:
        return OutputError(
            f"{self._shown} is not a batch's output: {name!r} in it {fault}. Nothing was changed.",
            hint="Name another folder with --output, or remove that file.",
        )

    def _twice(self, id: str, position: int, names: Sequence[str], counts: Sequence[int]) -> OutputError:
        again = names[len(counts)]
        before = again
        for name, count in zip(names, counts, strict=False):
            if position < count:
                before = name
                break
            position -= count
        where = f"{before!r} twice" if before == again else f"{before!r} and in {again!r}"
        return OutputError(
            f"{self._shown}: {id!r} has a result in {where}.", hint="Remove one of them, or name another folder with --output."
        )
