"""The lock beside a batch's output: one run at a time writes it. Knows no records."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from glyph_pipeline.errors import OutputError


def files_of(path: str | Path) -> tuple[Path, Path]:
    """The file or the folder that is written for a local output (links followed), and the lock beside it. Raises OutputError for ``/``."""
    real = Path(os.path.realpath(path))
    if not real.name:
        raise OutputError(f"{str(path)!r} is no place for an output.", hint="Name a file, or a folder of its own, with --output.")
    return real, real.with_name(real.name + ".lock")


class RunLock:
    """A lock file, held from :meth:`take` to :meth:`release`; a process that dies holds it no longer. ``output`` is for the messages."""

    def __init__(self, path: Path, output: Path) -> None:
        self._path = path
        self._output = output
        self._lock: FileLock | None = None
        self._stat: os.stat_result | None = None

    def take(self) -> None:
        """Raises OutputError if another process has it, or this one by another store, and OSError if it can't be had at all."""
        before = b""
        with suppress(OSError):
            before = self._path.read_bytes()
        lock = FileLock(self._path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with suppress(OSError):  # old versions of filelock empty the file even when they don't get it
                if not self._path.read_bytes():
                    self._path.write_bytes(before)
            holder = f" (process {before.decode()})" if before.isdigit() else ""
            raise OutputError(
                f"Another run{holder} is writing {str(self._output)!r}.", hint="Wait for it to end, or name another file with --output."
            ) from None
        except NotImplementedError as e:
            raise OSError(errno.ENOTSUP, f"its file system has no locks ({e})") from e
        self._lock = lock
        with suppress(OSError):  # who holds it is a courtesy; on Windows the locked file can't be written
            self._path.write_bytes(str(os.getpid()).encode())
        try:
            self._stat = self._path.stat()
        except OSError:  # its file went away at once
            self.release()
            raise

    def stands(self) -> bool:
        """Whether its file is still there under its name: else another run may have begun. Raises OSError if that can't be told."""
        try:
            return self._stat is not None and os.path.samestat(self._path.stat(), self._stat)
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let it go, if it is held."""
        if self._lock is None:
            return
        with suppress(OSError):
            if self.stands():
                self._path.write_bytes(b"")  # the next holder is not to be taken for us
        self._lock.release()
        self._lock = None
