"""Writing a file so that what stands under its name is always whole. Knows nothing of what is in it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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


def not_written(path: Path, error: OSError) -> OutputError:
    """The error that says why a path could not be written."""
    return OutputError(
        f"{str(path)!r} can't be written: {error.strerror or error}.", hint="Name another folder with --output, or make room."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
