"""The folder of a page store: its bound, what goes first, and what is said of a folder that can't be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from glyph_pipeline import Document, RenderConfig
from glyph_pipeline.errors import ConfigError, OutputError
from glyph_pipeline.pagestore import PageStore

CONFIG = RenderConfig.preset("en")


def add(store: PageStore, number: int) -> Path:
    """One document of about the same size as the others; its file."""
    before = set(store.folder.glob("*.zip"))
    list(store.renderer(CONFIG).render(f"Buoy {number:03} lies off the bar.\n" * 40))
    (path,) = set(store.folder.glob("*.zip")) - before
    return path


def aged(path: Path, seconds: int) -> None:
    """As if it was last used so long ago."""
    then = path.stat().st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(then, then))


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> int:
    """Bytes of one entry."""
    return add(PageStore(tmp_path_factory.mktemp("one")), 0).stat().st_size


def has(store: PageStore, number: int) -> bool:
    hits = store.hits
    list(store.renderer(CONFIG).render(f"Buoy {number:03} lies off the bar.\n" * 40))
    return store.hits > hits


def test_those_used_least_recently_go_first(tmp_path: Path, one: int) -> None:
    store = PageStore(tmp_path, max_bytes=one * 4 + one // 2)
    paths = [add(store, number) for number in range(4)]
    for number, path in enumerate(paths):
        aged(path, 1000 - number)
    assert has(store, 0)  # used now
    fifth = add(store, 4)
    assert set(tmp_path.glob("*.zip")) == {paths[0], paths[3], fifth} | ({paths[2]} & set(tmp_path.glob("*.zip")))
    assert not paths[1].exists()
    assert sum(path.stat().st_size for path in tmp_path.glob("*.zip")) <= store.max_bytes


def test_many_documents_never_exceed_the_bound(tmp_path: Path, one: int) -> None:
    store = PageStore(tmp_path, max_bytes=one * 5)
    for number in range(20):
        add(store, number)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.zip")) <= store.max_bytes
    assert len(list(tmp_path.glob("*.zip"))) >= 3


def test_an_entry_larger_than_the_bound_is_not_kept_and_takes_no_room(tmp_path: Path, one: int) -> None:
    store = PageStore(tmp_path, max_bytes=one * 2)
    kept = add(store, 0)
    pages = list(store.renderer(CONFIG).render("A long chart.\n" * 8000))
    assert sum(len(page.png) for page in pages) > store.max_bytes
    assert list(tmp_path.glob("*.zip")) == [kept]
    assert list((tmp_path / "unfinished").iterdir()) == []


def test_a_smaller_bound_holds_from_the_next_opening(tmp_path: Path, one: int) -> None:
    store = PageStore(tmp_path)
    for number in range(4):
        add(store, number)
    PageStore(tmp_path, max_bytes=one * 2 + one // 2)
    assert len(list(tmp_path.glob("*.zip"))) == 2


def test_a_lost_or_wrong_count_is_mended(tmp_path: Path, one: int) -> None:
    store = PageStore(tmp_path, max_bytes=one * 3 + one // 2)
    for number, wrong in enumerate(["", "many", None, "999999999999", "-5"]):
        if wrong is None:
            (tmp_path / "total").unlink()
        else:
            (tmp_path / "total").write_text(wrong)
        add(store, number)
    (tmp_path / "total").write_text("0")
    store = PageStore(tmp_path, store.max_bytes)
    add(store, 9)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.zip")]
    assert len(sizes) >= 2
    assert sum(sizes) <= store.max_bytes


def test_foreign_files_are_left_alone(tmp_path: Path, one: int) -> None:
    mine = [tmp_path / "letter.zip", tmp_path / "notes.txt", tmp_path / "ABCD.zip"]
    for path in mine:
        path.write_bytes(b"mine" * one)
    store = PageStore(tmp_path, max_bytes=one * 2 + 9)
    for number in range(4):
        aged(store.folder / add(store, number).name, 1)
    assert all(path.exists() for path in mine)


def test_files_of_a_process_that_died_are_removed_in_time(tmp_path: Path) -> None:
    store = PageStore(tmp_path)
    old, new = store.folder / "unfinished" / "old", store.folder / "unfinished" / "new"
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    aged(old, 25 * 3600)
    PageStore(tmp_path)
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["new"]


def test_a_folder_that_was_emptied_is_filled_again(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "store")
    add(store, 1)
    shutil.rmtree(store.folder)
    assert add(store, 2).exists()
    assert has(store, 2)
    assert not has(store, 1)


def test_the_pages_are_their_owners(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "new" / "store")
    assert add(store, 1).stat().st_mode & 0o077 == 0
    assert (tmp_path / "new" / "store").stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(OutputError, match=r"page store .*file.* can't be written.*--cache"):
            PageStore(folder)
    with pytest.raises(ConfigError, match="-1 bytes"):
        PageStore(tmp_path / "store", max_bytes=-1)


def test_a_disk_that_is_full_is_said(tmp_path: Path) -> None:
    # A limit on the size of files is what a full disk is to a process: a write that fails half way.
    program = """
import resource, signal, sys
from pathlib import Path
from glyph_pipeline import RenderConfig
from glyph_pipeline.errors import OutputError
from glyph_pipeline.pagestore import PageStore
store = PageStore(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    list(store.renderer(RenderConfig.preset("en")).render("The hold is full.\\n" * 2000))
except OutputError as e:
    print(e)
print(sorted(path.name for path in Path(sys.argv[1]).rglob("*") if path.is_file()))
"""
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    message, left = ended.stdout.splitlines()
    assert "can't be written: File too large. Name another folder (--cache), make room, or go without." in message
    assert left == "['lock', 'total']"
    assert ended.stderr == ""
    list(PageStore(tmp_path).renderer(CONFIG).render(Document("Room again.\n")))
    assert len(list(tmp_path.glob("*.zip"))) == 1
