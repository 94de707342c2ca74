"""Places of files, local paths and fsspec URLs alike: read, list, write whole, remove. Knows nothing of what is in them.

A place is a path, or a URL that fsspec can open (``s3://bucket/a.txt``, ``file:///a.txt``); credentials are looked up by fsspec's own
packages, in this machine's environment. Local paths need no fsspec. Errors: MissingExtraError if fsspec is missing; InputError of what
reads, OutputError of what writes, for all else.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal

from glyph_pipeline.errors import GlyphError, InputError, MissingExtraError, OutputError
from glyph_pipeline.files import kept_aside, writing_whole
from glyph_pipeline.places import WEB, Place, basename, below, is_url, join, parent, shown, suffix

__all__ = [
    "Place",
    "basename",
    "below",
    "exists",
    "is_folder",
    "is_url",
    "join",
    "kind_of",
    "list_files",
    "make_folder",
    "no_such",
    "open_read",
    "parent",
    "read_bytes",
    "remove",
    "shown",
    "size",
    "suffix",
    "write_whole",
    "writing",
]

# A put is atomic in these; elsewhere a file is there while it is written, so that it needs another name until it is whole.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "tos", "hf", "memory"})
_LOCAL = ("file://", "local://")
_KINDS = {stat.S_IFDIR: "directory", stat.S_IFREG: "file"}
# What follows the '?' of a web address may be a signature.
_QUERY = re.compile(r"(https?://[^\s'\"?]*)\?[^\s'\"]*")
_ACCESS = re.compile(r"credential|forbidden|denied|unauthori[sz]ed|access ?key|signature|refresh|login", re.IGNORECASE)


def kind_of(place: Place) -> Literal["file", "folder"] | None:
    """What is there; a folder of an object store is there if anything begins with its name and a stroke. Raises InputError."""
    found = _found(place)
    return None if found is None else "folder" if found[0] else "file"


def exists(place: Place) -> bool:
    """Whether there is a file or a folder. Raises InputError if that can't be told."""
    return kind_of(place) is not None


def is_folder(place: Place) -> bool:
    """Whether there is a folder. Raises InputError if that can't be told."""
    return kind_of(place) == "folder"


def size(place: Place) -> int:
    """Bytes of a file."""
    found = _found(place)
    if found is None:
        raise no_such(place)
    if found[1] is None:  # a web server that doesn't say
        return len(read_bytes(place))
    return found[1]


def open_read(place: Place, ahead: int = 1 << 20) -> io.BufferedReader:
    """A stream of a file's bytes that can seek, to be closed; of a URL so many bytes are fetched ``ahead`` of what is read. Reading from it
    raises InputError or OSError. A file of a web server that sends no parts is copied to this machine first."""
    if not is_url(place):
        with _reading(place):
            return Path(place).open("rb")
    with _reading(place):
        _require_file(place)
        fs, path = _filesystem(place)
        return io.BufferedReader(_Remote(place, fs, path, ahead), 1 << 16)


def read_bytes(place: Place) -> bytes:
    """All bytes of a file."""
    with _reading(place):
        if not is_url(place):
            return Path(place).read_bytes()
        _require_file(place)
        fs, path = _filesystem(place)
        return bytes(fs.cat_file(path))


def list_files(folder: Place) -> list[tuple[str, int]]:
    """(path below the folder with ``/``, bytes) of every file in it and its subfolders, sorted; links to folders are not followed.

    What is neither file nor folder is left out; a link that leads nowhere counts, with 0 bytes. Raises InputError if there is no such folder,
    but for object stores, in which a folder with nothing in it is not there.
    """
    with _reading(folder):
        return sorted(_local_files(Path(folder)) if not is_url(folder) else _remote_files(folder))


@contextmanager
def writing(place: Place) -> Iterator[BinaryIO]:
    """A stream whose content stands at the place, whole, when the block ends; if the block raises, what was there stays.

    Missing folders are made. What goes to a URL is kept in a temporary file of this machine until then. Raises OutputError.
    """
    if not is_url(place):
        with writing_whole(Path(place)) as stream:
            yield stream
        return
    if str(place).startswith(WEB):
        raise OutputError(
            f"{shown(place)!r} is a web address, which can't be written to.", hint="Name a folder, or a storage such as s3://."
        )
    with _writing(place):
        fs, path = _filesystem(place)
        handle, temporary = tempfile.mkstemp(prefix="glyph-")
    try:
        with os.fdopen(handle, "wb") as stream:
            if Path(f"/proc/self/fd/{handle}").exists():  # so that it goes away with this process, however that ends
                Path(temporary).unlink()
                temporary = f"/proc/self/fd/{handle}"
            with kept_aside(repr(shown(place)), "it is whole"):
                yield stream
                stream.flush()
            with _writing(place):
                _put(fs, temporary, path)
    finally:
        if not temporary.startswith("/proc/"):
            Path(temporary).unlink(missing_ok=True)


def write_whole(place: Place, data: bytes) -> None:
    """Write a file, so that what stands there is whole at any moment. Raises OutputError."""
    with writing(place) as stream:
        stream.write(data)


def remove(place: Place) -> None:
    """Remove a file, if it is there. Raises OutputError."""
    with _writing(place), suppress(FileNotFoundError):
        if is_url(place):
            fs, path = _filesystem(place)
            fs.rm_file(path)
        else:
            Path(place).unlink()


def make_folder(place: Place) -> None:
    """Make a folder and those above it, if they are not there; object stores need none. Raises OutputError."""
    with _writing(place):
        if not is_url(place):
            Path(place).mkdir(parents=True, exist_ok=True)
            return
        fs, path = _filesystem(place)
        if not _is_object_store(fs):
            fs.makedirs(path, exist_ok=True)


# -- fsspec ------------------------------------------------------------------------------------------------------------------------


def _filesystem(place: Place) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it; what it remembers of folders is forgotten, others write there too."""
    try:
        import fsspec.core
    except ImportError:
        raise MissingExtraError(f"Opening {shown(place)!r}", "data", package="fsspec") from None
    fs, path = fsspec.core.url_to_fs(str(place))
    fs.invalidate_cache()
    return fs, path


def _is_object_store(fs: Any) -> bool:
    return not _protocols(fs).isdisjoint(_OBJECT_STORES)


def _protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


def _found(place: Place) -> tuple[bool, int | None] | None:
    """(is a folder, bytes) of what is there, None if nothing is."""
    with _reading(place):
        try:
            if not is_url(place):
                there = Path(place).stat()
                kind, size = _KINDS.get(stat.S_IFMT(there.st_mode), "other"), there.st_size
            else:
                fs, path = _filesystem(place)
                info = fs.info(path)
                kind, size = info["type"], info.get("size")
            if kind == "other":
                raise InputError(f"{shown(place)!r} is a pipe, a socket or a device, not a file.", hint="Give a file with text in it.")
            return kind == "directory", size
        except (FileNotFoundError, NotADirectoryError):
            return None


def _require_file(place: Place) -> None:
    """Raise InputError for what could be read for ever; only this machine has such things."""
    if str(place).startswith(_LOCAL) and is_folder(place):
        raise IsADirectoryError(21, os.strerror(21))


def _put(fs: Any, source: str, path: str) -> None:
    if _is_object_store(fs):
        fs.put_file(source, path)
        return
    folder, _, name = path.rpartition("/")
    fs.makedirs(folder, exist_ok=True)
    temporary = f"{folder}/.glyph-{os.urandom(6).hex()}"
    try:
        fs.put_file(source, temporary)
        _move(fs, temporary, f"{folder}/{name}")
    except BaseException:
        with suppress(Exception):
            fs.rm_file(temporary)
        raise


def _move(fs: Any, source: str, target: str) -> None:
    from fsspec import AbstractFileSystem

    if "file" in _protocols(fs):  # whose mv is new
        Path(source).replace(target)
        return
    if type(fs).mv is AbstractFileSystem.mv:  # a copy, which would take '*' and '[' in a name for a pattern
        fs.cp_file(source, target)
        fs.rm_file(source)
        return
    try:
        fs.mv(source, target)
    except Exception:  # some rename onto nothing that is there
        if not fs.exists(target):
            raise
        fs.rm_file(target)
        fs.mv(source, target)


def _remote_files(folder: Place) -> Iterator[tuple[str, int]]:
    fs, root = _filesystem(folder)
    root = root.rstrip("/")
    if _is_object_store(fs):  # one listing for all that begin so, in place of one a folder
        for name, info in fs.find(root, detail=True).items():
            if info["type"] == "file" and name.startswith(f"{root}/" if root else "") and not name.endswith("/"):
                yield name[len(root) :].lstrip("/"), int(info["size"] or 0)
        return
    if fs.info(root)["type"] != "directory":
        raise NotADirectoryError(20, os.strerror(20))
    waiting = [root]
    while waiting:
        for info in fs.ls(waiting.pop(), detail=True):
            name = info["name"].rstrip("/")
            link = info["type"] not in ("file", "directory")
            if link:  # may also be a pipe
                try:
                    info = fs.info(name)
                except FileNotFoundError:
                    info = {"size": 0, "type": "file"}
            if info["type"] == "file":
                yield name[len(root) :].lstrip("/"), int(info["size"] or 0)
            elif info["type"] == "directory" and not link:
                waiting.append(name)


def _local_files(folder: Path) -> Iterator[tuple[str, int]]:
    def failed(error: OSError) -> None:  # os.walk would pass over what it can't list
        raise error

    for above, _, names in os.walk(folder, onerror=failed):
        for name in names:
            file = Path(above, name)
            try:
                there = file.stat()
            except OSError:  # whoever reads it is told why it can't be
                yield file.relative_to(folder).as_posix(), 0
                continue
            if stat.S_ISREG(there.st_mode):
                yield file.relative_to(folder).as_posix(), there.st_size


class _Remote(io.RawIOBase):
    """A stream of fsspec's, whose errors are of as many kinds as there are packages."""

    def __init__(self, place: Place, fs: Any, path: str, ahead: int) -> None:
        self._place, self._fs, self._path = place, fs, path
        self._stream = fs.open(path, "rb", block_size=ahead)  # s3fs would fetch 50 MB, for one line
        if getattr(self._stream, "size", 0) is None:  # fsspec's sign of a web server that sends no parts of files
            self._copy()

    def _copy(self) -> None:
        self._stream.close()
        self._stream = tempfile.TemporaryFile()  # noqa: SIM115
        with self._fs.open(self._path, "rb", block_size=0) as stream:
            shutil.copyfileobj(stream, self._stream, 1 << 20)
        self._stream.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def readinto(self, buffer: Any) -> int:
        with _reading(self._place):
            try:
                data = self._stream.read(len(buffer))
            except ValueError as e:
                if "range" not in str(e):
                    raise
                at = self._stream.tell()  # behind the first block it turns out that the server sends no parts
                self._copy()
                self._stream.seek(at)
                data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with _reading(self._place):
            return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


# -- errors ------------------------------------------------------------------------------------------------------------------------


@contextmanager
def _reading(place: Place) -> Iterator[None]:
    try:
        yield
    except (GlyphError, MemoryError):
        raise
    except FileNotFoundError:
        raise no_such(place) from None
    except Exception as e:
        raise InputError(f"{shown(place)!r} can't be read: {_reason(e)}.", hint=_hint(e, "Check the path and its permissions.")) from e


@contextmanager
def _writing(place: Place) -> Iterator[None]:
    if str(place).startswith(WEB):
        raise OutputError(
            f"{shown(place)!r} is a web address, which can't be written to.", hint="Name a folder, or a storage such as s3://."
        )
    try:
        yield
    except (GlyphError, MemoryError):
        raise
    except FileNotFoundError as e:
        raise OutputError(f"{shown(place)!r} can't be written: {_reason(e)}.", hint="Make the bucket or the folder first.") from e
    except Exception as e:
        hint = _hint(e, "Name another place with --output, or make room.")
        raise OutputError(f"{shown(place)!r} can't be written: {_reason(e)}.", hint=hint) from e


def no_such(place: Place) -> InputError:
    """The error that says that nothing is there."""
    return InputError(f"There is no file or folder {shown(place)!r}.", hint="Check the path.")


def _reason(error: Exception) -> str:
    """In one line, without what only the program's author can read."""
    words = _QUERY.sub(r"\1", getattr(error, "strerror", None) or str(error)).strip().splitlines()
    return words[0].rstrip(".") if words else type(error).__name__


def _hint(error: Exception, otherwise: str) -> str:
    if isinstance(error, ImportError):
        package = re.search(r"[Ii]nstall (?:the )?'?([\w-]+(?:\[\w+\])?)", str(error))
        return f"Install it: pip install '{package[1]}'" if package else "Install what it asks for."
    if isinstance(error, ValueError) and "rotocol" in str(error):
        return "Protocols that fsspec knows are s3, gs, az, hdfs, sftp, http, file and others."
    if isinstance(error, PermissionError) or _ACCESS.search(f"{type(error).__name__} {error}"):
        return "Check the permissions, and for a URL the credentials in this machine's environment."
    return otherwise
