"""What a batch can read besides local lines and folders: Parquet, and everything at a URL; what is wrong with a row or a column."""

from __future__ import annotations

import datetime
import decimal
import functools
import http.server
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glyph_pipeline import Document, storage
from glyph_pipeline.batch import BadItem, BatchItem, DocumentFile, Items, open_results, places_of, read_items
from glyph_pipeline.errors import EmptyDocumentError, EncodingError, InputError, UsageError
from tests.support.s3 import new_bucket, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


@pytest.fixture(params=["local", "file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        request.getfixturevalue("s3")
        return f"{new_bucket()}/in"
    return f"{'file://' if request.param == 'file' else ''}{tmp_path}/in"


def put(folder: str, name: str, data: bytes | str | list[Any] | pa.Table) -> str:
    """Write a file of a folder, wherever that is: text, objects as lines, or a table; its place."""
    place = storage.join(folder, name)
    if isinstance(data, pa.Table):
        with storage.writing(place) as stream:
            pq.write_table(data, stream)
    elif isinstance(data, list):
        storage.write_whole(place, b"".join(json.dumps(each).encode() + b"\n" for each in data))
    else:
        storage.write_whole(place, data.encode() if isinstance(data, str) else data)
    return place


def good(items: Items) -> list[BatchItem]:
    found = list(items)
    assert all(isinstance(item, BatchItem) for item in found), found
    assert [item.id for item in found] == list(items.ids)
    return [item for item in found if isinstance(item, BatchItem)]


def rows(folder: str, **columns: Any) -> str:
    return put(folder, "in.parquet", pa.table(columns))


def error_of(folder: str, **columns: Any) -> str:
    (item,) = read_items(rows(folder, **columns), question="Q")
    assert isinstance(item, BadItem), item
    assert item.error.hint
    return str(item.error)


# -- places ----------------------------------------------------------------------------------------------------------------------


def test_lines_anywhere(folder: str) -> None:
    put(folder, "sub/a.txt", "file a")
    place = put(folder, "in.jsonl", [{"id": "one", "text": "t"}, {"path": "sub/a.txt"}, {"path": "../in/sub/a.txt", "question": "W?"}])
    items = read_items(place, question="Q")
    one, two, three = good(items)
    assert one == BatchItem("one", "Q", (Document("t", "one"),))
    assert two.load() == [Document("file a", "sub/a.txt")]
    assert (three.question, three.load()) == ("W?", [Document("file a", "../in/sub/a.txt")])
    storage.write_whole(place, b"\n")
    with pytest.raises(InputError, match="was changed while the batch ran"):
        list(items)
    storage.remove(place)
    with pytest.raises(InputError, match=r"No such file|no file or folder"):
        list(items)


def test_a_line_may_name_a_url(tmp_path: Path, s3: str) -> None:
    url = put(f"{new_bucket()}/texts", "a.html", "<p>Boats &amp; ferries</p>")
    place = put(str(tmp_path), "in.jsonl", [{"path": url, "metadata": {"k": 1}}, {"path": f"{url}.gone"}])
    one, gone = good(read_items(place, question="Q"))
    assert one.documents == (DocumentFile(url, url),)
    assert [(document.id, document.text.strip()) for document in one.load()] == [(url, "Boats & ferries")]  # converted, by its name
    with pytest.raises(InputError, match=r"no file or folder 's3://.*a\.html\.gone'"):
        gone.load()
    raw = put(str(tmp_path), "rows.jsonl", [{"path": put(f"{new_bucket()}", "latin.txt", "Zürich".encode("cp1252"))}])
    (latin,) = good(read_items(raw, question="Q", encoding="cp1252"))
    assert latin.load()[0].text == "Zürich"
    (utf8,) = good(read_items(raw, question="Q"))
    with pytest.raises(EncodingError, match=r"latin\.txt' is not valid utf-8"):
        utf8.load()


def test_a_folder_anywhere(folder: str) -> None:
    for name in ("b.txt", "a/c.md", "a/.hidden", ".git/config", "B [1].txt"):
        put(folder, name, f"text of {name}")
    put(folder, "empty", b"")
    for place in (folder, f"{folder}/"):
        items = read_items(place, question="Q")
        assert list(items.ids) == ["B [1].txt", "a/c.md", "b.txt", "empty"]
        *texts, empty = good(items)
        assert [item.load() for item in texts] == [[Document(f"text of {item.id}", item.id)] for item in texts]
        with pytest.raises(EmptyDocumentError):
            empty.load()
    with pytest.raises(UsageError, match="What shall be asked"):
        read_items(folder)


def test_rows_anywhere(folder: str) -> None:
    put(folder, "a.txt", "file a")
    place = rows(folder, path=["a.txt", None], text=[None, "t"], question=[None, "W?"])
    items = read_items(place, question="Q")
    one, two = good(items)
    assert (one.id, one.question, one.load()) == ("in.parquet row 1", "Q", [Document("file a", "a.txt")])
    assert (two.id, two.question, two.load()) == ("in.parquet row 2", "W?", [Document("t", "in.parquet row 2")])
    put(folder, "in.parquet", pa.table({"text": ["another"]}))
    with pytest.raises(InputError, match="was changed while the batch ran"):
        list(items)
    storage.remove(place)
    with pytest.raises(InputError, match=r"No such file|no file or folder"):
        list(items)


@pytest.mark.parametrize("name", ["in.parquet", "texts"])
def test_a_folder_of_parquet(folder: str, name: str) -> None:
    inner = storage.join(folder, name)
    put(inner, "b.parquet", pa.table({"id": ["x", None], "text": ["1", "2"]}))
    put(inner, "a/year=1/c.parquet", pa.table({"text": ["3"]}))
    put(inner, "_SUCCESS", b"")
    put(inner, ".b.parquet.crc", b"crc")
    items = read_items(inner, question="Q")
    assert list(items.ids) == ["a/year=1/c.parquet row 1", "x", "b.parquet row 2"]
    assert [item.load()[0].text for item in good(items)] == ["3", "1", "2"]
    units = list(items.units(lambda id: True, max_items=9, max_bytes=1 << 30))
    assert [item.id for unit in units for item in unit.load()] == list(items.ids)
    put(inner, "notes.txt", "text")
    if name == "in.parquet":
        with pytest.raises(InputError, match=r"The folder '.*in\.parquet' is not Parquet: 'notes\.txt'"):
            read_items(inner, question="Q")
    else:  # then all of them are items
        assert "notes.txt" in read_items(inner, question="Q").ids


def test_units_of_a_url_are_read_elsewhere(folder: str) -> None:
    put(folder, "texts/a.txt", "file a")
    sources = [
        put(folder, "in.jsonl", [{"id": "1", "text": "x"}, {"id": "2", "path": "texts/a.txt"}]),
        rows(folder, text=["x", None], path=[None, "texts/a.txt"]),
        storage.join(folder, "texts"),
    ]
    for source in sources:
        items = read_items(source, question="Q")
        units = list(items.units(lambda id: True, max_items=1, max_bytes=1 << 30))
        assert len(units) == len(items)
        assert [item for unit in units for item in unit.load()] == list(items)
        if storage.suffix(source) == ".jsonl":  # of Parquet the last row group is still open here
            storage.remove(source)
            with pytest.raises(InputError, match=r"(?i)no (such )?file or"):
                list(units[0].load())


def test_what_is_not_there(folder: str) -> None:
    put(folder, "a.txt", "text")
    for name in ("not.jsonl", "not.parquet", "not"):
        with pytest.raises(InputError, match=f"no file or folder '.*in/{name}'"):
            read_items(storage.join(folder, name), question="Q")
    with pytest.raises(InputError, match=r"neither a folder nor JSON Lines .* nor Parquet"):
        read_items(storage.join(folder, "a.txt"), question="Q")
    with pytest.raises(InputError, match=r"not\.parquet' can't be read as Parquet"):
        read_items(put(folder, "not.parquet", b"no parquet, but long enough"), question="Q")


def test_the_output_of_a_batch_in_its_input(folder: str) -> None:
    put(folder, "a.txt", "text")
    inside = f"{folder}/out/"
    with open_results(inside) as store:
        store.add({"id": "a.txt", "status": "ok"})
    assert list(read_items(folder, question="Q", leave_out=places_of(inside)).ids) == ["a.txt"]
    assert len(read_items(folder, question="Q")) > 1
    one = [storage.join(folder, name) for name, _ in storage.list_files(folder) if name.startswith("out")]
    assert list(read_items(folder, question="Q", leave_out=one).ids) == ["a.txt"]  # files, one by one


def test_one_input_by_two_names(tmp_path: Path) -> None:
    put(f"{tmp_path}/in", "a.txt", "text")
    put(f"{tmp_path}/in", "out/part.jsonl", "{}")
    for source, output in ((f"{tmp_path}/in", f"file://{tmp_path}/in/out"), (f"file://{tmp_path}/in", f"{tmp_path}/in/out/")):
        assert list(read_items(source, question="Q", leave_out=places_of(output)).ids) == ["a.txt"]


# -- drawing only ----------------------------------------------------------------------------------------------------------------


def test_nothing_is_asked_where_there_are_no_questions(tmp_path: Path) -> None:
    folder = str(tmp_path)
    put(folder, "texts/a.txt", "text")
    sources = [
        put(folder, "in.jsonl", [{"text": "x"}, {"text": "y", "question": None}]),
        rows(folder, text=["x", "y"], question=["", None]),
        f"{folder}/texts",
    ]
    for source in sources:
        assert {item.question for item in good(read_items(source, questions=False))} == {""}
        assert {item.question for item in good(read_items(source, questions=False, question=" "))} == {""}


# -- rows ------------------------------------------------------------------------------------------------------------------------


def test_cells_of_each_kind(tmp_path: Path) -> None:
    when = datetime.datetime(1932, 5, 1, tzinfo=datetime.timezone.utc)
    metadata = {"year": 1932, "tags": ["x"], "when": when, "price": decimal.Decimal("1.50"), "none": None}
    plain = {"year": 1932, "tags": ["x"], "when": "1932-05-01T00:00:00+00:00", "price": "1.50", "none": None}
    documents = [[{"text": "t", "id": None, "metadata": None}, {"text": "u", "id": "n", "metadata": '{"title": "T"}'}]]
    as_json = json.dumps([{"text": "t"}, {"text": "u", "id": "n", "metadata": {"title": "T"}}])
    both = (Document("t", "document 1"), Document("u", "n", {"title": "T"}))
    folder = str(tmp_path)
    cases: list[tuple[dict[str, Any], BatchItem]] = [
        ({"id": ["a"], "documents": documents}, BatchItem("a", "Q", both)),
        ({"id": ["a"], "documents": [as_json]}, BatchItem("a", "Q", both)),
        ({"id": ["a"], "text": ["t"], "metadata": [metadata]}, BatchItem("a", "Q", (Document("t", "a"),), metadata=plain)),
        ({"id": ["a"], "text": ["t"], "metadata": ['{"k": [1.5]}']}, BatchItem("a", "Q", (Document("t", "a"),), metadata={"k": [1.5]})),
        ({"id": ["a"], "text": ["t"], "metadata": [None], "documents": [None]}, BatchItem("a", "Q", (Document("t", "a"),))),
    ]
    for columns, item in cases:
        assert good(read_items(rows(folder, **columns), question="Q")) == [item]
    pairs = pa.array([[("k", "v")]], pa.map_(pa.string(), pa.string()))
    short = pa.array(["t"]).dictionary_encode()
    expected = BatchItem("a", "Q", (Document("t", "a"),), metadata={"k": "v"})
    assert good(read_items(rows(folder, id=pa.array(["a"], pa.large_string()), text=short, metadata=pairs), question="Q")) == [expected]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "path": ["b"]}, "'text' and 'path' stand together.*exactly one of"),
        ({"text": [None], "path": [None]}, "there is no text"),
        ({"text": [" "]}, "'text' is empty"),
        ({"text": ["a"], "id": [""]}, "'id' is empty"),
        ({"text": ["a"], "question": [" "]}, "'question' is empty"),
        ({"text": ["a"], "metadata": ["{"]}, "'metadata' is not JSON"),
        ({"text": ["a"], "metadata": ["[1]"]}, "'metadata' is a list"),
        ({"text": ["a"], "metadata": [{"x": float("nan")}]}, "'metadata' has no JSON: nan"),
        ({"text": ["a"], "metadata": [{"x": b"bytes"}]}, "'metadata' has no JSON: it holds values of type binary"),
        ({"text": ["a"], "metadata": pa.array([[(1, "v")]], pa.map_(pa.int64(), pa.string()))}, "keys of a map must be text"),
        ({"text": ["a"], "metadata": pa.array([[("k", "v"), ("k", "w")]], pa.map_(pa.string(), pa.string()))}, "each once"),
        ({"documents": [[{"text": "a", "path": "b"}]]}, "document 1 has both"),
        ({"documents": [[{"text": "a"}, None]]}, "document 2 is null"),
        ({"documents": [[{"text": "a", "oops": 1}]]}, "document 1: unknown key 'oops'"),
        ({"documents": ['{"text": "a"}']}, "'documents' is an object"),
        ({"documents": pa.array([[]], pa.list_(pa.struct([("text", pa.string())])))}, "'documents' is empty"),
        (
            {"text": pa.array([b"caf\xe9"], pa.binary()).view(pa.string())},
            "'text' is not valid UTF-8",
        ),
    ],
)
def test_a_row_that_cannot_be_used(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    told = error_of(str(tmp_path), **columns)
    assert "in.parquet', row 1" in told
    with pytest.raises(InputError, match=f"(?s){message}"):
        raise InputError(told)


def test_one_bad_row_leaves_the_others(tmp_path: Path) -> None:
    place = rows(str(tmp_path), id=["a", "b", "c"], text=["x", None, "z"], metadata=["{}", "{}", "oops"])
    found = list(read_items(place, question="Q"))
    assert [(item.id, type(item)) for item in found] == [("a", BatchItem), ("b", BadItem), ("c", BadItem)]
    assert [item.error.message.partition(", row")[2][:2] for item in found if isinstance(item, BadItem)] == [" 2", " 3"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"text": ["a"], "prompt": ["b"]}, r"in\.parquet': unknown column 'prompt'.*Allowed are 'id'"),
        ({"id": ["a"]}, "no column of texts.*one of 'text', 'path' and 'documents'"),
        ({"text": [1]}, "column 'text' is of type int64.*must be text"),
        ({"text": ["a"], "id": [7]}, "column 'id' is of type int64.*must be text"),
        ({"text": ["a"], "metadata": [["x"]]}, "column 'metadata' is of type list.*struct, a map or JSON"),
        ({"documents": [["a"]]}, "column 'documents' is of type list.*list of structs or JSON"),
        ({"text": pa.array([], pa.string())}, "has no rows"),
        ({"id": ["a", "b", "a"], "text": ["x", "y", "z"]}, "row 1 and '.*', row 3 have one id, 'a'"),
        ({"id": ["in.parquet row 2", None], "text": ["x", "y"]}, "row 1 and '.*', row 2 have one id"),
    ],
)
def test_columns_that_cannot_be_used(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"(?s){message}"):
        read_items(rows(str(tmp_path), **columns), question="Q")


def test_a_few_lines_of_a_url_are_a_few_bytes(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """s3fs fetches 50 MB ahead, unless it is told otherwise; there may be thousands of units."""
    import s3fs

    place = put(f"{new_bucket()}/in", "in.jsonl", [{"id": str(number), "text": "x" * 1000} for number in range(5000)])
    units = list(read_items(place, question="Q").units(lambda id: True, max_items=10, max_bytes=1 << 30))
    fetched: list[int] = []
    fetch = s3fs.S3File._fetch_range

    def counted(self: Any, start: int, end: int) -> Any:
        fetched.append(end - start)
        return fetch(self, start, end)

    monkeypatch.setattr(s3fs.S3File, "_fetch_range", counted)
    assert [item.id for item in units[100].load()] == [str(number) for number in range(1000, 1010)]
    assert 10_000 < sum(fetched) < 300_000


def test_a_signed_web_address_of_a_parquet_file(tmp_path: Path) -> None:
    """It is asked for with its signature, and told without."""
    asked: list[str] = []

    class Signed(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if "Signature=abc" not in self.path:
                self.send_error(403)
                return
            super().do_GET()

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    rows(str(tmp_path), id=["a"], text=["x"])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Signed, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/in.parquet"
            (item,) = read_items(f"{url}?X-Signature=abc", question="Q")
            assert item.id == "a"
            with pytest.raises(InputError) as told:
                DocumentFile(f"{url}?X-Signature=wrong", "x").read()
        finally:
            server.shutdown()
    assert "403" in told.value.message
    assert "wrong" not in str(told.value)


def test_a_pipe_by_its_url_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "in.jsonl")
    with pytest.raises(InputError, match="is a pipe"):
        read_items(f"file://{tmp_path}/in.jsonl", question="Q")
    with pytest.raises(InputError, match="is a pipe"):
        DocumentFile(f"file://{tmp_path}/in.jsonl", "x").read()


def test_an_archive_is_a_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("notes.txt", "file a")
        archive.writestr("sub/b.txt", "file b")
        archive.writestr("in.jsonl", json.dumps({"id": "1", "text": "x"}))
    inside = read_items(f"zip://::file://{tmp_path}/in.zip", question="Q")
    assert list(inside.ids) == ["in.jsonl", "notes.txt", "sub/b.txt"]
    assert [item.load()[0].text for item in good(inside)][1:] == ["file a", "file b"]
    (line,) = good(read_items(f"zip://in.jsonl::file://{tmp_path}/in.zip", question="Q"))
    assert line.load() == [Document("x", "1")]


def test_one_column_twice(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(InputError, match="'text' is there twice"):
        read_items(put(str(tmp_path), "in.parquet", table), question="Q")


def test_a_damaged_row_group_is_told(tmp_path: Path) -> None:
    place = Path(rows(str(tmp_path), id=["a", "b"], text=["x" * 3000, "y" * 3000]))
    items = read_items(place, question="Q")
    (unit,) = items.units(lambda id: True, max_items=9, max_bytes=1 << 30)
    data = bytearray(place.read_bytes())
    at = pq.read_metadata(place).row_group(0).column(1).data_page_offset
    data[at : at + 40] = b"\xff" * 40
    place.write_bytes(data)
    with pytest.raises(InputError, match=r"in\.parquet"):
        list(unit.load())
    with pytest.raises(InputError, match=r"in\.parquet"):
        list(items)


@pytest.mark.parametrize(("name", "package"), [("in.parquet", "pyarrow"), ("s3://b/in.jsonl", "fsspec")])
def test_packages_that_are_missing(tmp_path: Path, name: str, package: str) -> None:
    rows(str(tmp_path), text=["x"])
    program = f"""
import sys
sys.modules[{package!r}] = None
from glyph_pipeline.batch import read_items
from glyph_pipeline.errors import MissingExtraError
try:
    read_items({name!r}, question="Q")
except MissingExtraError as e:
    print(e)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert f"needs the extra 'data' (the package '{package}' is not installed)" in told
