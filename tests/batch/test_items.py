"""The items of a batch: what a folder and a JSON Lines file give, what is wrong with a line, and that texts are not held."""

from __future__ import annotations

import codecs
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from glyph_pipeline import Document
from glyph_pipeline.batch.items import BadItem, BatchItem, DocumentFile, read_items
from glyph_pipeline.batch.store import ResultStore, files_of
from glyph_pipeline.errors import BinaryDocumentError, EmptyDocumentError, EncodingError, InputError, UsageError


def lines(folder: Path, *objects: Any, name: str = "in.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in objects))
    return path


def item_of(folder: Path, line: Any, **options: Any) -> BatchItem:
    (item,) = read_items(lines(folder, line), **options)
    assert isinstance(item, BatchItem), item
    return item


# -- JSON Lines ------------------------------------------------------------------------------------------------------------------


def test_a_line_of_each_kind(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.txt").write_text("file a")
    (tmp_path / "b.txt").write_text("file b")
    metadata = {"tag": ["x", {"y": 1.5}]}
    path = lines(
        tmp_path,
        {"text": "one", "question": "Q1"},
        {"id": "two", "path": "./sub/a.txt", "metadata": metadata},
        {
            "id": "three",
            "documents": [{"text": "t"}, {"path": "b.txt", "metadata": {"k": 1}}, {"id": "n", "path": str(tmp_path / "b.txt")}],
        },
        {"id": "four", "documents": [{"text": "t"}]},
    )
    items = list(read_items(path, question="default"))
    assert all(isinstance(item, BatchItem) for item in items)
    one, two, three, four = (item for item in items if isinstance(item, BatchItem))
    assert (one.id, one.question, one.load()) == ("line 1", "Q1", [Document("one", "line 1")])
    assert (two.id, two.question, two.metadata, two.load()) == ("two", "default", metadata, [Document("file a", "./sub/a.txt")])
    assert three.load() == [Document("t", "document 1"), Document("file b", "b.txt", {"k": 1}), Document("file b", "n")]
    assert four.load() == [Document("t", "four")]


def test_reading_again_gives_the_same(tmp_path: Path) -> None:
    items = read_items(lines(tmp_path, {"id": "a", "text": "x"}, b"", b" \r", {"text": "y"}, b"oops"), question="Q")
    assert len(items) == 3
    assert list(items.ids) == ["a", "line 4", "line 5"]
    assert [item.id for item in items] == [item.id for item in items] == list(items.ids)


def test_byte_order_mark_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "IN.NDJSON"
    path.write_bytes(codecs.BOM_UTF8 + '{"text": "é\u2028x"}\r\n{"text": "b"}'.encode())
    assert [item.load()[0].text for item in read_items(path, question="Q") if isinstance(item, BatchItem)] == ["é\u2028x", "b"]
    for codec in ("utf-16", "utf-32", "utf-16-be"):
        path.write_bytes((codecs.BOM_UTF16_BE if codec == "utf-16-be" else b"") + '{"text": "a"}\n'.encode(codec))
        with pytest.raises(InputError, match=r"UTF-16 or UTF-32.*iconv"):
            read_items(path, question="Q")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"oops", r"is not JSON: Expecting value \(character 1\)"),
        (b'{"text": "a', "is not JSON: Unterminated string"),
        (b'{"text": "caf\xe9"}', "not valid UTF-8: byte 0xE9 at offset 13"),
        (b"[1]", "is a list, not an object"),
        (b"null", "is null, not an object"),
        (b'{"text": "a", "text": "b"}', "the key 'text' stands twice"),
        (b'{"text": "a", "metadata": {"x": NaN}}', "NaN"),
        (b'{"text": "a", "metadata": {"x": 1e999}}', "1e999 is too large"),
        (b'{"text": "a", "metadata": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"text": "a", "metadata": {"x": ' + b"[" * 100 + b"]" * 100 + b"}}", "'metadata' is nested too deeply"),
        ({"text": "a", "prompt": "b"}, "unknown key 'prompt'.*Allowed are 'id'"),
        ({"question": "b"}, "there is no text.*exactly one of"),
        ({"text": "a", "path": "b"}, "'text' and 'path' stand together.*exactly one of"),
        ({"text": 1}, "'text' is a number"),
        ({"text": True}, "'text' is true"),
        ({"text": " \u200b\n"}, "'text' is empty"),
        ({"path": ["a"]}, "'path' is a list"),
        ({"path": ""}, "'path' is empty"),
        ({"text": "a", "id": 7}, "'id' is a number.*It must be text"),
        ({"text": "a", "id": ""}, "'id' is empty"),
        ({"text": "a", "question": None}, "'question' is null"),
        ({"text": "a", "question": " "}, "'question' is empty"),
        ({"text": "a", "question": "why \ud83d?"}, r"'question' has half a character \(the surrogate U\+D83D\) at position 4"),
        ({"text": "a", "metadata": []}, "'metadata' is a list.*It must be an object"),
        ({"documents": []}, "'documents' is empty"),
        ({"documents": {"text": "a"}}, "'documents' is an object"),
        ({"documents": ["a"]}, "document 1 is text"),
        ({"documents": [{"text": "a"}, {}]}, "document 2 has neither"),
        ({"documents": [{"text": "a", "path": "b"}]}, "document 1 has both"),
        ({"documents": [{"text": "a", "question": "b"}]}, "document 1: unknown key 'question'"),
        ({"documents": [{"text": ""}]}, "document 1: 'text' is empty"),
        ({"documents": [{"text": "a", "metadata": 1}]}, "document 1: 'metadata' is a number"),
        ({"documents": [{"path": "a"}, {"text": "b"}, {"path": "a"}]}, "documents 1 and 3 have one id, 'a'"),
        ({"documents": [{"text": "b", "id": "document 2"}, {"text": "b"}]}, "documents 1 and 2 have one id"),
    ],
)
def test_a_line_that_cannot_be_used(tmp_path: Path, line: Any, message: str) -> None:
    good = {"id": "good", "text": "a"}
    items = list(read_items(lines(tmp_path, good, line, {**good, "id": "too"}), question="Q"))
    assert [item.id for item in items] == ["good", "line 2", "too"]
    bad = items[1]
    assert isinstance(bad, BadItem)
    with pytest.raises(InputError, match=rf"in\.jsonl', line 2(?s:.*){message}"):
        raise bad.error
    assert bad.error.hint


def test_a_bad_line_keeps_its_id(tmp_path: Path) -> None:
    (bad,) = read_items(lines(tmp_path, {"id": "mine", "text": "a"}))
    assert bad.id == "mine"
    assert isinstance(bad, BadItem)
    assert "there is no 'question'" in str(bad.error)


def test_one_id_twice(tmp_path: Path) -> None:
    for second in ({"id": "a", "text": "y"}, {"id": "a", "text": 1}):
        with pytest.raises(InputError, match="lines 1 and 3 have one id, 'a'"):
            read_items(lines(tmp_path, {"id": "a", "text": "x"}, {"text": "y"}, second), question="Q")
    with pytest.raises(InputError, match="lines 1 and 2 have one id, 'line 2'"):
        read_items(lines(tmp_path, {"id": "line 2", "text": "x"}, {"text": "y"}), question="Q")


def test_what_is_no_batch(tmp_path: Path) -> None:
    for data in (b"", b"\n \n", codecs.BOM_UTF8):
        with pytest.raises(InputError, match="empty"):
            read_items(lines(tmp_path, data))
    (tmp_path / "a.txt").write_text('{"text": "a"}')
    with pytest.raises(InputError, match="neither a folder nor JSON Lines"):
        read_items(tmp_path / "a.txt")
    with pytest.raises(UsageError, match="standard input"):
        read_items("-")
    with pytest.raises(InputError, match="no file or folder"):
        read_items(tmp_path / "nothing.jsonl")
    with pytest.raises(InputError, match="can't be read"):
        read_items("nul\0byte")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(InputError, match="is not a file"):
        read_items(tmp_path / "pipe.jsonl")
    good = lines(tmp_path, {"text": "a"})
    with pytest.raises(UsageError, match="question is empty"):
        read_items(good, question=" ")
    with pytest.raises(EncodingError, match="klingon"):
        read_items(good, encoding="klingon")


def test_an_input_that_changes_while_it_is_read(tmp_path: Path) -> None:
    one, two = {"id": "a", "text": "x"}, {"id": "b", "text": "y"}
    for later in ((one,), (one, two, {"text": "z"}), (two, one)):
        items = read_items(lines(tmp_path, one, two), question="Q")
        lines(tmp_path, *later)
        with pytest.raises(InputError, match="was changed while the batch ran"):
            list(items)
    (tmp_path / "in.jsonl").unlink()
    with pytest.raises(InputError, match="can't be read: No such file"):
        list(items)


def test_texts_are_not_held(tmp_path: Path) -> None:
    size = 1 << 20
    path = tmp_path / "in.jsonl"
    with path.open("w") as stream:
        for number in range(30):
            stream.write(json.dumps({"text": "x" * size} if number % 3 else {"text": "x" * size, "oops": 1}) + "\n")
    tracemalloc.start()
    try:
        items = read_items(path, question="Q")
        assert tracemalloc.get_traced_memory()[0] < size / 4
        errors = []
        for item in items:
            assert tracemalloc.get_traced_memory()[0] < size * 1.5  # the text of this item, and nothing else
            errors += [item.error] if isinstance(item, BadItem) else []
        del item
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(errors) == 10
    assert now < size / 4  # neither by the errors
    assert peak < 5 * size  # the line as bytes, as text, its text parsed, and the one before


# -- files -----------------------------------------------------------------------------------------------------------------------


def test_files_are_read_when_their_turn_comes(tmp_path: Path) -> None:
    item = item_of(tmp_path, {"path": "later.txt"}, question="Q")
    with pytest.raises(InputError, match=r"no file '.*later\.txt'"):
        item.load()
    (tmp_path / "later.txt").write_bytes("Zürich".encode("cp1252"))
    with pytest.raises(EncodingError, match="not valid utf-8"):
        item.load()
    assert item_of(tmp_path, {"path": "later.txt"}, question="Q", encoding="cp1252").load() == [Document("Zürich", "later.txt")]
    os.mkfifo(tmp_path / "pipe")
    for path, message in {"pipe": "is a pipe", ".": "is a folder", "nul\0byte": "can't be read", "\ud83d": "can't be read"}.items():
        with pytest.raises(InputError, match=message):
            item_of(tmp_path, {"path": path}, question="Q").load()


def test_a_file_named_as_standard_input_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("dash")
    (item,) = read_items(lines(Path(), {"path": "-"}), question="Q")
    assert isinstance(item, BatchItem)
    monkeypatch.chdir("/")  # and paths do not follow the process
    assert item.load() == [Document("dash", "-")]
    monkeypatch.chdir(tmp_path)
    assert BatchItem("a", "Q", (Path("-"), Document("text"))).load() == [Document("dash", "-"), Document("text")]


def test_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    for name in ("b.txt", "a/c.md", "a/.hidden", ".git/config", "B.txt", "a.b"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "image").write_bytes(b"\x89PNG\r\n")
    (folder / "empty").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "b.txt")
    (folder / "nowhere").symlink_to(folder / "nothing")
    (folder / "loop").symlink_to(folder)
    items = read_items(folder, question="Q")
    assert list(items.ids) == ["B.txt", "a.b", "a/c.md", "b.txt", "empty", "image", "link", "nowhere"]
    assert len(items) == 8
    loaded: dict[str, object] = {}
    for item in items:
        assert isinstance(item, BatchItem)
        assert item.question == "Q"
        try:
            loaded[item.id] = item.load()
        except InputError as e:
            loaded[item.id] = type(e)
    assert loaded.pop("link") == [Document("b.txt", "link")]
    assert [loaded.pop(name) for name in ("image", "empty", "nowhere")] == [BinaryDocumentError, EmptyDocumentError, InputError]
    assert loaded == {id: [Document(id, id)] for id in ("B.txt", "a.b", "a/c.md", "b.txt")}


def test_a_folder_needs_a_question_and_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"What shall be asked.*Give a question"):
        read_items(tmp_path)
    with pytest.raises(InputError, match="no file in the folder"):
        read_items(tmp_path, question="Q")


def test_the_batchs_own_output_is_no_item(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    out = tmp_path / "out.jsonl"
    with ResultStore(out) as store:
        store.add({"id": "a.txt", "status": "ok"})
        assert list(read_items(tmp_path, question="Q", leave_out=files_of(out)).ids) == ["a.txt"]


def test_ids_without_utf8_come_back_from_the_store(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    try:
        (folder / os.fsdecode(b"caf\xe9.txt")).write_text("text")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    (item,) = read_items(folder, question="Q")
    (other,) = read_items(lines(tmp_path, b'{"id": "half \\ud83d", "text": "a"}'), question="Q")
    assert (item.id, other.id) == ("caf\udce9.txt", "half \ud83d")
    assert isinstance(item, BatchItem)
    assert item.load()[0].text == "text"
    with ResultStore(tmp_path / "out.jsonl") as store:
        store.add({"id": item.id, "status": "ok"})
        store.add({"id": other.id, "status": "ok"})
    with ResultStore(tmp_path / "out.jsonl") as store:
        assert list(store.done) == [item.id, other.id]


def test_document_files_carry_what_the_line_says(tmp_path: Path) -> None:
    item = item_of(tmp_path, {"documents": [{"path": "a.txt", "id": "n", "metadata": {"k": 1}}]}, question="Q")
    assert item.documents == (DocumentFile(tmp_path / "a.txt", "n", {"k": 1}),)
