"""The folder of a cluster of our own: for this user alone, under a short path, removed at the end, or by the next owner of such a folder if
its own was killed. Knows no Ray."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

# Where a socket's path has to fit into 107 bytes, of which Ray needs about 70.
_LONGEST = 34
_PREFIX, _UNFINISHED = "glyph-ray-", "glyph-new-"
_LOCK = "lock"  # held while its owner lives


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for sockets, logs and spilled pages."""
    place = _place()
    _remove_abandoned(place)
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=place))
    folder = place / unfinished.name.replace(_UNFINISHED, _PREFIX, 1)
    lock = FileLock(unfinished / _LOCK, thread_local=False)
    try:
        with suppress(NotImplementedError):  # a file system without locks: nobody will take it for abandoned there
            lock.acquire()
        unfinished.rename(folder)  # seen by others only now, when its lock is held
        yield folder
    finally:
        for path in (folder, unfinished):
            shutil.rmtree(path, ignore_errors=True)
        lock.release()


def _place() -> Path:
    usual = tempfile.gettempdir()
    return Path(usual if len(usual) <= _LONGEST or not Path("/tmp").is_dir() else "/tmp")


def _remove_abandoned(place: Path) -> None:
    """Remove this user's folders whose owners are no more."""
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError, Timeout, NotImplementedError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid() or not (folder / _LOCK).is_file():
                continue
            with FileLock(folder / _LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
