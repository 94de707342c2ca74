"""Writing a file so that what stands under its name is always whole. Knows nothing of what is in it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from glyph_pipeline.errors import OutputError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name first: what stands there under its own name is always whole. Raises OutputError."""
    try:
        path.parent.mkdir(exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".glyph-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise not_written(path, e) from e


@contextmanager
def writing_whole(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content is the file ``path``, on the disk and whole, when the block ends; if the block raises, nothing is there.

    Missing folders are made. Raises OutputError for what can't be written, OSError out of the block included.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".glyph-")
        try:
            with os.fdopen(handle, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(handle)
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as e:
        raise not_written(path, e) from e
    sync_folder(path.parent)


@contextmanager
def kept_aside(what: str, until: str) -> Iterator[None]:
    """Raise OutputError for what can't be written in the block to the folder for temporary files."""
    try:
        yield
    except OSError as e:
        raise OutputError(
            f"{what} can't be kept in {tempfile.gettempdir()!r} until {until}: {e.strerror or e}.",
            hint="Make room there, or name another folder by the environment variable TMPDIR.",
        ) from e


def sync_folder(folder: Path) -> None:
    """So that a new name outlives a power failure; not everywhere can a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def not_written(path: Path, error: OSError) -> OutputError:
    """The error that says why a path could not be written."""
    return OutputError(
        f"{str(path)!r} can't be written: {error.strerror or error}.", hint="Name another folder with --output, or make room."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
