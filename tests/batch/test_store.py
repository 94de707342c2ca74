"""The store of a batch: whatever happens to the process, the disk or the file, nothing done is lost and no line is half."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline.batch.store import ResultStore, files_of
from glyph_pipeline.errors import OutputError

IDS = ["a", "Zürich 中文 😀", "stray \udce9 byte", 'quote " and \\ and \n']
needs_posix = pytest.mark.skipif(os.name == "nt", reason="an open file can't be removed there")


def record(id: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {"id": id, "status": status, "answer": f"Answer to {id}", **more}


def write(path: Path, *records: dict[str, Any]) -> bytes:
    with ResultStore(path) as store:
        for each in records:
            store.add(each)
    return path.read_bytes()


def records(path: Path) -> list[dict[str, Any]]:
    data = path.read_bytes()
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.decode().splitlines()]


def ids(path: Path) -> list[str]:
    return [each["id"] for each in records(path)]


def python(code: str, *args: object, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    program = (
        "import json, os, sys\nfrom glyph_pipeline.batch.store import ResultStore\nfrom glyph_pipeline.errors import OutputError\n" + code
    )
    return subprocess.Popen([sys.executable, "-c", program, *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


# -- what is kept ----------------------------------------------------------------------------------------------------------------


def test_records_come_back(out: Path) -> None:
    given = [record(id, status) for id, status in zip(IDS, ["ok", "truncated", "failed", "ok"], strict=True)]
    write(out, *given)
    assert records(out) == given
    with ResultStore(out) as store:
        assert dict(store.done) == {each["id"]: each["status"] for each in given}
        assert store.notices == []
        for id in IDS:
            with pytest.raises(ValueError, match="already"):
                store.add(record(id))
        store.add(record("new"))
        with pytest.raises(ValueError, match="already"):
            store.add(record("new"))
    assert ids(out) == [*IDS, "new"]


def test_a_record_is_there_when_add_returns(out: Path) -> None:
    with ResultStore(out) as store:
        for id in IDS:
            store.add(record(id))
            assert ids(out)[-1] == id


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"id": 1, "status": "ok"},
        {"id": "a"},
        {"id": "a", "status": "done"},
        {"id": "a", "status": "ok", "x": float("nan")},
        {"id": "a", "status": "ok", "x": {1}},
        {"id": "\ud83d\ude00", "status": "ok"},
    ],
)
def test_what_is_no_record(out: Path, bad: dict[str, Any]) -> None:
    with ResultStore(out) as store, pytest.raises(ValueError, match=r"[Rr]ecord|surrogates"):
        store.add(bad)
    assert out.read_bytes() == b""


def test_a_closed_store_takes_nothing(out: Path) -> None:
    store = ResultStore(out)
    with pytest.raises(ValueError, match="not open"):
        store.add(record("a"))


def test_many_threads(out: Path) -> None:
    with ResultStore(out) as store:
        threads = [
            threading.Thread(target=lambda n=n: [store.add(record(f"{n}/{k}", text="x" * 5000)) for k in range(10)]) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(ids(out)) == sorted(f"{n}/{k}" for n in range(8) for k in range(10))


def test_failed_ones_can_be_done_again(out: Path) -> None:
    given = [record("a", "failed"), record("b"), record("c", "failed"), record("d", "truncated"), record("e", "failed")]
    before = write(out, *given)
    out.chmod(0o640)
    with ResultStore(out) as store:
        assert store.done["a"] == "failed"
    assert out.read_bytes() == before
    with ResultStore(out, retry_failed=True) as store:
        assert dict(store.done) == {"b": "ok", "d": "truncated"}
        store.add(record("a"))
    assert records(out) == [given[1], given[3], record("a")]
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.jsonl", "out.jsonl.lock"]
    write(out.with_name("all.jsonl"), record("a", "failed"))
    with ResultStore(out.with_name("all.jsonl"), retry_failed=True) as store:
        assert not store.done
        store.add(record("a"))


# -- what is found ---------------------------------------------------------------------------------------------------------------


def test_an_unfinished_last_line_is_cut_off_wherever_it_broke(out: Path) -> None:
    data = write(out, *map(record, IDS[:3]))
    ends = [index + 1 for index, byte in enumerate(data) if byte == 10]
    for cut in range(len(data) + 1):
        out.write_bytes(data[:cut])
        with ResultStore(out) as store:
            # A record whose line end alone is missing is whole.
            whole = sum(end - 1 <= cut for end in ends)
            assert list(store.done) == IDS[:whole], cut
            assert len(store.notices) == (cut > 0 and cut not in ends and cut + 1 not in ends), cut
            store.add(record("new"))
        assert ids(out) == [*IDS[:whole], "new"], cut


@pytest.mark.parametrize("tail", [b"\0" * 100, b'{"id": "b", "sta\0\0\0\0"}\n', b'{"id": "b\xff"}\n', b"\n", b"junk"])
@pytest.mark.parametrize("first", [True, False])
def test_a_corrupt_last_line_is_cut_off(out: Path, tail: bytes, first: bool) -> None:
    if first and tail == b"junk":
        return  # a file of somebody else's: below
    before = b"" if first else write(out, record("a"))
    out.write_bytes(before + tail)
    with ResultStore(out) as store:
        (notice,) = store.notices
        assert f"line {1 if first else 2}, {len(tail)} bytes" in notice
        store.add(record("b"))
    assert ids(out) == (["b"] if first else ["a", "b"])


RECORD = b'{"id": "a", "status": "ok"}\n'


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"hello", 1),
        (b"\xef\xbb\xbf" + RECORD, 1),
        (b'{"name": "x", "val', 1),
        (b'{"name": "x"}', 1),
        (b"[1]", 1),
        (b'{"id": 1, "status": "ok"}\n', 1),
        (b'{"id": "a", "status": "fine"}\n', 1),
        (b"{\n", 1),
        (RECORD + b'{"foo": 1}\n', 2),
        (RECORD + b"12", 2),
        (RECORD + b"\n" + RECORD.replace(b"a", b"b"), 2),
        (RECORD + b'{"id": "b", "st\n' + RECORD.replace(b"a", b"c"), 2),
        (b'{"id": "b", "st\n' + RECORD, 1),
    ],
)
def test_a_file_of_something_else_is_left_as_it_is(out: Path, data: bytes, line: int) -> None:
    out.write_bytes(data)
    for retry in (False, True):
        with (
            pytest.raises(OutputError, match=rf"line {line} is no result.*Nothing was changed.*--output"),
            ResultStore(out, retry_failed=retry),
        ):
            pass
    assert out.read_bytes() == data
    out.unlink()
    write(out, record("a"))  # and the lock is free


def test_one_id_twice(out: Path) -> None:
    data = RECORD + RECORD.replace(b'"a"', b'"b"') + b'{"status": "failed", "id": "\\u0061"}\n{"id": "c'
    out.write_bytes(data)
    with pytest.raises(OutputError, match=r"lines 1 and 3 are both results of 'a'"), ResultStore(out, retry_failed=True):
        pass
    assert out.read_bytes() == data


# -- paths -----------------------------------------------------------------------------------------------------------------------


def test_folders_are_made(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "out.jsonl", record("a"))


def test_a_link_is_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "data" / "real.jsonl", tmp_path / "link.jsonl"
    real.parent.mkdir()
    link.symlink_to(real)
    write(link, record("a", "failed"))  # to nothing at first, then to a file
    with ResultStore(link, retry_failed=True) as store:
        store.add(record("b"))
        with pytest.raises(OutputError, match="Another run"), ResultStore(real):
            pass
    assert link.is_symlink()
    assert ids(real) == ["b"]
    assert files_of(link) == (real, real.with_name("real.jsonl.lock"))


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "nowhere").symlink_to(tmp_path / "no" / "where.jsonl")
    os.mkfifo(tmp_path / "pipe")
    for path, message in {
        tmp_path: "is a folder",
        tmp_path / "file" / "out.jsonl": "file' is a file",
        tmp_path / "file" / "below" / "out.jsonl": "can't be written",
        tmp_path / "loop": "can't be written",
        tmp_path / "nowhere": "symbolic link to .*not there",
        tmp_path / "pipe": "pipe",
        Path("/dev/null"): "device",
        Path("-"): "standard output",
        Path("nul\0byte"): "no path",
        tmp_path / ("x" * 300): "can't be written",
    }.items():
        with pytest.raises(OutputError, match=message), ResultStore(path):
            pass
    assert not (tmp_path / "no").exists()


@needs_posix
def test_what_may_not_be_written() -> None:
    folder = Path(tempfile.mkdtemp())  # tmp_path is below a folder that only we may enter
    try:
        (folder / "out.jsonl").write_bytes(RECORD)
        (folder / "out.jsonl").chmod(0o444)
        (folder / "open").mkdir()
        (folder / "open" / "out.jsonl").write_bytes(RECORD)
        (folder / "open" / "out.jsonl").chmod(0o444)
        (folder / "open").chmod(0o777)
        folder.chmod(0o555)
        child = python(
            "if os.getuid() == 0:\n    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            "for path in sys.argv[1:]:\n"
            "    try:\n        ResultStore(path).__enter__()\n"
            "    except OutputError as e:\n        print(e)\n",
            *(folder / name for name in ("out.jsonl", "new.jsonl", "sub/new.jsonl", "open/out.jsonl")),
        )
        told = child.communicate()[0].splitlines()
        assert len(told) == 4, told
        assert all("can't be written: Permission denied" in line and "--output" in line for line in told)
        assert (folder / "out.jsonl").read_bytes() == (folder / "open" / "out.jsonl").read_bytes() == RECORD
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


# -- one at a time, and how a process ends -----------------------------------------------------------------------------------------

HOLD = "with ResultStore(sys.argv[1]) as store:\n    print(os.getpid(), flush=True)\n    sys.stdin.read()\n"


def test_one_run_at_a_time(out: Path) -> None:
    child = python(HOLD, out, stdin=subprocess.PIPE)
    try:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        for _ in range(2):  # the one that is refused leaves no trace
            with pytest.raises(OutputError, match=rf"Another run \(process {pid}\) is writing.*Wait"), ResultStore(out):
                pass
    finally:
        child.kill()  # and a lock does not outlive its process
        child.communicate()
    with ResultStore(out) as store:
        store.add(record("a"))
        with pytest.raises(OutputError, match=rf"process {os.getpid()}"), ResultStore(out):
            pass
    assert out.with_name("out.jsonl.lock").read_bytes() == b""


WRITE = """
with ResultStore(sys.argv[1]) as store:
    for number in range(10_000):
        id = f"item {number}"
        if id not in store.done:
            store.add({"id": id, "status": "ok", "answer": "x" * (number * 7919 % 20000)})
            print(id, flush=True)
"""


@needs_posix
def test_killed_again_and_again(out: Path) -> None:
    told: list[str] = []
    for wanted in (1, 5, 20, 3, 40):
        child = python(WRITE, out)
        assert child.stdout is not None
        for _ in range(wanted):
            told.append(child.stdout.readline().strip())
        child.send_signal(signal.SIGKILL)
        told += child.communicate()[0].split("\n")[:-1]
        with ResultStore(out) as store:
            # At most the one that was written but not yet told is there besides, and nobody tells it later.
            assert set(told) <= set(store.done)
    found = ids(out)
    assert len(found) == len(set(found))
    assert found == [f"item {number}" for number in range(len(found))]
    assert len(found) - len(told) <= 5


# -- a full disk, and failing writes ---------------------------------------------------------------------------------------------

FILL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
told, done = [], []
with ResultStore(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    for number in range(30):
        try:
            store.add({"id": str(number), "status": "ok", "answer": "x" * 60})
            done.append(str(number))
        except OutputError as e:
            told.append(str(e))
            size = os.path.getsize(sys.argv[1])
            if len(told) == 5:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(json.dumps([told, done, size]))
"""


@needs_posix
def test_a_full_disk_leaves_whole_lines_and_can_be_gone_on_with(out: Path) -> None:
    child = python(FILL, out)
    told, done, size = json.loads(child.communicate()[0])
    assert len(told) == 5
    assert "full (File too large)" in told[0]
    assert "the record of '" in told[0]
    assert "Make room, then run the same command again" in told[0]
    assert 800 < size < 1000
    assert len(done) == 25
    assert ids(out) == done


class Disk:
    """os.write that fails halfway on the store's file, and os.ftruncate that may fail too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, out: Path, error: BaseException, cut: bool = True) -> None:
        write, ftruncate = os.write, os.ftruncate
        self.broken = True
        self.halves = 0

        def half(fd: int, data: bytes) -> int:
            if not self.broken or not out.exists() or not os.path.samestat(os.fstat(fd), out.stat()):
                return write(fd, data)
            self.halves += 1
            if self.halves % 2:
                return write(fd, bytes(data)[: len(data) // 2])
            raise error

        def no_cut(fd: int, size: int) -> None:
            if self.broken and not cut:
                raise OSError(errno.EIO, "Input/output error")
            ftruncate(fd, size)

        monkeypatch.setattr(os, "write", half)
        monkeypatch.setattr(os, "ftruncate", no_cut)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
def test_a_write_that_fails_halfway(out: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    before = write(out, record("a"))
    with ResultStore(out) as store:
        disk = Disk(monkeypatch, out, error)
        with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
            store.add(record("b"))
        assert disk.halves == 2
        assert out.read_bytes() == before
        disk.broken = False
        store.add(record("b"))  # it may be tried again
    assert ids(out) == ["a", "b"]


@pytest.mark.parametrize("heal", [True, False])
def test_a_half_line_that_cannot_be_cut_off_is_never_written_behind(out: Path, monkeypatch: pytest.MonkeyPatch, heal: bool) -> None:
    write(out, record("a"))
    with ResultStore(out) as store:
        disk = Disk(monkeypatch, out, OSError(errno.EIO, "I/O error"), cut=False)
        with pytest.raises(OutputError, match="an unfinished line is left at its end, which the next run cuts off"):
            store.add(record("b"))
        torn = out.read_bytes()
        with pytest.raises(OutputError, match="can't be cut off"):
            store.add(record("c"))
        assert out.read_bytes() == torn
        disk.broken = False
        if heal:
            store.add(record("c"))
    with ResultStore(out) as store:
        assert list(store.done) == (["a", "c"] if heal else ["a"])
        assert len(store.notices) == (not heal)


# -- the file goes away ----------------------------------------------------------------------------------------------------------


@needs_posix
@pytest.mark.parametrize("how", ["file", "folder", "moved", "replaced", "a folder instead"])
def test_a_file_that_goes_away_is_put_back(tmp_path: Path, how: str) -> None:
    out = tmp_path / "results" / "out.jsonl"
    with ResultStore(out) as store:
        store.add(record("a"))
        out.chmod(0o640)
        if how == "folder":
            shutil.rmtree(out.parent)
        elif how == "moved":
            out.parent.rename(tmp_path / "elsewhere")
        elif how == "replaced":
            out.with_name("new").write_text("somebody's")
            out.with_name("new").rename(out)
        else:
            out.unlink()
            if how == "a folder instead":
                (out / "below").mkdir(parents=True)
        with pytest.raises(OutputError, match=r"was re.* put back, with the newest result.*same command again") as raised:
            store.add(record("b"))
        assert ids(out) == ["a", "b"]
        assert stat.S_IMODE(out.stat().st_mode) == 0o640
        if how in ("replaced", "a folder instead"):
            assert "what stood there is" in str(raised.value)
            aside = out.with_name("out.found-1.jsonl")
            assert (aside / "below").is_dir() if how != "replaced" else aside.read_text() == "somebody's"
        with pytest.raises(ValueError, match="already"):
            store.add(record("b"))
        store.add(record("c"))  # others that were under way
        with pytest.raises(OutputError, match="Another run"), ResultStore(out):
            pass
    with ResultStore(out) as store:
        assert list(store.done) == ["a", "b", "c"]
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


@needs_posix
def test_a_file_that_goes_away_after_the_last_record(out: Path) -> None:
    store = ResultStore(out).__enter__()
    store.add(record("a"))
    out.unlink()
    with pytest.raises(OutputError, match="All results so far were put back"):
        store.__exit__(None, None, None)
    assert ids(out) == ["a"]
    store = ResultStore(out)

    def fails() -> None:
        with store:
            out.unlink()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert ids(out) == ["a"]
    assert "put back" in store.notices[0]


@needs_posix
def test_a_run_that_began_in_the_place_of_ours_is_left_alone(tmp_path: Path) -> None:
    out = tmp_path / "results" / "out.jsonl"
    with ResultStore(out) as ours:
        ours.add(record("a"))
        shutil.rmtree(out.parent)
        with ResultStore(out) as theirs:
            theirs.add(record("x"))
            with pytest.raises(OutputError, match=r"out\.saved-1\.jsonl.*Another run"):
                ours.add(record("b"))
            ours.add(record("c"))
            theirs.add(record("y"))
    assert ids(out) == ["x", "y"]
    assert ids(out.with_name("out.saved-1.jsonl")) == ["a", "b", "c"]


@needs_posix
def test_what_cannot_be_put_back_is_saved_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "results" / "out.jsonl"
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    with ResultStore(out) as store:
        store.add(record("a"))
        shutil.rmtree(out.parent)
        out.parent.write_text("a file")
        with pytest.raises(OutputError, match=r"can't be put back .* are in '.*temporary.*with the newest result"):
            store.add(record("b"))
        store.add(record("c"))
    (saved,) = (tmp_path / "temporary").rglob("out.jsonl")
    assert ids(saved) == ["a", "b", "c"]
    assert out.parent.read_text() == "a file"


@pytest.mark.parametrize("foreign", [b"# note\n", None])
def test_a_file_that_somebody_else_writes_to(out: Path, foreign: bytes | None) -> None:
    with ResultStore(out) as store:
        store.add(record("a"))
        with out.open("ab") as stream:
            stream.write(foreign) if foreign else stream.truncate(5)
        before = out.read_bytes()
        with pytest.raises(OutputError, match="was written to by something else"):
            store.add(record("b"))
        assert out.read_bytes() == before


@pytest.fixture(autouse=True)
def _no_handle_is_left() -> Iterator[None]:
    def handles() -> set[str]:
        folder = Path("/proc/self/fd")
        return {f"{path.name} {os.path.realpath(path)}" for path in folder.iterdir()} if folder.exists() else set()

    before = handles()
    yield
    assert not [handle for handle in handles() - before if "out.jsonl" in handle]
