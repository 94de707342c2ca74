"""The output of a batch: JSON records, one a line, locked, mended and appended to so that nothing done is lost. Knows no items."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from glyph_pipeline.batch.lock import RunLock, files_of
from glyph_pipeline.batch.recordlines import UnfinishedError, copy_part, free_name, is_ours, parse_line, record_line
from glyph_pipeline.errors import OutputError
from glyph_pipeline.files import sync_folder

__all__ = ["ResultStore", "files_of"]

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
_RESUME = "then run the same command again: it goes on where this run stopped."


class ResultStore:
    """Records of items in a file, as a context manager: one process at a time, and what is there when it is opened stays.

    ``done`` maps the ids of the items that need not be done again to their status, as of the opening; ``notices`` tells, for
    people, what was mended. With ``retry_failed`` the records of failed items are removed first and not in ``done``.

    Entering raises OutputError if the path can't be written, another run writes it, or it holds anything but records, each id
    once; then its content is left as it is. Leaving raises OutputError if the file was removed meanwhile; it is put back first.
    """

    def __init__(self, path: str | Path, *, retry_failed: bool = False) -> None:
        self.path = Path(path)
        self.done: Mapping[str, str] = MappingProxyType({})
        self.notices: list[str] = []
        self._retry_failed = retry_failed
        self._mutex = threading.Lock()
        self._real, self._lock_path = self.path, self.path
        self._lock: RunLock | None = None
        self._fd: int | None = None
        self._size = 0  # up to the end of the last whole record: moving it is what makes a record count
        self._torn = False  # behind _size there is a rest of ours that could not be cut off
        self._ids: set[str] = set()

    def __enter__(self) -> ResultStore:
        try:
            self._real, self._lock_path = self._resolved()
            self._take_lock()
            try:
                self._fd = os.open(self._real, _FLAGS, 0o666)
                self._recover()
                sync_folder(self._real.parent)
            except BaseException:
                self._close()
                raise
        except OSError as error:
            where = f" ({error.filename!r})" if error.filename and str(error.filename) != str(self.path) else ""
            raise OutputError(
                f"{str(self.path)!r} can't be written: {error.strerror or error}{where}.",
                hint="Make room or mend the permissions, or name another file with --output.",
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        with self._mutex:
            try:
                if self._size and (what := self._gone()):
                    told = self._put_back(what, b"")
                    if error is None:
                        raise told
                    self.notices.append(str(told))  # what ended the run is not to be hidden by this
            finally:
                self._close()

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a record: when this returns it is on the disk, whole; when it raises, it is not, unless the message says so.

        Thread-safe. Raises ValueError for what is no record (``id``, ``status``, JSON) or has an id that is already there, and
        OutputError if it can't be written, or if the file was removed, replaced or written to by somebody else.
        """
        id, line = record_line(record)
        with self._mutex:
            if self._fd is None:
                raise ValueError("The store is not open.")
            if id in self._ids:
                raise ValueError(f"There is a record of {id!r} already.")
            self._ids.add(id)
            end = self._size + len(line)
            try:
                if what := self._gone():
                    raise self._put_back(what, line)
                self._append(self._fd, line, f"the record of {id!r}")
            finally:
                if self._size < end:
                    self._ids.discard(id)

    # -- opening ---------------------------------------------------------------------------------------------------------------

    def _resolved(self) -> tuple[Path, Path]:
        if str(self.path) == "-":
            raise OutputError("Results can't go to standard output: nothing could be resumed.", hint="Name a file.")
        try:
            real, lock = files_of(self.path)
        except ValueError as e:  # a NUL byte
            raise OutputError(f"{str(self.path)!r} is no path: {e}.", hint="Name another file.") from None
        try:
            if self.path.is_symlink() and not real.parent.is_dir():
                raise OutputError(
                    f"{str(self.path)!r} is a symbolic link to {str(real)!r}, a folder that is not there.",
                    hint="Make the folder, or name another file.",
                )
            if real.parent.exists() and not real.parent.is_dir():
                raise OutputError(f"{str(real.parent)!r} is a file, not a folder.", hint="Name another file for the results.")
            real.parent.mkdir(parents=True, exist_ok=True)
            mode = real.stat().st_mode
        except FileNotFoundError:
            return real, lock
        if stat.S_ISDIR(mode):
            raise OutputError(f"{str(self.path)!r} is a folder.", hint="Name a file for the results, such as results.jsonl in it.")
        if not stat.S_ISREG(mode):
            raise OutputError(f"{str(self.path)!r} is a pipe, a socket or a device: nothing could be resumed.", hint="Name a file.")
        return real, lock

    def _take_lock(self) -> None:
        lock = RunLock(self._lock_path, self.path)
        lock.take()
        self._lock = lock

    def _recover(self) -> None:
        """Read what is there, cut off what a crash left unfinished, remove what is to be done again."""
        assert self._fd is not None
        whole = os.fstat(self._fd).st_size
        lines: dict[str, int] = {}
        done: dict[str, str] = {}
        failed: list[tuple[int, int]] = []
        end, unended = 0, False
        with os.fdopen(os.dup(self._fd), "rb") as stream:
            stream.seek(0)
            if stream.read(1) not in b"{\0 \r\n\t":  # before a line of it is read, which may be all of it
                raise self._foreign(1, "it does not begin with '{'")
            stream.seek(0)
            for number, line in enumerate(stream, 1):
                try:
                    id, status = parse_line(line)
                except UnfinishedError as e:
                    if end + len(line) < whole or (number == 1 and not is_ours(line)):
                        raise self._foreign(number, str(e)) from None
                    self.notices.append(
                        f"The last line of {str(self.path)!r} (line {number}, {len(line):,} bytes) was not written to its end; "
                        "it is cut off, and its item is done again."
                    )
                    break
                except ValueError as e:
                    raise self._foreign(number, str(e)) from None
                if id in lines:
                    raise OutputError(
                        f"{str(self.path)!r}: lines {lines[id]} and {number} are both results of {id!r}.",
                        hint="Remove one of them, or name another file with --output.",
                    )
                lines[id] = number
                if status == "failed" and self._retry_failed:
                    failed.append((end, end + len(line)))
                else:
                    done[id] = status
                end += len(line)
                unended = not line.endswith(b"\n")
        self._size = end
        if end < whole:
            os.ftruncate(self._fd, end)
            os.fsync(self._fd)
        if unended:  # an editor's doing, or a crash's before the last byte: the record itself is whole
            self._append(self._fd, b"\n", "a line end")
        if failed:
            self._remove(failed)
        self._ids = set(done)
        self.done = MappingProxyType(done)

    def _remove(self, spans: list[tuple[int, int]]) -> None:
        ends = [0, *(end for _, end in spans)]
        starts = [*(start for start, _ in spans), self._size]
        temporary = self._copied(self._real.parent, zip(ends, starts, strict=True), b"")
        try:
            self._reopen(temporary, self._real)
        finally:
            temporary.unlink(missing_ok=True)

    # -- writing ---------------------------------------------------------------------------------------------------------------

    def _append(self, fd: int, data: bytes, what: str) -> None:
        if self._torn:
            self._cut(fd)
        if not self._torn and (size := os.fstat(fd).st_size) != self._size:
            raise OutputError(
                f"{str(self.path)!r} was written to by something else: it has {size:,} bytes in place of {self._size:,}; "
                f"{what} is not written.",
                hint=f"See what is in it, {_RESUME}",
            )
        end = self._size + len(data)
        try:
            if self._torn:
                raise OSError(errno.EIO, "what a failed write left behind can't be cut off")
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            os.fsync(fd)
            self._size = end
        except OSError as e:
            self._cut(fd)
            full = "the disk, the quota or the limit on a file's size is full" if e.errno in _FULL else "writing failed"
            torn = "; an unfinished line is left at its end, which the next run cuts off" if self._torn else ""
            raise OutputError(
                f"{str(self.path)!r}: {full} ({e.strerror or e}): {what} is not written. The results before it are whole{torn}.",
                hint=f"Make room, {_RESUME}",
            ) from e
        except BaseException:  # Ctrl-C in between
            if self._size < end:
                self._cut(fd)
            raise

    def _cut(self, fd: int) -> None:
        """Back to the last whole record; a full disk doesn't hinder it."""
        self._torn = True
        with suppress(OSError):
            os.ftruncate(fd, self._size)
            os.fsync(fd)
            self._torn = False

    # -- when the file goes away under us --------------------------------------------------------------------------------------

    def _gone(self) -> str | None:
        """What became of the file's name, if it is no longer the open file's."""
        if self._fd is None:
            return None
        try:
            there = self._real.stat()
        except (FileNotFoundError, NotADirectoryError):
            return "removed or moved"
        except OSError:
            return None  # can't be told; what is written goes to the open file in any case
        return None if os.path.samestat(there, os.fstat(self._fd)) else "replaced by another file"

    def _put_back(self, what: str, line: bytes) -> OutputError:
        """Save all records and ``line`` under the old name, or where it can be done; the error that tells."""
        was = f"{str(self.path)!r} was {what} while the batch ran"
        added = ", with the newest result" if line else ""
        try:
            target, told = self._room()
            self._save(target, line)
            return OutputError(f"{was}. All results so far were put back{added}{told}.", hint=f"See to it, {_RESUME}")
        except (OSError, OutputError) as e:
            reason = e
        try:
            target = Path(tempfile.mkdtemp(prefix="glyph-batch-")) / self._real.name
            self._save(target, line)
        except OSError as e:
            return OutputError(f"{was}, and can't be put back ({reason}) nor saved elsewhere ({e}).", hint="Run the batch again.")
        return OutputError(
            f"{was}, and can't be put back ({reason}). All results so far are in {str(target)!r}{added}.", hint=f"Move it, {_RESUME}"
        )

    def _room(self) -> tuple[Path, str]:
        """Where the records go, and what else there is to tell."""
        self._real.parent.mkdir(parents=True, exist_ok=True)
        if self._lock is None or not self._lock.stands():  # went with its folder, so that another run may have begun there
            old = self._lock
            try:
                self._take_lock()
            except OutputError as e:
                target = free_name(self._real, "saved")
                return target, f" as {str(target)!r}: {e.message.rstrip('.')}"
            if old is not None:
                old.release()
        if not os.path.lexists(self._real):
            return self._real, ""
        aside = free_name(self._real, "found")
        self._real.rename(aside)
        return self._real, f"; what stood there is {str(aside)!r} now"

    def _save(self, target: Path, line: bytes) -> None:
        temporary = self._copied(target.parent, [(0, self._size)], line)
        try:
            self._reopen(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        self._real = target

    def _copied(self, folder: Path, spans: Iterable[tuple[int, int]], more: bytes) -> Path:
        """A new file in ``folder`` with these parts of the open file, its owner and its permissions, and ``more``."""
        assert self._fd is not None
        handle, name = tempfile.mkstemp(dir=folder, prefix=".glyph-")
        try:
            with os.fdopen(handle, "wb") as out:
                for start, end in spans:
                    copy_part(self._fd, out, start, end)
                out.write(more)
                out.flush()
                os.fsync(handle)
            before = os.fstat(self._fd)
            if hasattr(os, "chown"):
                with suppress(PermissionError):
                    os.chown(name, before.st_uid, before.st_gid)
            Path(name).chmod(stat.S_IMODE(before.st_mode))
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return Path(name)

    def _reopen(self, source: Path, target: Path) -> None:
        """Give ``source`` the name ``target`` and go on with it."""
        assert self._fd is not None
        if os.name == "nt":  # where an open file keeps its name
            os.close(self._fd)
            self._fd = None
            try:
                source.replace(target)
            finally:
                self._fd = os.open(target, _FLAGS, 0o666)
            self._size = os.fstat(self._fd).st_size
        else:
            # Opened first: whatever fails then, there is one handle that has all the records.
            new = os.open(source, _FLAGS)
            try:
                size = os.fstat(new).st_size
                source.replace(target)
            except BaseException:
                os.close(new)
                raise
            old = self._fd
            self._fd, self._size = new, size
            os.close(old)
        self._torn = False
        sync_folder(target.parent)

    # -- the rest --------------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _foreign(self, number: int, fault: str) -> OutputError:
        return OutputError(
            f"{str(self.path)!r} is not a batch's output: line {number} is no result: {fault}. Nothing was changed.",
            hint="Name another file with --output, or remove that line.",
        )
