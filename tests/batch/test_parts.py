"""The folder of parts: what is in one is done, none is half, nothing is there twice, whatever happens to the process or the storage."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glyph_pipeline import storage
from glyph_pipeline.answer import Answer
from glyph_pipeline.batch import BatchResult, PartStore, ResultStore, open_results, places_of
from glyph_pipeline.batch.partformats import COLUMNS, FORMATS
from glyph_pipeline.errors import InputError, OutputError, UsageError
from tests.support.processes import wait_for
from tests.support.s3 import new_bucket, s3_server

IDS = ["a", "Zürich 中文 😀", "stray \udce9 byte", "tab\t, line\nand\r\\n and \\udce9", 'quote " and \\']


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["local", "file", "s3"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of an output, of each kind."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"{new_bucket()}/deep/out/"
    return f"{'file://' if request.param == 'file' else ''}{tmp_path}/deep/out/"


@pytest.fixture(params=["jsonl", "parquet", "text"])
def format(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def record(id: str, status: str = "ok", **more: Any) -> dict[str, Any]:
    if status == "failed":
        return {"id": id, "status": status, "error": {"type": "InputError", "message": f"No\t{id}", "hint": None}, **more}
    return {"id": id, "status": status, "answer": f"Answer to\n{id}", "truncated": status == "truncated", "error": None, **more}


def parts(out: str) -> list[str]:
    return [name for name, _ in storage.list_files(out)] if storage.exists(out) else []


def data(out: str) -> list[bytes]:
    return [storage.read_bytes(storage.join(out, name)) for name in parts(out)]


def statuses(out: str, format: str) -> dict[str, str]:
    with PartStore(out, format=format) as store:
        return dict(store.done)


# -- what is written -------------------------------------------------------------------------------------------------------------


def test_records_come_back(out: str, format: str) -> None:
    given = dict(zip(IDS, ["ok", "truncated", "failed", "ok", "failed"], strict=True))
    with PartStore(out, format=format, records=2) as store:
        assert dict(store.done) == {}
        for id, status in given.items():
            store.add(record(id, status))
        assert len(parts(out)) == 2
    assert len(parts(out)) == 3
    before = data(out)
    with PartStore(out, format=format, records=2) as store:
        assert dict(store.done) == given
        assert store.notices == []
        for id in given:
            with pytest.raises(ValueError, match="already"):
                store.add(record(id))
        store.add(record("new"))
        with pytest.raises(ValueError, match="already"):
            store.add(record("new"))
    assert data(out)[:3] == before  # a part is never changed
    assert [name.partition("-")[2][:6] for name in parts(out)] == ["000001", "000002", "000003", "000004"]
    assert list(statuses(out, format)) == [*IDS, "new"]


def test_the_formats(tmp_path: Path) -> None:
    more = {"question": "Q", "usage": {"prompt_tokens": 1}, "drawn_before": 2, "metadata": {"k": ["\udce9"]}, "windows": []}
    for format in FORMATS:
        with PartStore(tmp_path / format, format=format) as store:
            store.add(record("a\tb", **more))
            store.add(record("c", "failed", metadata={}))
    (part,) = parts(f"{tmp_path}/jsonl")
    assert part.endswith(".jsonl")
    as_lines = [json.loads(line) for line in (tmp_path / "jsonl" / part).read_text("utf-8").splitlines()]
    assert as_lines == [record("a\tb", **more), record("c", "failed", metadata={})]
    (part,) = parts(f"{tmp_path}/text")
    assert part.endswith(".txt")
    assert (tmp_path / "text" / part).read_text() == "a\\tb\tok\tAnswer to\\na\\tb\nc\tfailed\tNo\\tc\n"
    (part,) = parts(f"{tmp_path}/parquet")
    table = pq.read_table(tmp_path / "parquet" / part)
    assert tuple(table.schema.names) == COLUMNS
    kinds = {field.name: field.type for field in table.schema}
    assert kinds.pop("truncated") == pa.bool_()
    assert kinds.pop("drawn_before") == pa.int64()
    assert set(kinds.values()) == {pa.string()}
    good, bad = table.to_pylist()
    assert {key: value for key, value in good.items() if value is not None} == {
        "id": "a\tb",
        "status": "ok",
        "question": "Q",
        "answer": "Answer to\na\tb",
        "truncated": False,
        "usage": '{"prompt_tokens": 1}',
        "drawn_before": 2,
        "metadata": '{"k": ["\\udce9"]}',
        "windows": "[]",
    }
    assert [key for key, value in bad.items() if value is not None] == ["id", "status", "error", "metadata"]


def test_the_columns_are_the_keys_of_a_result() -> None:
    failed = BatchResult("a", "Q", None, InputError("bad"), 1.0).to_dict()
    answered = ({field.name for field in dataclasses.fields(Answer)} - {"text"}) | {"answer", "truncated"}
    assert set(COLUMNS) == set(failed) | answered


@pytest.mark.parametrize(
    ("bad", "formats"),
    [
        ({}, "jsonl parquet text"),
        ({"id": 1, "status": "ok"}, "jsonl parquet text"),
        ({"id": "a", "status": "done"}, "jsonl parquet text"),
        ({"id": "a", "status": "ok", "metadata": {"x": float("nan")}}, "jsonl parquet text"),
        ({"id": "\ud83d\ude00", "status": "ok"}, "jsonl parquet text"),
        ({"id": "a", "status": "ok", "unheard of": 1}, "parquet"),
        ({"id": "a", "status": "ok", "answer": ["a"]}, "parquet"),
        ({"id": "a", "status": "ok", "truncated": "no"}, "parquet"),
    ],
)
def test_what_is_no_record(tmp_path: Path, bad: dict[str, Any], formats: str) -> None:
    for format in formats.split():
        with PartStore(tmp_path / format, format=format) as store, pytest.raises(ValueError, match=r"[Rr]ecord|surrogates|column|text"):
            store.add(bad)
        assert parts(f"{tmp_path}/{format}") == []
        with pytest.raises(ValueError, match="not open"):
            store.add(record("a"))


def test_when_a_part_is_written(tmp_path: Path) -> None:
    with PartStore(tmp_path / "records", records=3) as store:
        for number in range(7):
            store.add(record(str(number)))
            assert len(parts(f"{tmp_path}/records")) == (number + 1) // 3
    with PartStore(tmp_path / "bytes", bytes=10_000) as store:
        for number in range(1, 5):
            store.add(record(str(number), metadata={"x": "x" * 4000}))
            assert len(parts(f"{tmp_path}/bytes")) == number // 3
    with PartStore(tmp_path / "seconds", seconds=0.05) as store:
        for number in range(1, 4):
            store.add(record(str(number)))
            wait_for(lambda count=number: len(parts(f"{tmp_path}/seconds")) == count, "a part", 60)  # type: ignore[misc]
    assert len(statuses(f"{tmp_path}/seconds", "jsonl")) == 3


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_an_error_writes_what_there_is(out: str, error: BaseException) -> None:
    def run() -> None:
        with PartStore(out) as store:
            store.add(record("a"))
            raise error

    with pytest.raises(type(error)):
        run()
    assert statuses(out, "jsonl") == {"a": "ok"}


def test_nothing_is_written_for_nothing(out: str, format: str) -> None:
    for _ in range(2):
        with PartStore(out, format=format):
            pass
    assert parts(out) == []


def test_many_threads(tmp_path: Path) -> None:
    with PartStore(tmp_path / "out", records=7, seconds=0.01) as store:
        threads = [threading.Thread(target=lambda n=n: [store.add(record(f"{n}/{k}")) for k in range(40)]) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(statuses(f"{tmp_path}/out", "jsonl")) == {f"{n}/{k}" for n in range(6) for k in range(40)}
    assert not [thread for thread in threading.enumerate() if thread.name == "glyph-parts"]


def test_failed_ones_can_be_done_again(out: str, format: str) -> None:
    with PartStore(out, format=format, records=3) as store:
        for id, status in {"a": "failed", "b \udce9": "ok", "c \udce8": "failed", "d": "failed", "e": "failed", "f": "failed"}.items():
            store.add(record(id, status))
        for id in "ghi":
            store.add(record(id, "truncated"))
    first, _, third = parts(out)
    before = data(out)
    with PartStore(out, format=format) as store:
        assert len(store.done) == 9
    assert data(out) == before
    with PartStore(out, format=format, retry_failed=True) as store:
        assert list(store.done) == ["b \udce9", "g", "h", "i"]
        assert parts(out) == [first, third]  # one with nothing left in it is gone
        assert data(out)[1] == before[2]
        store.add(record("a"))
    assert statuses(out, format) == {"b \udce9": "ok", "g": "truncated", "h": "truncated", "i": "truncated", "a": "ok"}


# -- what is found ---------------------------------------------------------------------------------------------------------------

RECORD = b'{"id": "a", "status": "ok"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", b"hello", "'notes.txt' in it is no part"),
        ("part-000001-0123456789.jsonl", RECORD, "is no part"),
        ("sub/part-000001-01234567.jsonl", RECORD, "is no part"),
        ("part-000001-01234567.csv", RECORD, "is no part"),
        ("part-000001-01234567.jsonl", RECORD + b"oops\n", "line 2 is no result: it is not JSON"),
        ("part-000001-01234567.jsonl", RECORD[:-1], "line 1 is no result: it has no end"),
        ("part-000001-01234567.jsonl", b'{"id": 1}\n', "line 1 is no result: it has no 'id'"),
        ("part-000001-01234567.txt", b"a\tok\n", "line 1 is no result: it is not an id"),
        ("part-000001-01234567.txt", b"a\tfine\tb\n", "its status is none of"),
        ("part-000001-01234567.txt", b"\xff\tok\tb\n", "line 1 is no result"),
        ("part-000001-01234567.parquet", b"PAR1 no parquet PAR1", "can't be read as Parquet"),
    ],
)
def test_what_is_no_part_is_left_as_it_is(out: str, name: str, content: bytes, message: str) -> None:
    storage.write_whole(storage.join(out, name), content)
    format = {"txt": "text", "parquet": "parquet"}.get(name.rpartition(".")[2], "jsonl")
    format = "jsonl" if name == "notes.txt" else format
    for retry in (False, True):
        with pytest.raises(OutputError, match=rf"(?s){message}.*Nothing was changed.*--output"):
            PartStore(out, format=format, retry_failed=retry).__enter__()
    assert [found for found, _ in storage.list_files(out) if not found.startswith(".")] == [name]
    assert data(out) == [content]


def test_parquet_of_something_else(tmp_path: Path) -> None:
    for message, columns in {
        "it has no column 'id'": {"x": ["a"]},
        "row 1 is no result: its 'id' is 'a', its 'status' 'fine'": {"id": ["a"], "status": ["fine"]},
        "row 1 is no result: its 'id' is 1": {"id": [1], "status": ["ok"]},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / "part-000001-01234567.parquet")
        with pytest.raises(OutputError, match=message):
            PartStore(tmp_path, format="parquet").__enter__()


def test_a_part_with_a_damaged_page(tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    with PartStore(out, format="parquet") as store:
        for number in range(3000):
            store.add(record(f"{number} {'x' * 20}"))
    (part,) = out.iterdir()
    data = bytearray(part.read_bytes())
    at = pq.read_metadata(part).row_group(0).column(0).data_page_offset
    data[at : at + 30] = b"\xff" * 30
    part.write_bytes(data)
    with pytest.raises(OutputError, match=rf"'{part.name}' in it is none of its parts: it can't be read as Parquet"):
        PartStore(out, format="parquet").__enter__()


def test_an_escape_that_is_none(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "part-000001-00000000.txt").write_bytes(b"a\\qb\tok\tx\n")
    with pytest.raises(OutputError, match="which is no escape"):
        PartStore(out, format="text").__enter__()


def test_unfinished_files_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    for name in ("pages.json", ".glyph-abc"):
        (tmp_path / name).write_text("theirs")
    with pytest.raises(OutputError, match="Nothing was changed"):
        PartStore(tmp_path).__enter__()
    assert (tmp_path / ".glyph-abc").read_text() == "theirs"


def test_parts_of_another_format(out: str) -> None:
    with PartStore(out, format="parquet") as store:
        store.add(record("a"))
    with pytest.raises(OutputError, match=r"holds parts of the format 'parquet', not 'text'.*--output-format parquet"):
        PartStore(out, format="text").__enter__()


def test_one_id_twice(out: str, format: str) -> None:
    with PartStore(out, format=format, records=2) as store:
        for id in "abcd":
            store.add(record(id, "failed"))
    _, second = parts(out)
    copy = second.replace("part-000002", "part-000007")
    storage.write_whole(storage.join(out, copy), storage.read_bytes(storage.join(out, second)))
    before = data(out)
    for retry in (False, True):
        with pytest.raises(OutputError, match=rf"'c' has a result in '{second}' and in '{copy}'.*Remove one"):
            PartStore(out, format=format, retry_failed=retry).__enter__()
    assert data(out) == before
    storage.remove(storage.join(out, second))
    assert list(statuses(out, format)) == ["a", "b", "c", "d"]


def test_places_that_cannot_be(tmp_path: Path, s3: str) -> None:
    (tmp_path / "file").write_text("x")
    for place, message in {
        "-": "standard output",
        f"{tmp_path}/file/": "can't be written: File exists",
        f"file://{tmp_path}/file/": "can't be (written|read)",
        f"{tmp_path}/file/below/": "can't be written: Not a directory",
        "s3://no-such-bucket/out": r"'s3://no-such-bucket/out.*' can't be written.*Make the bucket",
        "gs://bucket/out": "pip install 'gcsfs'",
        "https://127.0.0.1/out": "web address",
    }.items():
        with pytest.raises(OutputError, match=message):
            PartStore(place).__enter__()
    assert (tmp_path / "file").read_text() == "x"


# -- one at a time, and how a process ends -----------------------------------------------------------------------------------------


def test_one_run_at_a_time_in_a_local_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with PartStore(out) as store:
        store.add(record("a"))
        with pytest.raises(OutputError, match=rf"Another run \(process {os.getpid()}\) is writing '{out}'.*Wait"):
            PartStore(out).__enter__()
    (out / "notes").write_text("x")
    with pytest.raises(OutputError, match="no part"):  # one that is refused lets the lock go
        PartStore(out).__enter__()
    (out / "notes").unlink()
    assert statuses(str(out), "jsonl") == {"a": "ok"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.lock"]


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_another_run_at_a_url_is_told_of(tmp_path: Path, s3: str, kind: str) -> None:
    out = f"file://{tmp_path}/out" if kind == "file" else f"{new_bucket()}/out"

    def both() -> None:
        with PartStore(out) as ours:
            ours.add(record("a"))
            with PartStore(out) as theirs:
                theirs.add(record("b"))

    with pytest.raises(OutputError, match=r"Another run is writing '.*out': 'part-000001-.*' is none of ours"):
        both()
    assert statuses(out, "jsonl") == {"a": "ok", "b": "ok"}  # and nothing is lost


def run(out: str, format: str, wait: str) -> subprocess.Popen[str]:
    program = f"""
import itertools, os, signal, sys, time
from glyph_pipeline.batch.parts import PartStore
signal.signal(signal.SIGINT, signal.default_int_handler)
with PartStore(sys.argv[1], format={format!r}, records=7, seconds=0.05) as store:
    for number in itertools.count():
        id = f"item {{number}}"
        if id not in store.done:
            store.add({{"id": id, "status": "ok", "answer": "x" * (number * 7919 % 20000)}})
            print(id, flush=True)
            {wait}
"""
    return subprocess.Popen([sys.executable, "-c", program, out], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_killed_again_and_again(tmp_path: Path, format: str) -> None:
    out = f"{tmp_path}/out"
    done: dict[str, str] = {}
    for wanted in (1, 20, 65, 3, 150):
        child = run(out, format, "")
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(wanted)]
        child.send_signal(signal.SIGKILL)
        told += child.communicate()[0].split("\n")[:-1]
        after = statuses(out, format)  # which refuses half a part, and an id that is there twice
        assert list(after)[: len(done)] == list(done)
        assert len(set(told) - set(after)) <= 7  # the part that was not written
        assert not set(told) & set(done)  # what was done is not done again
        done = after
    assert list(done) == [f"item {number}" for number in range(len(done))]
    assert len(done) > 100
    assert not [name for name in parts(out) if name.startswith(".")]  # nor is anything left of a part that broke off


def test_killed_at_a_url(s3: str) -> None:
    out = f"{new_bucket()}/out"
    done: set[str] = set()
    for wanted in (10, 30):
        child = run(out, "parquet", "")
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(wanted)]
        child.send_signal(signal.SIGKILL)
        told += child.communicate()[0].split("\n")[:-1]
        after = set(statuses(out, "parquet"))
        assert done <= after
        assert len(set(told) - after) <= 7
        done = after


def test_interrupted(out: str, format: str) -> None:
    child = run(out, format, "time.sleep(0.001)")
    assert child.stdout is not None
    told = [child.stdout.readline().strip() for _ in range(25)]
    child.send_signal(signal.SIGINT)
    told += child.communicate(timeout=60)[0].split("\n")[:-1]
    assert set(told) <= set(statuses(out, format))


def test_a_part_that_arrives_while_others_are_read_is_another_runs(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was interrupted puts its last part; what is in it is not known to the one that was just begun."""
    out = f"{new_bucket()}/out"
    with PartStore(out) as store:
        store.add(record("a"))
    read = PartStore._read

    def meanwhile(self: PartStore, names: Any) -> Any:
        storage.write_whole(storage.join(out, "part-000002-0123abcd.jsonl"), json.dumps(record("b")).encode() + b"\n")
        return read(self, names)

    monkeypatch.setattr(PartStore, "_read", meanwhile)
    store = PartStore(out, records=1).__enter__()
    assert dict(store.done) == {"a": "ok"}
    with pytest.raises(OutputError, match="Another run is writing"):
        store.add(record("b"))
    with contextlib.suppress(OutputError):
        store.__exit__(None, None, None)


# -- when the storage fails ------------------------------------------------------------------------------------------------------


def test_what_could_not_be_put_is_put_later(s3: str) -> None:
    from s3fs import S3FileSystem

    bucket = new_bucket()
    with PartStore(f"{bucket}/out", records=2) as store:
        store.add(record("a"))
        S3FileSystem().rmdir(bucket.removeprefix("s3://"))
        with pytest.raises(
            OutputError, match=r"part-000001-.*' can't be written: .* 2 results are not written.*run the same command again"
        ):
            store.add(record("b"))
        store.add(record("c"))
        S3FileSystem().mkdir(bucket.removeprefix("s3://"))
    assert statuses(f"{bucket}/out", "jsonl") == {"a": "ok", "b": "ok", "c": "ok"}


def test_what_the_timer_could_not_write_is_told_at_the_next_record(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with PartStore(out, seconds=0.02) as store:
        shutil.rmtree(out)
        out.write_text("a file in its place")
        deadline = time.monotonic() + 60

        def add_many() -> None:
            for number in range(1_000_000):
                assert time.monotonic() < deadline
                store.add(record(str(number)))

        with pytest.raises(OutputError, match=r"can't be written: .* results are not written"):
            add_many()
        out.unlink()
        store.add(record("last"))
    found = list(statuses(str(out), "jsonl"))
    assert found == [*map(str, range(len(found) - 1)), "last"]


def test_what_cannot_be_written_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = PartStore(out).__enter__()
    store.add(record("a"))
    shutil.rmtree(out)
    out.write_text("a file in its place")
    with pytest.raises(OutputError, match=r"1 results are not written"):
        store.__exit__(None, None, None)
    out.unlink()
    store = PartStore(out)

    def fails() -> None:
        with store:
            store.add(record("a"))
            shutil.rmtree(out)
            out.write_text("a file in its place")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # what ended the run is told first
        fails()
    assert "1 results are not written" in store.notices[0]


def test_ctrl_c_while_a_part_is_put_does_not_put_it_twice(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write, interrupted = storage.write_whole, []

    def interrupt(place: str, data: bytes) -> None:
        write(place, data)
        if not interrupted and "part-" in place:
            interrupted.append(place)
            raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_whole", interrupt)

    def fails() -> None:
        with PartStore(out, records=2) as store:
            store.add(record("a"))
            store.add(record("b"))

    with pytest.raises(KeyboardInterrupt):
        fails()
    assert len(parts(out)) == 1
    assert statuses(out, "jsonl") == {"a": "ok", "b": "ok"}


def test_parts_that_are_removed_while_it_runs(out: str) -> None:
    with PartStore(out, records=1) as store:
        store.add(record("a"))
    (part,) = parts(out)

    def removing() -> None:
        with PartStore(out, records=1) as store:
            store.add(record("b"))
            storage.remove(storage.join(out, part))

    with pytest.raises(OutputError, match=rf"1 parts of .* were removed while the batch ran, '{part}' among them"):
        removing()
    assert statuses(out, "jsonl") == {"b": "ok"}


# -- which output ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "format", "parts_in"),
    [
        ("out.jsonl", None, None),
        ("out", None, None),
        ("out.jsonl", "jsonl", None),
        ("out/", None, "jsonl"),
        ("out/", "text", "text"),
        ("out", "parquet", "parquet"),
        ("out.jsonl", "text", "text"),
        ("out.parquet", None, "parquet"),
        ("out.PARQUET/", None, "parquet"),
        ("out.parquet", "jsonl", "jsonl"),
        ("file://{}/out.jsonl", None, "jsonl"),
        ("file://{}/out.parquet", None, "parquet"),
        ("file://{}/out.parquet", "text", "text"),
    ],
)
def test_what_an_output_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, format: str | None, parts_in: str | None) -> None:
    monkeypatch.chdir(tmp_path)
    output = output.format(tmp_path)
    with open_results(output, format=format) as store:
        monkeypatch.chdir("/")  # and nothing follows the process
        store.add(record("a"))
        store.add(record("b", "failed"))
    monkeypatch.chdir(tmp_path)
    assert isinstance(store, ResultStore) == (parts_in is None)
    place = storage.join(str(tmp_path), output.removeprefix("file://"))
    if parts_in is not None:
        assert [storage.suffix(name) for name in parts(place)] == [FORMATS[parts_in].suffix]
    with open_results(output, format=format, retry_failed=True) as store:
        assert dict(store.done) == {"a": "ok"}
    if not storage.is_url(output):
        assert sorted(map(str, places_of(output))) == sorted(map(str, tmp_path.iterdir()))


def test_formats_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no format 'csv' of results. Formats: jsonl, parquet, text"):
        open_results(tmp_path / "out", format="csv")
