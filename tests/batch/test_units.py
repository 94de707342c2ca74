"""Units: what a cluster hands out. Together they are the input, wherever each is read and however it is divided."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glyph_pipeline import Document
from glyph_pipeline.batch import BadItem, BatchItem, DocumentFile, Unit, read_items, units_of
from glyph_pipeline.errors import InputError

ALL = 1 << 60


def sent(units: Iterable[Unit]) -> list[Unit]:
    """The units as another process gets them."""
    return [pickle.loads(pickle.dumps(unit)) for unit in units]


def told(items: Iterable[BatchItem | BadItem]) -> list[Any]:
    return [(item.id, type(item.error), str(item.error)) if isinstance(item, BadItem) else item for item in items]


def lines(folder: Path, *objects: Any) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in objects))
    return path


def rows(path: Path, columns: dict[str, Any], rows_per_group: int = 100) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return path


# -- whatever is in it -----------------------------------------------------------------------------------------------------------

names = st.text("abc1 é\u2028", min_size=1, max_size=4) | st.none()
texts = st.text("xyz \n\u4e2d", max_size=40) | st.none()
fields = st.fixed_dictionaries(
    {},
    optional={
        "id": names,
        "text": texts,
        "path": st.sampled_from(["a.txt", "b/c.txt"]) | st.none(),
        "question": st.sampled_from(["When?", " ", "Où?"]) | st.none(),
        "metadata": st.dictionaries(st.sampled_from("kl"), st.integers(0, 9) | st.text("m", max_size=3), max_size=2) | st.none(),
    },
)
limits = st.tuples(st.integers(1, 6), st.integers(1, 300))


def ids_once(given: list[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: set[Any] = set()
    return [each for each in given if each.get("id") is None or not (each["id"] in seen or seen.add(each["id"]))]


def check(source: Path, bounds: tuple[int, int], **options: Any) -> None:
    items = read_items(source, **options)
    units = sent(items.units(lambda id: True, max_items=bounds[0], max_bytes=bounds[1]))
    assert told(item for unit in units for item in unit.load()) == told(items)
    assert [id for unit in units for id in unit.ids] == list(items.ids)
    for unit in units:
        assert 1 <= len(unit.ids) <= bounds[0]
        assert unit.size <= bounds[1] or len(unit.ids) == 1
    odd = set(list(items.ids)[::2])
    some = sent(items.units(odd.__contains__, max_items=bounds[0], max_bytes=bounds[1]))
    backwards = [list(unit.load()) for unit in reversed(some)]
    assert told(item for found in reversed(backwards) for item in found) == told(item for item in items if item.id in odd)
    for unit in units:
        last = unit.only({unit.ids[0], unit.ids[-1], "of another unit"})
        assert last.ids == tuple(dict.fromkeys((unit.ids[0], unit.ids[-1])))
        assert told(last.load()) == told(item for item in items if item.id in last.ids)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given=st.lists(fields | st.sampled_from([b"", b" \r", b"oops", b'{"id": "x", "text": 1}', b"\xff"]), min_size=1, max_size=12),
    bounds=limits,
    questions=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    ended=st.booleans(),
)
def test_lines_divided_are_the_lines(
    tmp_path: Path, given: list[Any], bounds: tuple[int, int], questions: bool, mark: bytes, ended: bool
) -> None:
    objects = ids_once([{"id": "first", "text": "one"}, *(each for each in given if isinstance(each, dict))])
    bad = {each for each in given if isinstance(each, bytes)}
    path = lines(tmp_path, *objects, *sorted(bad))
    path.write_bytes(mark + (path.read_bytes() if ended else path.read_bytes()[:-1]))
    check(path, bounds, question="Q", questions=questions)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given=st.lists(st.lists(fields, min_size=1, max_size=9), min_size=1, max_size=3),
    per_group=st.integers(1, 5),
    bounds=limits,
    questions=st.booleans(),
)
def test_rows_divided_are_the_rows(
    tmp_path: Path, given: list[list[dict[str, Any]]], per_group: int, bounds: tuple[int, int], questions: bool
) -> None:
    folder = tmp_path / "in.parquet"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    metadata = pa.map_(pa.string(), pa.string())
    schema = pa.schema([(key, pa.string()) for key in ("id", "text", "path", "question")] + [("metadata", metadata)])
    seen: set[str] = set()
    for number, file in enumerate(given):
        for row in file:
            row["metadata"] = None if row.get("metadata") is None else {key: str(value) for key, value in row["metadata"].items()}
            row["id"] = None if row.get("id") in seen else row.get("id")
            seen.add(row["id"] or "")
        pq.write_table(pa.Table.from_pylist(file, schema), folder / f"{number}.parquet", row_group_size=per_group)
    check(folder, bounds, question="Q", questions=questions)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=9), bounds=limits)
def test_files_divided_are_the_files(tmp_path: Path, sizes: list[int], bounds: tuple[int, int]) -> None:
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for number, size in enumerate(sizes):
        (folder / f"{number}.txt").write_bytes(b"x" * size)
    check(folder, bounds, question="Q")


# -- how it is divided -----------------------------------------------------------------------------------------------------------


def test_bounds_of_units(tmp_path: Path) -> None:
    path = lines(tmp_path, *({"id": str(number), "text": "x" * (5000 if number == 3 else 50)} for number in range(8)))
    items = read_items(path, question="Q")
    units = list(items.units(lambda id: id != "6", max_items=3, max_bytes=1000))
    assert [unit.ids for unit in units] == [("0", "1", "2"), ("3",), ("4", "5", "7")]
    assert [unit.size for unit in units] == [3 * 74, 5024, 3 * 74]
    assert [len(unit.ids) for unit in items.units(lambda id: True, max_items=100, max_bytes=ALL)] == [8]
    assert list(items.units(lambda id: False, max_items=1, max_bytes=1)) == []


def test_files_that_are_named_count(tmp_path: Path) -> None:
    (tmp_path / "large.txt").write_text("x" * 10_000)
    (tmp_path / "small.txt").write_text("x")
    paths = ["small.txt", "large.txt", "small.txt", "not there", "s3://not/looked/at"]
    as_lines = read_items(lines(tmp_path, *({"path": path} for path in paths)), question="Q")
    as_rows = read_items(rows(tmp_path / "in.parquet", {"path": paths}), question="Q")
    for items in (as_lines, as_rows):
        assert [len(unit.ids) for unit in items.units(lambda id: True, max_items=9, max_bytes=9000)] == [1, 1, 3]


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    size = 1 << 20
    path = lines(tmp_path, *({"text": str(number) * size} for number in range(9)))
    units = sent(read_items(path, question="Q").units(lambda id: True, max_items=1, max_bytes=ALL))
    tracemalloc.start()
    try:
        for number, unit in enumerate(units):
            (item,) = unit.load()
            assert isinstance(item, BatchItem)
            assert item.documents == (Document(str(number) * size, f"line {number + 1}"),)
        assert tracemalloc.get_traced_memory()[1] < 6 * size
    finally:
        tracemalloc.stop()


def test_a_row_group_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{number} " * 500 for number in range(3000)]
    path = rows(tmp_path / "in.parquet", {"text": texts}, rows_per_group=1000)
    units = sent(read_items(path, question="Q").units(lambda id: True, max_items=7, max_bytes=ALL))
    opened: list[object] = []
    file = pq.ParquetFile
    monkeypatch.setattr(pq, "ParquetFile", lambda *given, **options: opened.append(given) or file(*given, **options))
    found = [item.documents[0].text for unit in units for item in unit.load()]  # type: ignore[union-attr]
    assert found == texts
    assert len(opened) == 3


def test_a_text_that_is_repeated_is_held_once(tmp_path: Path) -> None:
    """Many questions about one document, as rows: Parquet stores it once, and so a row seems to be small."""
    text = "The weir at Tolvane. " * 5_000
    path = rows(tmp_path / "in.parquet", {"text": [text] * 4000, "question": [f"What is {n}?" for n in range(4000)]}, rows_per_group=4000)
    (unit,) = read_items(path).units(lambda id: True, max_items=4000, max_bytes=ALL)
    before = pa.total_allocated_bytes()
    most = 0
    for number, item in enumerate(unit.load()):
        assert isinstance(item, BatchItem)
        assert item.documents == (Document(text, f"in.parquet row {number + 1}"),)
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 20 * len(text)


def test_a_path_that_is_no_text_is_one_item_that_fails(tmp_path: Path) -> None:
    table = pa.table({"path": pa.array([b"a.txt", b"\xff"], pa.binary()).cast(pa.string(), safe=False), "text": [None, None]})
    pq.write_table(table, tmp_path / "in.parquet")
    check(tmp_path / "in.parquet", (9, 999), question="Q")


def test_a_question_column_is_not_read_for_drawing(tmp_path: Path) -> None:
    path = rows(tmp_path / "in.parquet", {"text": ["x"], "question": [""]})
    (bad,) = read_items(path)
    assert isinstance(bad, BadItem)
    (item,) = read_items(path, questions=False)
    assert item == BatchItem("in.parquet row 1", "", (Document("x", "in.parquet row 1"),))


def test_many_lines_are_remembered_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    with path.open("w") as stream:
        stream.writelines('{"text":"a"}\n' for _ in range(200_000))
    program = """
import resource, sys
from glyph_pipeline.batch import read_items
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
items = read_items(sys.argv[1], question="Q")
assert len(items) == 200_000 and items.ids[-1] == "line 200000"
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 30  # MiB: of a million that is 150


# -- elsewhere, and later --------------------------------------------------------------------------------------------------------


def test_relative_paths_do_not_follow_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("text")
    lines(tmp_path, {"path": "texts/a.txt"}, {"text": "text"})
    rows(tmp_path / "in.parquet", {"path": ["texts/a.txt"]})
    monkeypatch.chdir(tmp_path)
    plain = [BatchItem("a", "Q", (Path("texts/a.txt"), DocumentFile(Path("texts/a.txt"), "b")))]
    sources = [read_items(name, question="Q") for name in ("in.jsonl", "in.parquet", "texts")]
    units = [unit for source in (*sources, plain) for unit in sent(units_of(source, lambda id: True, max_items=9, max_bytes=ALL))]
    monkeypatch.chdir("/")
    loaded = [[document.text for document in item.load()] for unit in units for item in unit.load() if isinstance(item, BatchItem)]
    assert loaded == [["text"], ["text"], ["text"], ["text"], ["text", "text"]]


def test_a_unit_is_read_in_another_process(tmp_path: Path) -> None:
    sources = [lines(tmp_path, {"id": "a", "text": "x"}, b"oops"), rows(tmp_path / "in.parquet", {"text": ["y", ""]})]
    units = [unit for source in sources for unit in read_items(source, question="Q").units(lambda id: True, max_items=9, max_bytes=ALL)]
    program = (
        "import pickle, sys; units = pickle.load(sys.stdin.buffer); print([[type(i).__name__ + i.id for i in u.load()] for u in units])"
    )
    done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(units), capture_output=True, check=True, cwd="/")
    assert eval(done.stdout) == [["BatchItema", "BadItemline 2"], ["BatchItemin.parquet row 1", "BadItemin.parquet row 2"]]


def test_plain_items(tmp_path: Path) -> None:
    items: list[BatchItem | BadItem] = [
        BatchItem("a", "Q", (Document("x" * 50),)),
        BadItem("b", InputError("bad")),
        BatchItem("c", "Q", (Document("\u4e2d" * 20),), metadata={"k": 1}),
        BatchItem("d", "Q", (Document("x"), tmp_path / "not there")),
    ]
    units = sent(units_of(iter(items), lambda id: True, max_items=9, max_bytes=60))
    assert [(unit.ids, unit.size) for unit in units] == [(("a", "b"), 50), (("c",), 60), (("d",), 1)]
    assert told(item for unit in units for item in unit.load()) == told(items)
    assert [unit.ids for unit in units_of(items, {"a", "d"}.__contains__, max_items=1, max_bytes=ALL)] == [("a",), ("d",)]


def test_plain_items_are_taken_as_they_are_needed() -> None:
    taken: list[str] = []

    def source() -> Iterator[BatchItem]:
        for number in range(100):
            taken.append(str(number))
            yield BatchItem(str(number), "Q", (Document("x"),))

    units = units_of(source(), lambda id: True, max_items=5, max_bytes=ALL)
    assert next(units).ids == ("0", "1", "2", "3", "4")
    assert len(taken) == 6


# -- when the input changes ------------------------------------------------------------------------------------------------------


def test_lines_that_moved_are_told(tmp_path: Path) -> None:
    path = lines(tmp_path, *({"id": str(number), "text": "x"} for number in range(4)))
    units = sent(read_items(path, question="Q").units(lambda id: True, max_items=9, max_bytes=ALL))
    lines(tmp_path, {"id": "0", "text": "y"}, {"id": "2", "text": "x"}, {"id": "longer", "text": "x"})
    (unit,) = units
    with pytest.raises(InputError, match=r"was changed while the batch ran\. Run the batch again"):
        list(unit.load())
    assert next(unit.load()).id == "0"


@pytest.mark.parametrize("kind", ["lines", "rows"])
@pytest.mark.parametrize("what", ["removed", "another", "empty"])
def test_an_input_that_goes_away_is_told(tmp_path: Path, kind: str, what: str) -> None:
    if kind == "lines":
        path = lines(tmp_path, *({"id": str(number), "text": "x"} for number in range(3)))
    else:
        path = rows(tmp_path / "in.parquet", {"id": ["0", "1", "2"], "text": ["x", "y", "z"]}, rows_per_group=2)
    items = read_items(path, question="Q")
    units = sent(items.units(lambda id: True, max_items=9, max_bytes=ALL))
    if what == "removed":
        path.unlink()
    elif what == "empty":
        path.write_bytes(b"")
    elif kind == "lines":
        lines(tmp_path, {"id": "0", "text": "x" * 100}, {"id": "3", "text": "x"})
    else:
        rows(path, {"id": ["0", "1"], "text": ["x", "y"]})
    with pytest.raises(InputError) as caught:
        list(units[0].load())
    assert caught.value.hint
    assert "in." in caught.value.message
    with pytest.raises(InputError):
        list(items)


def test_rows_are_those_of_the_run_that_asks(tmp_path: Path) -> None:
    """A process that serves two runs must not answer the second from what the first left open."""
    kind = pa.map_(pa.string(), pa.string())  # of which the end of the file, where it says what it holds, tells least
    for text in ("one", "two"):
        path = rows(tmp_path / "in.parquet", {"text": ["x"] * 4, "metadata": pa.array([{"k": text}] * 4, kind)})
        units = sent(read_items(path, question="Q").units(lambda id: True, max_items=1, max_bytes=ALL))
        assert [item.metadata for unit in units[:3] for item in unit.load()] == [{"k": text}] * 3  # type: ignore[union-attr]


def test_no_more_than_a_few_files_stay_open(tmp_path: Path) -> None:
    folder = tmp_path / "in.parquet"
    folder.mkdir()
    for number in range(30):
        rows(folder / f"{number:02}.parquet", {"text": ["x", "y"]})
    before = len(list(Path("/proc/self/fd").iterdir()))
    for unit in read_items(folder, question="Q").units(lambda id: True, max_items=1, max_bytes=ALL):
        list(unit.load())
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 4
