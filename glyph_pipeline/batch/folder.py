"""The items of a folder: each file in it is one. Reads no file itself; knows nothing of what is in them."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import Self

from glyph_pipeline import storage
from glyph_pipeline.batch.fields import unreadable
from glyph_pipeline.batch.units import grouped
from glyph_pipeline.batch.values import BadItem, BatchItem, DocumentFile, Items, Unit
from glyph_pipeline.errors import InputError

_LOCAL = "file://"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder whose files are items, and what is asked about each."""

    place: str
    question: str
    encoding: str | None

    def item(self, id: str) -> BatchItem:
        """The item of the file with this path below the folder."""
        place = storage.below(self.place, id)
        document = DocumentFile(place if storage.is_url(self.place) else Path(place), id)
        return BatchItem(id, self.question, (document,), self.encoding)


@dataclass(frozen=True)
class FolderUnit(Unit):
    """Some files of a folder."""

    folder: Folder

    def load(self) -> Iterator[BatchItem | BadItem]:
        """The items; their files are read when their turn comes."""
        return map(self.folder.item, self.ids)

    def only(self, ids: Collection[str]) -> Self:
        """Some of them."""
        return replace(self, ids=tuple(id for id in self.ids if id in ids))


def folder_items(place: str | Path, files: Sequence[tuple[str, int]], question: str, encoding: str | None) -> Items:
    """The items of the files that :func:`files_in` found. Raises InputError if there is none."""
    if not files:
        raise InputError(f"There is no file in the folder {storage.shown(place)!r}.", hint="Hidden files and folders do not count.")
    # Absolute: the working folder may be another one before an item's turn comes.
    folder = Folder(str(place) if storage.is_url(place) else str(Path(place).absolute()), question, encoding)
    ids = [name for name, _ in files]
    sizes = array("q", (size for _, size in files))

    def read() -> Iterator[BatchItem | BadItem]:
        return map(folder.item, ids)

    def divide(wanted: Callable[[str], bool], max_items: int, max_bytes: int) -> Iterator[Unit]:
        weighed = ((id, size) for id, size in zip(ids, sizes, strict=True) if wanted(id))
        for group, size in grouped(weighed, max_items, max_bytes):
            yield FolderUnit(tuple(group), size, folder)

    return Items(ids, read, divide)


def files_in(place: str | Path, leave_out: Collection[str | Path]) -> list[tuple[str, int]]:
    """(path below the folder, bytes) of each file in it and its subfolders, sorted, without what is hidden and without ``leave_out``,
    files and folders. Raises InputError if the folder can't be listed."""
    left_out = {_real(each) for each in leave_out}
    if storage.is_url(place):
        found = storage.list_files(place)
        visible = [each for each in found if not any(part.startswith(".") for part in each[0].split("/"))]
        return [each for each in visible if not _below(_real(storage.below(place, each[0])), left_out)]
    root = Path(place).absolute()
    return sorted((file.relative_to(root).as_posix(), size) for file, size in _files(root) if not _below(_real(file), left_out))


def _files(root: Path) -> Iterator[tuple[Path, int]]:
    def failed(error: OSError) -> None:  # os.walk would pass over what it can't list
        raise unreadable(Path(error.filename or root), error) from error

    for parent, folders, files in os.walk(root, onerror=failed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.startswith("."):
                continue
            file = Path(parent, name)
            try:
                there = file.stat()
            except OSError:  # a link to nothing is an item too, one that fails: it is not to be missing without a word
                yield file, 0
                continue
            if stat.S_ISREG(there.st_mode):
                yield file, there.st_size


def _real(place: str | Path) -> str:
    """The place as it is compared: links followed where they are of this machine."""
    if not storage.is_url(place):
        return os.path.realpath(place)
    url = str(place)
    return os.path.realpath(url[len(_LOCAL) :]) if url.startswith(_LOCAL) else url.rstrip("/")


def is_below(place: str | Path, folder: str | Path) -> bool:
    """Whether a place lies in a folder, and is not that folder itself."""
    inner, outer = _real(place), _real(folder)
    return inner != outer and _below(inner, {outer})


def _below(place: str, folders: Collection[str]) -> bool:
    """Whether a place is one of these, or lies in one."""
    if not folders:
        return False
    while place not in folders:
        above = place.rpartition("/")[0] if "://" in place else os.path.dirname(place)  # noqa: PTH120
        if above in (place, ""):
            return False
        place = above
    return True
