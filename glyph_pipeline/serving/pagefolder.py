"""A private folder for page files, which a server of our own may read. Knows folders and one flag of vLLM, draws no page."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from glyph_pipeline.errors import ConfigError, OutputError
from glyph_pipeline.serving.flags import split_flags

MEDIA_FLAG = "--allowed-local-media-path"
_REMOVALS = 3


class PageFolder:
    """A new temporary folder that only this user may enter (mode 0700); gone after :meth:`remove`, or when Python exits.

    ``path`` is absolute and without symbolic links: vLLM compares it with resolved paths. Raises OutputError if it cannot be made.
    """

    def __init__(self) -> None:
        try:
            self.path = Path(tempfile.mkdtemp(prefix="glyph-pages-")).resolve()
        except OSError as error:
            raise OutputError(
                f"The folder for page files could not be made: {error.strerror or error}.", hint="Set TMPDIR to a folder with room."
            ) from error
        self._finalizer = weakref.finalize(self, _remove, self.path, os.getpid())

    @property
    def arguments(self) -> tuple[str, str]:
        """What tells vLLM that it may read files in here, and nowhere else."""
        return MEDIA_FLAG, str(self.path)

    def remove(self) -> None:
        """Delete it with all that is in it. May be called again."""
        self._finalizer()


def refuse_second_folder(*arguments: Sequence[str]) -> None:
    """Raise ConfigError if one of these command lines already says which files vLLM may read: it takes one folder only."""
    for flag in (flag for args in arguments for flag in split_flags([str(arg) for arg in args])):
        if flag.name == MEDIA_FLAG:
            raise ConfigError(
                f"{MEDIA_FLAG} {flag.value or ''} and a page folder of our own cannot be used together: vLLM reads files from one folder.",
                hint=f"Leave out {MEDIA_FLAG}, or page_folder.",
            )


def _remove(path: Path, owner: int) -> None:
    if os.getpid() != owner:  # a fork of our process inherits its exit handlers, but not its folders
        return
    gone = path.with_name(f"{path.name}.gone")
    try:
        path.rename(gone)  # another thread may be writing pages: from here on it finds no folder to write to
    except OSError:
        gone = path
    for _ in range(_REMOVALS):  # a file that was being made may still appear
        shutil.rmtree(gone, ignore_errors=True)
        if not gone.exists():
            return
