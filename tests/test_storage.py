"""Places: the same moves with local paths, file:// and a server of the S3 protocol, and what is told when they fail."""

from __future__ import annotations

import contextlib
import errno
import functools
import http.server
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from glyph_pipeline import storage
from glyph_pipeline.errors import InputError, MissingExtraError, OutputError
from tests.support.s3 import new_bucket, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["local", "file", "s3", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that is not there yet, of each kind."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"{new_bucket()}/in/deep"
    if request.param == "memory":
        return f"memory://{tmp_path}/deep"
    return f"{'file://' if request.param == 'file' else ''}{tmp_path}/in/deep"


# -- names -----------------------------------------------------------------------------------------------------------------------


def test_what_is_a_url() -> None:
    for url in ("s3://b/a.txt", "file:///a", "gs://b", "https://h/x?y=1", "zip://a.txt::s3://b/c.zip", "simplecache::s3://b/a"):
        assert storage.is_url(url), url
    for path in ("a.txt", "/a/b", "C:\\a", "c://a", "a/b://c", "", "-", "://", Path("s3://b/a.txt")):
        assert not storage.is_url(path), path


@pytest.mark.parametrize(
    ("base", "name", "place"),
    [
        ("s3://b/in", "a.txt", "s3://b/in/a.txt"),
        ("s3://b/in/", "./sub/a.txt", "s3://b/in/sub/a.txt"),
        ("s3://b/in", "../out/a.txt", "s3://b/out/a.txt"),
        ("s3://b", "../../a.txt", "s3://b/a.txt"),
        ("file:///in", "../a.txt", "file:///a.txt"),
        ("file:///", "a.txt", "file:///a.txt"),
        ("s3://b/in", "gs://c/a.txt", "gs://c/a.txt"),
        ("s3://b/in", "/data/a.txt", "/data/a.txt"),
        ("/in", "s3://b/a.txt", "s3://b/a.txt"),
        ("/in", "a.txt", "/in/a.txt"),
        ("in", "/a.txt", "/a.txt"),
        ("zip://in::s3://b/c.zip", "a.txt", "zip://in/a.txt::s3://b/c.zip"),
        ("simplecache::s3://b/in", "a.txt", "simplecache::s3://b/in/a.txt"),
    ],
)
def test_joining(base: str, name: str, place: str) -> None:
    assert storage.join(base, name) == place


def test_parts_of_names() -> None:
    assert storage.parent("s3://b/in/a.txt") == "s3://b/in"
    assert storage.parent("https://h/in/a.txt?signed=a/b") == "https://h/in"
    assert storage.parent("in/a.txt") == "in"
    assert storage.parent("simplecache::s3://b/a.txt") == "simplecache::s3://b"
    assert storage.suffix("https://h/in/A.JSONL?signed=a.b") == ".jsonl"
    assert storage.suffix("s3://b/in.parquet/") == ".parquet"
    assert storage.suffix(Path("in")) == ""
    assert storage.basename("s3://b/in/a.txt") == "a.txt"


# -- moves -----------------------------------------------------------------------------------------------------------------------


def test_writing_listing_reading_removing(folder: str) -> None:
    storage.make_folder(folder)
    assert storage.list_files(folder) == []
    for name, data in {"b.txt": b"b", "sub/a[1]*.txt": b"twelve bytes", "Z \u00e9?.txt": b""}.items():
        assert not storage.exists(storage.join(folder, name))
        storage.write_whole(storage.join(folder, name), data)
        assert storage.exists(storage.join(folder, name))
        assert storage.size(storage.join(folder, name)) == len(data)
        assert storage.read_bytes(storage.join(folder, name)) == data
    assert storage.list_files(folder) == storage.list_files(f"{folder}/")
    assert storage.list_files(folder) == [("Z \u00e9?.txt", 0), ("b.txt", 1), ("sub/a[1]*.txt", 12)]
    assert storage.is_folder(folder)
    assert not storage.is_folder(storage.join(folder, "b.txt"))
    with storage.open_read(storage.join(folder, "sub/a[1]*.txt")) as stream:
        assert stream.seekable()
        assert stream.readline() == b"twelve bytes"
        stream.seek(2)
        assert stream.read(3) == b"elv"
    storage.write_whole(storage.join(folder, "b.txt"), b"another")
    assert storage.read_bytes(storage.join(folder, "b.txt")) == b"another"
    for _ in range(2):  # what is not there need not be removed
        storage.remove(storage.join(folder, "b.txt"))
    assert [name for name, _ in storage.list_files(folder)] == ["Z \u00e9?.txt", "sub/a[1]*.txt"]


def test_a_file_appears_when_it_is_whole(folder: str) -> None:
    place = storage.join(folder, "a.txt")
    with storage.writing(place) as stream:
        stream.write(b"half")
        assert not storage.exists(place)
        stream.write(b" and half")
    assert storage.read_bytes(place) == b"half and half"

    def fails(error: BaseException) -> None:
        with storage.writing(place) as stream:
            stream.write(b"something else")
            raise error

    for error in (ZeroDivisionError(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fails(error)
        assert storage.read_bytes(place) == b"half and half"
    assert storage.list_files(folder) == [("a.txt", 13)]  # and nothing is left of it


def test_what_is_not_there(folder: str) -> None:
    storage.write_whole(storage.join(folder, "there.txt"), b"x")
    place = storage.join(folder, "a.txt")
    assert not storage.is_folder(place)
    for reads in (storage.size, storage.read_bytes, storage.open_read):
        with pytest.raises(InputError, match=r"no file or folder '.*a\.txt'.*Check the path"):
            reads(place)


def test_large_files_are_whole(folder: str) -> None:
    data = os.urandom(1 << 20) * 6  # more than one block of fsspec's, and than one part of a put
    storage.write_whole(storage.join(folder, "a"), data)
    with storage.open_read(storage.join(folder, "a")) as stream:
        stream.seek(-5, os.SEEK_END)
        assert stream.read() == data[-5:]
        stream.seek(0)
        assert stream.read() == data


def test_local_files_have_the_permissions_of_others(tmp_path: Path) -> None:
    storage.write_whole(tmp_path / "new" / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert stat.S_IMODE((tmp_path / "new" / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_links_pipes_and_what_is_hidden(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "in" / ".git").mkdir(parents=True)
    (tmp_path / "in" / ".git" / "config").write_text("xyz")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in" / ".git" / "config")
    (tmp_path / "in" / "nowhere").symlink_to(tmp_path / "nothing")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "pipe")
    assert storage.list_files(f"{scheme}{tmp_path}/in") == [(".git/config", 3), ("link", 3), ("nowhere", 0)]
    for name in ("nothing", "in/link"):
        with pytest.raises(InputError, match=r"no file or folder|Not a directory"):
            storage.list_files(f"{scheme}{tmp_path}/{name}")


# -- errors ----------------------------------------------------------------------------------------------------------------------


def test_a_bucket_that_is_not_there(s3: str) -> None:
    with pytest.raises(InputError, match="no file or folder 's3://not-there/a'"):
        storage.read_bytes("s3://not-there/a")
    with pytest.raises(InputError, match="no file or folder 's3://not-there'"):
        storage.list_files("s3://not-there")
    with pytest.raises(OutputError, match=r"'s3://not-there/a' can't be written: The specified bucket does not exist. Make the bucket"):
        storage.write_whole("s3://not-there/a", b"x")


def test_credentials_that_are_not_there(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = new_bucket()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(InputError, match=r"can't be read: .*credentials.*the credentials in this machine's environment"):
            storage.exists(f"{bucket}/a")
        with pytest.raises(OutputError, match=r"can't be written: .*credentials.*the credentials in this machine's environment"):
            storage.write_whole(f"{bucket}/a", b"x")
    finally:
        S3FileSystem.clear_instance_cache()


def test_protocols_that_are_not_there() -> None:
    with pytest.raises(InputError, match=r"'gs://b/a' can't be read: Please install gcsfs .*pip install 'gcsfs'"):
        storage.read_bytes("gs://b/a")
    with pytest.raises(OutputError, match=r"'gs://b/a' can't be written: Please install gcsfs .*pip install 'gcsfs'"):
        storage.write_whole("gs://b/a", b"")
    with pytest.raises(InputError, match=r"Protocol not known: klingon.*Protocols that fsspec knows are s3"):
        storage.exists("klingon://b/a")
    with pytest.raises(InputError, match=r"'sftp://me:\*\*\*@h/a'") as raised:
        storage.read_bytes("sftp://me:secret@h/a")
    assert "secret" not in str(raised.value)


def test_what_may_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for place in (f"{tmp_path}/file/a", f"file://{tmp_path}/file/a"):
        with pytest.raises(OutputError, match="can't be written"):
            storage.write_whole(place, b"x")
        with pytest.raises(OutputError, match="can't be written"):
            storage.make_folder(place)
    with pytest.raises(OutputError, match="web address"):
        storage.write_whole("https://127.0.0.1/a", b"x")


def test_local_places_need_no_fsspec(tmp_path: Path) -> None:
    program = """
import sys
sys.modules["fsspec"] = None
from glyph_pipeline import storage
from glyph_pipeline.errors import MissingExtraError
storage.write_whole(sys.argv[1] + "/sub/a", b"x")
assert storage.list_files(sys.argv[1]) == [("sub/a", 1)] and storage.read_bytes(sys.argv[1] + "/sub/a") == b"x"
storage.remove(sys.argv[1] + "/sub/a")
for move in (storage.read_bytes, storage.exists, storage.list_files, storage.make_folder):
    try:
        move("s3://b/a")
    except MissingExtraError as e:
        print(e)
"""
    told = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == 4
    assert set(told) == {
        "Opening 's3://b/a' needs the extra 'data' (the package 'fsspec' is not installed). Install it: pip install 'glyph-pipeline[data]'"
    }
    assert MissingExtraError.exit_code == 6


def test_no_room_for_what_goes_to_a_url(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"can't be kept in .*No space left.*TMPDIR"), storage.writing(f"file://{tmp_path}/a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_temporary_file(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from glyph_pipeline import storage
with storage.writing(f"memory://a") as stream:
    stream.write(b"x" * 1_000_000)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    assert list(tmp_path.iterdir()) == []


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        with contextlib.suppress(ConnectionError):  # of whoever has seen enough
            super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_web_server_that_sends_no_parts_of_files(tmp_path: Path) -> None:
    data = b"one\n" + os.urandom(1 << 20) * 8
    (tmp_path / "a").write_bytes(data)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/a"
            assert storage.size(url) == len(data)
            with storage.open_read(url) as stream:
                assert stream.readline() == b"one\n"
                assert stream.read() == data[4:]
                stream.seek(-5, os.SEEK_END)
                assert stream.read() == data[-5:]
            with storage.open_read(url) as stream:
                stream.seek(7 << 20)
                assert stream.read() == data[7 << 20 :]
            assert storage.read_bytes(url) == data
            with pytest.raises(InputError, match="no file or folder"):
                storage.read_bytes(f"{url}.not")
        finally:
            server.shutdown()
            thread.join()
